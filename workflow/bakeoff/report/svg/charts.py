"""The figures of a report. Each is drawn twice, for a wide page and for a telephone; the style sheet shows one of them.

A chart gets numbers from Python and every word (title, description, axis labels) from the template that places it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from bakeoff.report.svg.elements import (
    Canvas,
    Scale,
    colour_class,
    coordinate,
    dash,
    element,
    joined,
    log_ticks,
    path,
)
from bakeoff.tables.formats import count, fixed, percent

WIDE, NARROW = 880.0, 340.0
# From more points than this, a line shows some of its marks only.
MOST_MARKS = 150


@dataclass(frozen=True)
class Point:
    """One value of a series: position, value, its interval where there is one, and what a pointer resting on it
    shows."""

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


@dataclass(frozen=True)
class Frame:
    """The plot area inside a canvas, in canvas units."""

    canvas: Canvas
    left: float
    top: float
    right: float
    bottom: float


def both_widths(draw: Callable[[bool], Canvas], series: Sequence[Series] = (), *, named: bool = True) -> Markup:
    """The wide and the narrow drawing; exactly one is shown. A legend of `series` goes above: with the narrow one alone
    where
    the wide one names its lines itself (`named`), otherwise with both."""
    drawings = draw(True).svg("wide") + draw(False).svg("narrow")
    entries = [(s.index, s.label) for s in series]
    return (
        legend(entries, lines=named, class_="legend small" if named else "legend") + drawings if entries else drawings
    )


def legend(entries: Sequence[tuple[int, str]], *, lines: bool = True, class_: str = "legend") -> Markup:
    """Mark (and line) beside label for each participant, as a list."""
    return element(
        "ul", joined(element("li", sample(index, lines=lines) + label) for index, label in entries), class_=class_
    )


def sample(index: int, *, lines: bool = False) -> Markup:
    """The mark of one participant, small enough to stand in text; hidden from screen readers, since its label stands
    beside it."""
    width = 30.0 if lines else 14.0
    canvas = Canvas(width, 12, "", "", "")
    if lines:
        canvas.add("path", class_=f"l {colour_class(index)}", d=path([(1, 6), (29, 6)]), stroke_dasharray=dash(index))
    canvas.mark(index, width / 2, 6)
    return element(
        "svg",
        joined(canvas.parts),
        class_="key",
        viewBox=f"0 0 {coordinate(width)} 12",
        width=width,
        height=12,
        aria_hidden="true",
    )


def over_seq_len(id_: str, series: Sequence[Series], words: Words) -> Markup:
    """Value over seq_len, both axes logarithmic: equal factors are equal distances."""

    def draw(wide: bool) -> Canvas:
        frame = _frame(id_, words, wide, height=400 if wide else 300, labels=[s.label for s in series])
        values = [v for s in series for p in s.points for v in (p.y, p.low, p.high) if v is not None]
        xs = [p.x for s in series for p in s.points]
        x = Scale(min(xs) / 1.15, max(xs) * 1.15, frame.left, frame.right, log=True)
        y = Scale(min(values) / 1.12, max(values) * 1.12, frame.bottom, frame.top, log=True)
        _horizontal_grid(frame, y, log_ticks(y.low, y.high), _tick)
        _vertical_grid(frame, x, _seq_len_ticks(sorted(set(xs)), x, 34 if wide else 40), lambda v: count(int(v)))
        _axis_labels(frame, words)
        for s in series:
            _line(frame, s, x, y)
        if wide:
            _end_labels(frame, [(s, y(s.points[-1].y)) for s in series if s.points])
        return frame.canvas

    return both_widths(draw, series)


def performance_profile(id_: str, series: Sequence[Series], words: Words) -> Markup:
    """Step lines: x is the factor to the best participant of a workload (logarithmic), y the share of workloads within
    it."""

    def draw(wide: bool) -> Canvas:
        frame = _frame(id_, words, wide, height=360 if wide else 280, labels=[s.label for s in series])
        highest = max([p.x for s in series for p in s.points] + [1.05])
        x = Scale(1.0, highest * 1.06, frame.left, frame.right, log=True)
        y = Scale(0.0, 1.0, frame.bottom, frame.top)
        _horizontal_grid(frame, y, [0.0, 0.25, 0.5, 0.75, 1.0], lambda v: percent(v, 0))
        _vertical_grid(frame, x, [t for t in log_ticks(x.low, x.high) if t >= 1], _tick)
        _axis_labels(frame, words)
        ends = []
        for s in series:
            steps = _steps(_columns(s.points, x), x.high)
            frame.canvas.add(
                "path",
                class_=f"l {colour_class(s.index)}",
                d=path([(x(a), y(b)) for a, b in steps]),
                stroke_dasharray=dash(s.index),
            )
            for point in _apart(s.points, x, 14):
                frame.canvas.mark(s.index, x(point.x), y(point.y), title=point.title if wide else "")
            ends.append((s, y(steps[-1][1])))
        if wide:
            _end_labels(frame, ends)
        return frame.canvas

    return both_widths(draw, series)


def by_workload(id_: str, rows: Sequence[str], series: Sequence[Series], words: Words) -> Markup:
    """One line per workload (`rows`), one mark per participant with its interval; a point's y is its row number."""

    def draw(wide: bool) -> Canvas:
        step = 22 if wide else 20
        left, height = (120.0 if wide else 84.0), 62.0 + step * len(rows)
        canvas = sized(id_, words, wide, height)
        frame = Frame(canvas, left, 12, canvas.width - 16, height - 46)
        values = [v for s in series for p in s.points for v in (p.x, p.low, p.high) if v is not None]
        x = Scale(min(values) / 1.1, max(values) * 1.1, frame.left + 8, frame.right, log=True)
        _vertical_grid(frame, x, log_ticks(x.low, x.high), _tick)
        canvas.text((frame.left + frame.right) / 2, height - 8, words.x, anchor="middle", class_="axis")
        for number, name in enumerate(rows):
            at = frame.top + step * (number + 0.5)
            canvas.line(frame.left, at, frame.right, at, "grid faint")
            canvas.text(left - 8, at + 4, name, anchor="end")
        for s in series:
            places = [(point, frame.top + step * (point.y + 0.5)) for point in s.points]
            _whiskers(
                canvas,
                s,
                [((x(p.low), at), (x(p.high), at)) for p, at in places if p.low is not None and p.high is not None],
            )
            for point, at in places:
                canvas.mark(s.index, x(point.x), at, title=point.title if wide else "")
        return canvas

    return both_widths(draw, series, named=False)


