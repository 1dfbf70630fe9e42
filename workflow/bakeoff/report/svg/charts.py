"""The charts with axes. Each is drawn twice, for a wide page and for a telephone; the style sheet shows one of them.

A chart gets numbers from Python and every word (title, description, axis labels) from the template that places it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from bakeoff.report.svg.elements import Canvas, Scale, colour_class, dash, element, key, legend, log_ticks, path, sample
from bakeoff.tables.formats import count, fixed, percent

WIDE, NARROW = 880.0, 340.0
# From more points than this, a line shows some of its marks only.
MOST_MARKS = 150


@dataclass(frozen=True)
class Point:
    """One value of a series, its interval where there is one, and what a pointer resting on it shows."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    title: str = ""


@dataclass(frozen=True)
class Series:
    """The points of one participant; `index` is its number on the page (colour, dash, marker)."""

    index: int
    label: str
    points: Sequence[Point]


@dataclass(frozen=True)
class Roof:
    """The most that y can be at any x: `slope` times x, but no more than `top`."""

    slope: float
    top: float
    label: str

    def at(self, x: float) -> float:
        return min(self.slope * x, self.top)


@dataclass(frozen=True)
class Words:
    """What a chart says, from the template."""

    title: str
    description: str
    x: str = ""
    y: str = ""


class Plot:
    """A canvas with a plot area whose axes map values to coordinates. x, y: (least, greatest) value of each axis."""

    def __init__(self, canvas: Canvas, area: Sequence[float], x: Sequence[float], y: Sequence[float], log: str) -> None:
        """area: left, top, right, bottom in canvas units. log: names of the axes that are logarithmic, "xy"."""
        self.canvas = canvas
        self.left, self.top, self.right, self.bottom = area
        self.x = Scale(x[0], x[1], self.left, self.right, log="x" in log)
        self.y = Scale(y[0], y[1], self.bottom, self.top, log="y" in log)

    def rows(self, ticks: Sequence[float], word: Callable[[float], str]) -> None:
        """Horizontal lines with their values."""
        for tick in ticks:
            self.canvas.line(self.left, self.y(tick), self.right, self.y(tick), "grid")
            self.canvas.text(self.left - 8, self.y(tick) + 4, word(tick), "tick", at="end")

    def columns(self, ticks: Sequence[float], word: Callable[[float], str]) -> None:
        """Vertical lines with their values, and the base line."""
        for tick in ticks:
            self.canvas.line(self.x(tick), self.top, self.x(tick), self.bottom, "grid faint")
            self.canvas.text(self.x(tick), self.bottom + 18, word(tick), "tick", at="middle")
        self.canvas.line(self.left, self.bottom, self.right, self.bottom, "base")

    def axes(self, words: Words) -> None:
        self.canvas.text((self.left + self.right) / 2, self.bottom + 38, words.x, "axis", at="middle")
        if words.y:
            self.canvas.text(8, 16, words.y, "axis")

    def line(self, s: Series, corners: Sequence[tuple[float, float]]) -> None:
        places = path([(self.x(a), self.y(b)) for a, b in corners])
        self.canvas.add("path", class_=f"l {colour_class(s.index)}", d=places, stroke_dasharray=dash(s.index))

    def marks(self, s: Series, points: Sequence[Point], *, across: bool = False) -> None:
        """The marks of points with their intervals. across: the value is x, so that intervals lie across."""
        ends = [(p, p.low, p.high) for p in points if p.low is not None and p.high is not None]
        pairs = [((a, p.y), (b, p.y)) if across else ((p.x, a), (p.x, b)) for p, a, b in ends]
        if pairs:
            drawn = "".join(path([(self.x(a), self.y(b)) for a, b in pair]) for pair in pairs)
            self.canvas.add("path", class_=f"w {colour_class(s.index)}", d=drawn)
        for point in points:
            self.mark(s, point, point.x, point.y)

    def mark(self, s: Series, point: Point, x: float, y: float) -> None:
        """The mark of a point, at a place in values; its title shows on the wide drawing."""
        self.canvas.mark(s.index, self.x(x), self.y(y), title=point.title if self.canvas.width == WIDE else "")

    def apart(self, points: Sequence[Point], apart: float) -> list[Point]:
        """Points at least `apart` units from the one before, so that marks on a line stay countable."""
        kept: list[Point] = []
        for point in points:
            if not kept or self.x(point.x) - self.x(kept[-1].x) >= apart:
                kept.append(point)
        return kept

    def end_labels(self, ends: Sequence[tuple[Series, float]]) -> None:
        """Each line's name at its right end, beside its last value, moved apart where they would overlap."""
        ordered = sorted(((s, self.y(value)) for s, value in ends), key=lambda end: (end[1], end[0].index))
        places = spread([y for _, y in ordered], 16, self.top, self.bottom)
        for (s, y), place in zip(ordered, places, strict=True):
            self.canvas.line(self.right + 3, y, self.right + 14, place, "lead-line")
            self.canvas.text(self.right + 17, place + 4, s.label, f"name {colour_class(s.index)}")


