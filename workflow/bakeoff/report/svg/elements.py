"""Inline SVG, the same bytes on every machine: elements, axes and the marks that tell participants apart.

Coordinates are rounded to a tenth of a unit. Colours are classes (`c0` … `c7`) that the style sheet sets for light,
dark and print; each participant also has a dash pattern and a marker of its own, so that no figure needs colour.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

COLOURS = 8
DASHES = ("", "7 3", "2 3", "9 3 2 3", "12 4", "5 2 1 2 1 2")
_LOG_STEPS = ((1.0,), (1.0, 2.0, 5.0), (1.0, 2.0, 3.0, 5.0, 7.0), (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0))
MARKERS = (
    *("circle", "square", "triangle", "diamond", "down", "plus", "cross", "ring"),
    *("open square", "open triangle", "open diamond", "open down", "bar"),
)


def coordinate(value: float) -> str:
    """A coordinate with at most one decimal: 12.0 -> "12", 3.14 -> "3.1"."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def element(name: str, content: object = "", /, **attributes: object) -> Markup:
    """One element. Underscores in attribute names become hyphens (`class_` is `class`); None leaves one out."""
    parts = [f"<{name}"]
    for key, value in attributes.items():
        if value is not None:
            text = coordinate(value) if isinstance(value, int | float) else str(value)
            parts.append(f' {key.rstrip("_").replace("_", "-")}="{escape(text)}"')
    inner = content if isinstance(content, Markup) else escape(content)
    return Markup("".join(parts) + (f">{inner}</{name}>" if inner else "/>"))


def path(points: Sequence[tuple[float, float]]) -> str:
    """Path data through `points`."""
    return "M" + "L".join(f"{coordinate(x)} {coordinate(y)}" for x, y in points)


_OUTLINES = {
    "square": ((-1, -1), (1, -1), (1, 1), (-1, 1)),
    "triangle": ((0, -1.2), (1.15, 0.9), (-1.15, 0.9)),
    "diamond": ((0, -1.35), (1.35, 0), (0, 1.35), (-1.35, 0)),
    "down": ((0, 1.2), (1.15, -0.9), (-1.15, -0.9)),
}
_STROKES = {
    "plus": (((-1, 0), (1, 0)), ((0, -1), (0, 1))),
    "cross": (((-0.8, -0.8), (0.8, 0.8)), ((-0.8, 0.8), (0.8, -0.8))),
    "bar": (((0, -1.2), (0, 1.2)),),
}
SIZE = 4.2


def definitions() -> Markup:
    """Every mark once, for the top of a page; drawings refer to them (`use`), which keeps the page small."""
    shapes = Markup().join(_shape(number) for number in range(len(MARKERS)))
    return element("svg", element("defs", shapes), class_="definitions", width=0, height=0, aria_hidden="true")


def _shape(number: int) -> Markup:
    kind, id_ = MARKERS[number], f"k{number}"

    def drawn(points: Iterable[tuple[float, float]]) -> str:
        return path([(dx * SIZE, dy * SIZE) for dx, dy in points])

    if kind in _STROKES:
        return element("path", id=id_, d="".join(drawn(line) for line in _STROKES[kind]))
    if kind in ("circle", "ring"):
        return element("circle", id=id_, r=SIZE)
    return element("path", id=id_, d=f"{drawn(_OUTLINES[kind.removeprefix('open ')])}Z")


def marker(shape: int, x: float, y: float, *, scale: float = 1.0, title: str = "") -> Markup:
    """The mark of participant number `shape` at (x, y); `title` is what a pointer that rests on it shows."""
    number = shape % len(MARKERS)
    kind = MARKERS[number]
    class_ = "s" if kind in _STROKES else "o" if kind == "ring" or kind.startswith("open ") else "m"
    place: dict[str, object] = {"x": x, "y": y}
    if scale != 1.0:
        place = {"transform": f"translate({coordinate(x)} {coordinate(y)}) scale({coordinate(scale)})"}
    inside = element("title", title) if title else Markup("")
    return element("use", inside, href=f"#k{number}", class_=f"{class_} {colour_class(shape)}", **place)