def roofline(id_: str, series: Sequence[Series], roofs: Sequence[Roof], words: Words) -> Markup:
    """Marks below roofs, both axes logarithmic. Marks that share an x stand side by side around it, each as far below
    the first roof as
    its value is."""

    def draw(wide: bool) -> Canvas:
        frame = _frame(id_, words, wide, height=400 if wide else 320, labels=[])
        xs, ys = ([getattr(p, axis) for s in series for p in s.points] for axis in ("x", "y"))
        xs += [roof.top / roof.slope for roof in roofs]  # both parts of every roof are in sight
        x = Scale(min(xs) / 1.4, max(xs) * 1.4, frame.left, frame.right, log=True)
        ys += [height for roof in roofs for height in (roof.at(x.low), roof.top)]
        y = Scale(min(ys) / 1.3, max(ys) * 1.3, frame.bottom, frame.top, log=True)
        _horizontal_grid(frame, y, log_ticks(y.low, y.high), _plain)
        _vertical_grid(frame, x, log_ticks(x.low, x.high), _plain)
        _axis_labels(frame, words)
        for number, roof in enumerate(roofs):
            corners = [(v, roof.at(v)) for v in (x.low, roof.top / roof.slope, x.high)]
            line = path([(x(a), y(b)) for a, b in corners])
            frame.canvas.add("path", class_="roof", d=line, stroke_dasharray=dash(number))
        apart = 6.0 if wide else 3.0
        for place, s in enumerate(series):
            aside = (x.high / x.low) ** (apart * (place - (len(series) - 1) / 2) / (frame.right - frame.left))
            for point in s.points:
                beside = point.x * aside
                height = point.y * roofs[0].at(beside) / roofs[0].at(point.x)
                frame.canvas.mark(s.index, x(beside), y(height), title=point.title if wide else "")
        return frame.canvas

    return _roof_legend(roofs) + both_widths(draw, series, named=False)


def _roof_legend(roofs: Sequence[Roof]) -> Markup:
    entries = []
    for number, roof in enumerate(roofs):
        line = element("path", class_="roof", d=path([(1, 6), (29, 6)]), stroke_dasharray=dash(number))
        key = element("svg", line, class_="key", viewBox="0 0 30 12", width=30, height=12, aria_hidden="true")
        entries.append(element("li", key + roof.label))
    return element("ul", joined(entries), class_="legend")


def sized(id_: str, words: Words, wide: bool, height: float) -> Canvas:
    return Canvas(WIDE if wide else NARROW, height, f"{id_}-{'w' if wide else 'n'}", words.title, words.description)


def _frame(id_: str, words: Words, wide: bool, height: float, labels: Sequence[str]) -> Frame:
    canvas = sized(id_, words, wide, height)
    right = min(34 + 7.2 * max(map(len, labels), default=0), 240) if wide else 12
    return Frame(canvas, 58 if wide else 46, 30, canvas.width - right, height - 46)


def _horizontal_grid(frame: Frame, y: Scale, ticks: Sequence[float], word: Callable[[float], str]) -> None:
    for tick in ticks:
        frame.canvas.line(frame.left, y(tick), frame.right, y(tick), "grid")
        frame.canvas.text(frame.left - 8, y(tick) + 4, word(tick), anchor="end", class_="tick")