def both_widths(draw: Callable[[bool], Canvas], series: Sequence[Series] = (), *, named: bool = True) -> Markup:
    """The wide and the narrow drawing; exactly one is shown. A legend of `series` goes above: with the narrow one alone
    where the wide one names its lines itself (`named`), otherwise with both."""
    drawings = draw(True).svg("wide") + draw(False).svg("narrow")
    keys = legend(((sample(s.index, lines=named), s.label) for s in series), "legend small" if named else "legend")
    return keys + drawings if series else drawings


def sized(id_: str, words: Words, wide: bool, height: float) -> Canvas:
    return Canvas(WIDE if wide else NARROW, height, f"{id_}-{'w' if wide else 'n'}", words.title, words.description)


def _area(canvas: Canvas, labels: Sequence[str] = ()) -> tuple[float, float, float, float]:
    """The plot area that leaves room for the axes, and at the right of the wide drawing for the lines' names."""
    wide = canvas.width == WIDE
    right = min(34 + 7.2 * max(map(len, labels), default=0), 240) if wide else 12
    return 58 if wide else 46, 30, canvas.width - right, canvas.height - 46


def _around(values: Sequence[float], factor: float) -> tuple[float, float]:
    return min(values) / factor, max(values) * factor


def over_seq_len(id_: str, series: Sequence[Series], words: Words) -> Markup:
    """Value over seq_len, both axes logarithmic: equal factors are equal distances."""
    xs = [p.x for s in series for p in s.points]
    ys = [v for s in series for p in s.points for v in (p.y, p.low, p.high) if v is not None]

    def draw(wide: bool) -> Canvas:
        canvas = sized(id_, words, wide, 400 if wide else 300)
        plot = Plot(canvas, _area(canvas, [s.label for s in series]), _around(xs, 1.15), _around(ys, 1.12), "xy")
        plot.rows(log_ticks(plot.y.low, plot.y.high), _tick)
        plot.columns(_seq_len_ticks(sorted(set(xs)), plot.x, 34 if wide else 40), lambda v: count(int(v)))
        plot.axes(words)
        for s in series:
            if len(s.points) > 1:
                plot.line(s, [(p.x, p.y) for p in s.points])
            plot.marks(s, s.points if len(s.points) <= MOST_MARKS else plot.apart(s.points, 8))
        if wide:
            plot.end_labels([(s, s.points[-1].y) for s in series if s.points])
        return canvas

    return both_widths(draw, series)


def performance_profile(id_: str, series: Sequence[Series], words: Words) -> Markup:
    """Step lines: x is the factor to a workload's best participant (logarithmic), y the share within it."""
    highest = max([p.x for s in series for p in s.points] + [1.05])

    def draw(wide: bool) -> Canvas:
        canvas = sized(id_, words, wide, 360 if wide else 280)
        plot = Plot(canvas, _area(canvas, [s.label for s in series]), (1.0, highest * 1.06), (0.0, 1.0), "x")
        plot.rows([0.0, 0.25, 0.5, 0.75, 1.0], lambda v: percent(v, 0))
        plot.columns([tick for tick in log_ticks(plot.x.low, plot.x.high) if tick >= 1], _tick)
        plot.axes(words)
        for s in series:
            plot.line(s, _steps(s.points, plot.x.high))
            plot.marks(s, plot.apart(s.points, 14))
        if wide:
            plot.end_labels([(s, s.points[-1].y if s.points else 0.0) for s in series])
        return canvas

    return both_widths(draw, series)


