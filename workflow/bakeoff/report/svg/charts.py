"""The charts with axes. Each is drawn twice, for a wide page and for a telephone; the style sheet shows one of them.

A chart gets numbers from Python and every word (title, description, axis labels) from the template that places it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from bakeoff.report.svg.elements import (
    Canvas,
    Scale,
    colour_class,
    coordinate,
    dash,
    definitions,
    element,
    key,
    legend,
    log_ticks,
    path,
    sample,
)
from bakeoff.tables.formats import count, fixed, percent

WIDE, NARROW = 880.0, 340.0
# A chart of more lines or rows than this is no longer readable; the table has all of them.
MOST_ROWS, MOST_LINES = 60, 12
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
    """The points of one participant; `index` is its number on the page (colour, dash, marker). None: a plain line
    without marks, such as a floor."""

    index: int | None
    label: str
    points: Sequence[Point]
    plain_dash: str = "5 4"

    @property
    def class_(self) -> str:
        return "plain" if self.index is None else colour_class(self.index)

    @property
    def dash(self) -> str | None:
        return self.plain_dash if self.index is None else dash(self.index)


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
        self.canvas.add("path", class_=f"l {s.class_}", d=places, stroke_dasharray=s.dash)

    def marks(self, s: Series, points: Sequence[Point], *, across: bool = False) -> None:
        """The marks of points with their intervals. across: the value is x, so that intervals lie across."""
        ends = [(p, p.low, p.high) for p in points if p.low is not None and p.high is not None]
        pairs = [((a, p.y), (b, p.y)) if across else ((p.x, a), (p.x, b)) for p, a, b in ends]
        if pairs:
            drawn = "".join(path([(self.x(a), self.y(b)) for a, b in pair]) for pair in pairs)
            self.canvas.add("path", class_=f"w {s.class_}", d=drawn)
        for point in points:
            self.mark(s, point, point.x, point.y)

    def mark(self, s: Series, point: Point, x: float, y: float) -> None:
        """The mark of a point, at a place in values; its title shows on the wide drawing."""
        if s.index is not None:
            title = point.title if self.canvas.width == WIDE else ""
            self.canvas.mark(s.index, self.x(x), self.y(y), title=title)

    def apart(self, points: Sequence[Point], apart: float) -> list[Point]:
        """Points at least `apart` units from the one before, so that marks on a line stay countable."""
        kept: list[Point] = []
        for point in points:
            if not kept or self.x(point.x) - self.x(kept[-1].x) >= apart:
                kept.append(point)
        return kept

    def end_labels(self, ends: Sequence[tuple[Series, float]]) -> None:
        """Each line's name at its right end, beside its last value, moved apart where they would overlap."""
        ordered = sorted(((s, self.y(value)) for s, value in ends), key=lambda end: (end[1], end[0].label))
        places = spread([y for _, y in ordered], 16, self.top, self.bottom)
        for (s, y), place in zip(ordered, places, strict=True):
            self.canvas.line(self.right + 3, y, self.right + 14, place, "lead-line")
            self.canvas.text(self.right + 17, place + 4, s.label, f"name {s.class_}")


def both_widths(draw: Callable[[bool], Canvas], series: Sequence[Series] = (), *, named: bool = True) -> Markup:
    """The wide and the narrow drawing; exactly one is shown. A legend of `series` goes above: with the narrow one alone
    where the wide one names its lines itself (`named`), otherwise with both."""
    drawings = draw(True).svg("wide") + draw(False).svg("narrow")
    keys = legend(((_sample(s, named), s.label) for s in series), "legend small" if named else "legend")
    return keys + drawings if series else drawings


def picture(drawing: Canvas, series: Sequence[Series], style: str) -> Markup:
    """A drawing as a file of its own: with its title, its keys and a style sheet inside."""
    top, x = 64.0, 16.0
    made = Canvas(drawing.width, drawing.height + top, drawing.id, drawing.title, drawing.description)
    made.parts += [element("style", Markup(style)), definitions()]
    made.add("rect", class_="paper", width=made.width, height=made.height)
    made.text(16, 24, drawing.title, "title")
    for s in series:
        made.mark(s.index or 0, x + 6, 46)
        made.text(x + 16, 50, s.label)
        x += 36 + 7.2 * len(s.label)
    made.add("g", Markup().join(drawing.parts), transform=f"translate(0 {coordinate(top)})")
    return made.svg(xmlns="http://www.w3.org/2000/svg")