def key(drawing: Markup, width: int) -> Markup:
    """A small drawing that stands in text; hidden from screen readers, since its label stands beside it."""
    box = {"viewBox": f"0 0 {width} 12", "width": width, "height": 12}
    return element("svg", drawing, class_="key", **box, aria_hidden="true")


def legend(entries: Iterable[tuple[Markup, str]], class_: str = "legend") -> Markup:
    """A list of keys, each with its label."""
    return element("ul", Markup().join(element("li", drawing + label) for drawing, label in entries), class_=class_)


def sample(index: int, *, lines: bool = False) -> Markup:
    """The mark of one participant, on its line if `lines`."""
    line = element("path", class_=f"l {colour_class(index)}", d=path([(1, 6), (29, 6)]), stroke_dasharray=dash(index))
    return key(line + marker(index, 15, 6), 30) if lines else key(marker(index, 7, 6), 14)


def colour_class(index: int) -> str:
    return f"c{index % COLOURS}"


def dash(index: int) -> str | None:
    """The dash pattern of participant number `index`; None is a solid line."""
    return DASHES[index % len(DASHES)] or None


@dataclass(frozen=True)
class Scale:
    """Maps a value to a coordinate, linearly or by logarithm; `low` and `high` map to `start` and `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        share = 0.5 if high == low else (at - low) / (high - low)
        return self.start + share * (self.end - self.start)


def _even_ticks(low: float, high: float) -> list[float]:
    """Round values from `low` to `high`, about 5 steps apart (1, 2 or 5 times a power of ten)."""
    span = max(high - low, abs(high) * 1e-6, 1e-9)
    power = 10.0 ** math.floor(math.log10(span / 5))
    step = next(m * power for m in (1, 2, 5, 10) if m * power * 5 >= span * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, max(last, first + 1) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Ticks of a logarithmic axis inside [low, high]: at least 4, evenly spaced where the span is short."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in _LOG_STEPS:
        ticks = [round(m * 10.0**e, 12) for e in exponents for m in steps if low * 0.999 <= m * 10.0**e <= high * 1.001]
        if len(ticks) >= 4:
            return ticks
    inside = [tick for tick in _even_ticks(low, high) if low * 0.999 <= tick <= high * 1.001]
    return inside or sorted({low, high})


@dataclass
class Canvas:
    """A drawing in the making: size, accessible name and description, and its elements in order of painting."""

    width: float
    height: float
    id: str
    title: str
    description: str
    parts: list[Markup] = field(default_factory=list)

    def add(self, name: str, content: object = "", /, **attributes: object) -> None:
        self.parts.append(element(name, content, **attributes))

    def text(self, x: float, y: float, content: str, class_: str | None = None, *, at: str = "", turn: int = 0) -> None:
        """at: "" (the text starts at x), "middle" or "end". turn: degrees."""
        transform = f"rotate({turn} {coordinate(x)} {coordinate(y)})" if turn else None
        self.add("text", content, x=x, y=y, class_=class_, text_anchor=at or None, transform=transform)

    def line(self, x1: float, y1: float, x2: float, y2: float, class_: str) -> None:
        self.add("path", class_=class_, d=path([(x1, y1), (x2, y2)]))

    def mark(self, index: int, x: float, y: float, *, scale: float = 1.0, title: str = "") -> None:
        self.parts.append(marker(index, x, y, scale=scale, title=title))

    def svg(self, class_: str | None = None, **more: str) -> Markup:
        """The finished `<svg>` element, named and described for a screen reader."""
        names = element("title", self.title, id=f"{self.id}-t") + element("desc", self.description, id=f"{self.id}-d")
        named = {"aria_labelledby": f"{self.id}-t", "aria_describedby": f"{self.id}-d"}
        box = {"viewBox": f"0 0 {coordinate(self.width)} {coordinate(self.height)}"}
        size = {"width": self.width, "height": self.height}
        return element(
            "svg", names + Markup().join(self.parts), class_=class_, role="img", **box, **size, **named, **more
        )