def _steps(points: Sequence[Point], end: float) -> list[tuple[float, float]]:
    heights = [0.0, *(point.y for point in points)]
    corners = [(point.x, y) for point, below in zip(points, heights, strict=False) for y in (below, point.y)]
    return [(1.0, 0.0), *corners, (end, heights[-1])]


def by_workload(id_: str, rows: Sequence[str], series: Sequence[Series], words: Words) -> Markup:
    """One line per workload (`rows`), one mark per participant with its interval; a point's y is its row number."""
    xs = [v for s in series for p in s.points for v in (p.x, p.low, p.high) if v is not None]

    def draw(wide: bool) -> Canvas:
        left, step = (120.0, 22) if wide else (84.0, 20)
        canvas = sized(id_, words, wide, 62.0 + step * len(rows))
        area = (left, 12, canvas.width - 16, canvas.height - 46)
        plot = Plot(canvas, area, _around(xs, 1.1), (len(rows) - 0.5 + 4 / step, -0.5), "x")
        plot.x = Scale(plot.x.low, plot.x.high, left + 8, plot.right, log=True)
        plot.columns(log_ticks(plot.x.low, plot.x.high), _tick)
        plot.axes(words)
        for number, name in enumerate(rows):
            canvas.line(plot.left, plot.y(number), plot.right, plot.y(number), "grid faint")
            canvas.text(left - 8, plot.y(number) + 4, name, at="end")
        for s in series:
            plot.marks(s, s.points, across=True)
        return canvas

    return both_widths(draw, series, named=False)


def roofline(id_: str, series: Sequence[Series], roofs: Sequence[Roof], words: Words) -> Markup:
    """Marks below roofs, both axes logarithmic. Marks that share an x stand side by side around it, each as far below
    the first roof as its value is."""
    points = [p for s in series for p in s.points]
    x = _around([p.x for p in points] + [roof.top / roof.slope for roof in roofs], 1.4)  # both parts of every roof
    y = _around([p.y for p in points] + [height for roof in roofs for height in (roof.at(x[0]), roof.top)], 1.3)

    def draw(wide: bool) -> Canvas:
        canvas = sized(id_, words, wide, 400 if wide else 320)
        plot = Plot(canvas, _area(canvas), x, y, "xy")
        plot.rows(log_ticks(*y), _plain)
        plot.columns(log_ticks(*x), _plain)
        plot.axes(words)
        for number, roof in enumerate(roofs):
            corners = [(plot.x(v), plot.y(roof.at(v))) for v in (x[0], roof.top / roof.slope, x[1])]
            canvas.add("path", class_="roof", d=path(corners), stroke_dasharray=dash(number))
        apart = 6.0 if wide else 3.0
        for place, s in enumerate(series):
            aside = (x[1] / x[0]) ** (apart * (place - (len(series) - 1) / 2) / (plot.right - plot.left))
            for point in s.points:
                beside = point.x * aside
                plot.mark(s, point, beside, point.y * roofs[0].at(beside) / roofs[0].at(point.x))
        return canvas

    line = path([(1, 6), (29, 6)])
    dashes = [element("path", class_="roof", d=line, stroke_dasharray=dash(number)) for number in range(len(roofs))]
    keys = legend((key(one, 30), roof.label) for one, roof in zip(dashes, roofs, strict=True))
    return keys + both_widths(draw, series, named=False)


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Sorted places moved to stand `gap` apart, by a pass each way, and kept inside [low, high] where they fit."""
    result: list[float] = []
    for place in places:
        result.append(max(place, result[-1] + gap) if result else max(place, low))
    limit = max(high, low + gap * (len(result) - 1))
    for number in reversed(range(len(result))):
        result[number] = min(result[number], limit)
        limit = result[number] - gap
    return result


def _seq_len_ticks(values: Sequence[float], x: Scale, apart: float) -> list[float]:
    """The run's own seq_lens as ticks, as many as stand `apart` units from each other; the ends come first."""
    kept: list[float] = []
    for value in [*values[:1], *reversed(values[1:])]:
        if all(abs(x(value) - x(other)) >= apart for other in kept):
            kept.append(value)
    return sorted(kept)


def _plain(value: float) -> str:
    if value >= 1 and value == int(value):
        return count(int(value))
    return fixed(value, 1 if value * 10 == int(value * 10) else 2)


def _tick(value: float) -> str:
    digits = 0 if value >= 10 or value == int(value) else 1 if value * 10 == int(value * 10) else 2
    return fixed(value, digits, "×")