def _sample(s: Series, lines: bool) -> Markup:
    if s.index is not None:
        return sample(s.index, lines=lines)
    return key(element("path", class_="l plain", d=path([(1, 6), (29, 6)]), stroke_dasharray=s.dash), 30)


def sized(id_: str, words: Words, wide: bool, height: float) -> Canvas:
    return Canvas(WIDE if wide else NARROW, height, f"{id_}-{'w' if wide else 'n'}", words.title, words.description)


def _area(canvas: Canvas, labels: Sequence[str] = ()) -> tuple[float, float, float, float]:
    """The plot area that leaves room for the axes, and at the right of the wide drawing for the lines' names."""
    wide = canvas.width == WIDE
    right = min(34 + 7.2 * max(map(len, labels), default=0), 240) if wide else 12
    return 58 if wide else 46, 30, canvas.width - right, canvas.height - 46


def _around(values: Sequence[float], factor: float) -> tuple[float, float]:
    return min(values) / factor, max(values) * factor


def over_seq_len(
    id_: str, series: Sequence[Series], words: Words, value: Callable[[float], str] | None = None
) -> Markup:
    """Value over seq_len, both axes logarithmic: equal factors are equal distances. value: how a tick is written, a
    factor by default."""
    xs = [p.x for s in series for p in s.points]
    ys = [v for s in series for p in s.points for v in (p.y, p.low, p.high) if v is not None]

    def draw(wide: bool) -> Canvas:
        canvas = sized(id_, words, wide, 400 if wide else 300)
        plot = Plot(canvas, _area(canvas, [s.label for s in series]), _around(xs, 1.15), _around(ys, 1.12), "xy")
        plot.rows(log_ticks(plot.y.low, plot.y.high), value or _tick)
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


# Ticks of shares above the fastest.
_BEHIND = (
    0.0,
    -0.02,
    -0.05,
    -0.1,
    -0.2,
    -0.5,
    0.005,
    0.01,
    0.02,
    0.05,
    0.1,
    0.2,
    0.5,
    1.0,
    2.0,
    5.0,
    10.0,
    20.0,
    50.0,
    100.0,
)


def _stretched(share: float) -> float:
    """A share above the fastest on an axis that is even up to about one percent and logarithmic beyond, so that both
    half a percent and a factor of five are seen."""
    return math.asinh(share / 0.01)


def behind(
    id_: str, rows: Sequence[str], series: Sequence[Series], words: Words, style: str = "", *, small: bool = False
) -> Markup:
    """One line per workload (`rows`), one mark per participant with its interval; x is a point's share above the
    fastest (0.02: 2 % more time), y its row number. style: draw a picture of its own instead, with this style sheet;
    small: the narrow drawing for every width."""
    xs = [v for s in series for p in s.points for v in (p.x, p.low, p.high) if v is not None]
    least, most = min(xs, default=0.0), max(xs, default=0.0)
    places = [Series(s.index, s.label, [_on_stretched(p) for p in s.points]) for s in series]

    def draw(wide: bool) -> Canvas:
        left, step = (120.0, 22) if wide else (max(84.0, 10 + 7.2 * max(map(len, rows), default=0)), 20)
        canvas = sized(id_, words, wide, 62.0 + step * len(rows))
        area = (left, 12, canvas.width - 16, canvas.height - 46)
        x = (min(_stretched(least), 0.0) - 0.2, _stretched(most) + 0.3)
        plot = Plot(canvas, area, x, (len(rows) - 0.5 + 4 / step, -0.5), "")
        apart = 40 if wide else 34
        ticks: dict[float, str] = {}
        for tick in _BEHIND:
            if least <= tick <= most * 1.05 and all(
                abs(plot.x(_stretched(tick)) - plot.x(at)) >= apart for at in ticks
            ):
                ticks[_stretched(tick)] = percent(tick, 1 if 0 < tick < 0.01 else 0)
        plot.columns([*ticks], ticks.__getitem__)
        plot.axes(words)
        for number, name in enumerate(rows):
            canvas.line(plot.left, plot.y(number), plot.right, plot.y(number), "grid faint")
            canvas.text(left - 8, plot.y(number) + 4, name, at="end")
        for s in places:
            plot.marks(s, s.points, across=True)
        return canvas

    if small:
        return draw(False).svg("small")
    return picture(draw(True), series, style) if style else both_widths(draw, series, named=False)


def _on_stretched(point: Point) -> Point:
    low, high = (None if end is None else _stretched(end) for end in (point.low, point.high))
    return replace(point, x=_stretched(point.x), low=low, high=high)


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