def _vertical_grid(frame: Frame, x: Scale, ticks: Sequence[float], word: Callable[[float], str]) -> None:
    for tick in ticks:
        frame.canvas.line(x(tick), frame.top, x(tick), frame.bottom, "grid faint")
        frame.canvas.text(x(tick), frame.bottom + 18, word(tick), anchor="middle", class_="tick")
    frame.canvas.line(frame.left, frame.bottom, frame.right, frame.bottom, "base")


def _axis_labels(frame: Frame, words: Words) -> None:
    frame.canvas.text((frame.left + frame.right) / 2, frame.bottom + 38, words.x, anchor="middle", class_="axis")
    frame.canvas.text(8, 16, words.y, class_="axis")


def _line(frame: Frame, s: Series, x: Scale, y: Scale) -> None:
    places = _thinned([(x(p.x), y(p.y)) for p in s.points])
    if len(places) > 1:
        frame.canvas.add("path", class_=f"l {colour_class(s.index)}", d=path(places), stroke_dasharray=dash(s.index))
    marked = s.points if len(s.points) <= MOST_MARKS else _apart(s.points, x, 8)
    ends = [((x(p.x), y(p.low)), (x(p.x), y(p.high))) for p in marked if p.low is not None and p.high is not None]
    _whiskers(frame.canvas, s, ends)
    for point in marked:
        frame.canvas.mark(s.index, x(point.x), y(point.y), title=point.title if frame.canvas.width == WIDE else "")


def _thinned(places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """A line through very many points, with at most four per unit of width: first, lowest, highest, last. It looks the
    same."""
    if len(places) <= MOST_MARKS:
        return list(places)
    kept: list[tuple[float, float]] = []
    for _, group in itertools.groupby(places, key=lambda place: int(place[0])):
        column = list(group)
        extremes = {0, len(column) - 1, *(pick(range(len(column)), key=lambda k: column[k][1]) for pick in (min, max))}
        kept += [column[k] for k in sorted(extremes)]
    return kept


def _whiskers(canvas: Canvas, s: Series, ends: Sequence[tuple[tuple[float, float], tuple[float, float]]]) -> None:
    if ends:
        canvas.add("path", class_=f"w {colour_class(s.index)}", d="".join(path(pair) for pair in ends))


def _apart(points: Sequence[Point], x: Scale, apart: float) -> list[Point]:
    """Points at least `apart` units from the one before, so that marks on a line stay countable."""
    kept: list[Point] = []
    for point in points:
        if not kept or x(point.x) - x(kept[-1].x) >= apart:
            kept.append(point)
    return kept


def _end_labels(frame: Frame, ends: Sequence[tuple[Series, float]]) -> None:
    """Each line's name at its right end, moved apart where they would overlap, tied to its line by a thin leader."""
    ordered = sorted(ends, key=lambda end: (end[1], end[0].index))
    places = spread([y for _, y in ordered], 16, frame.top, frame.bottom)
    for (s, y), place in zip(ordered, places, strict=True):
        frame.canvas.line(frame.right + 3, y, frame.right + 14, place, "lead-line")
        frame.canvas.text(frame.right + 17, place + 4, s.label, class_=f"name {colour_class(s.index)}")


def shortened(label: str, most: int) -> str:
    """A long label without its middle: solutions tend to differ at the end."""
    head, tail = (most - 1) // 2, most - 1 - (most - 1) // 2
    return label if len(label) <= most else f"{label[:head]}…{label[-tail:]}"


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Sorted places moved as little as a single pass each way needs for `gap` between them, kept inside [low, high]
    where they fit."""
    result: list[float] = []
    for place in places:
        result.append(max(place, result[-1] + gap) if result else max(place, low))
    limit = max(high, low + gap * (len(result) - 1))
    for number in reversed(range(len(result))):
        result[number] = min(result[number], limit)
        limit = result[number] - gap
    return result


def _steps(points: Sequence[Point], end: float) -> list[tuple[float, float]]:
    corners, height = [(1.0, 0.0)], 0.0
    for point in points:
        corners += [(point.x, height), (point.x, point.y)]
        height = point.y
    return [*corners, (end, height)]


def _columns(points: Sequence[Point], x: Scale) -> list[Point]:
    """Of very many steps, the last in each unit of width: the height that the eye sees there."""
    if len(points) <= MOST_MARKS:
        return list(points)
    return list({int(x(point.x)): point for point in points}.values())


def _seq_len_ticks(values: Sequence[float], x: Scale, apart: float) -> list[float]:
    """The run's own seq_lens as ticks, as many as stand `apart` units from each other; the ends come first, then the
    largest."""
    kept: list[float] = []
    for value in [*values[:1], *reversed(values[1:])]:
        if all(abs(x(value) - x(other)) >= apart for other in kept):
            kept.append(value)
    return sorted(kept)


def _plain(value: float) -> str:
    return (
        count(int(value))
        if value >= 1 and value == int(value)
        else fixed(value, 1 if value * 10 == int(value * 10) else 2)
    )


def _tick(value: float) -> str:
    digits = 0 if value >= 10 or value == int(value) else 1 if value * 10 == int(value * 10) else 2
    return fixed(value, digits, "×")
