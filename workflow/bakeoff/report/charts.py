"""The figures of a report. Each is drawn twice, for a wide page and for a telephone; the style sheet shows one of them.

A chart gets numbers from Python and every word (title, description, axis labels) from the template that places it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from bakeoff.report.formats import count, fixed, percent
from bakeoff.report.svg import (
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

WIDE, NARROW = 880.0, 340.0


@dataclass(frozen=True)
class Point:
    """One value of a series: position, value, its interval where there is one, and what a pointer resting on it shows."""

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
    """The wide and the narrow drawing; exactly one is shown. A legend of `series` goes above: with the narrow one alone where
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
    """The mark of one participant, small enough to stand in text; hidden from screen readers, since its label stands beside it."""
    width = 30.0 if lines else 14.0
    canvas = Canvas(width, 12, "", "", "")
    if lines:
        canvas.add("path", class_=f"l {colour_class(index)}", d=path([(1, 6), (29, 6)]), stroke_dasharray=dash(index))
    canvas.mark(index, width / 2, 6, size=4)
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
    """Step lines: x is the factor to the best participant of a workload (logarithmic), y the share of workloads within it."""

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
            steps = _steps(s.points, x.high)
            frame.canvas.add(
                "path",
                class_=f"l {colour_class(s.index)}",
                d=path([(x(a), y(b)) for a, b in steps]),
                stroke_dasharray=dash(s.index),
            )
            for point in s.points:
                frame.canvas.mark(s.index, x(point.x), y(point.y), size=3.2, title=point.title)
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
        canvas = _canvas(id_, words, wide, height)
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
            for point in s.points:
                at = frame.top + step * (point.y + 0.5)
                if point.low is not None and point.high is not None:
                    canvas.add(
                        "path", class_=f"w {colour_class(s.index)}", d=path([(x(point.low), at), (x(point.high), at)])
                    )
                canvas.mark(s.index, x(point.x), at, size=4, title=point.title)
        return canvas

    return both_widths(draw, series, named=False)


def grid(
    id_: str,
    columns: Sequence[str],
    rows: Sequence[tuple[int, str, Sequence[str]]],
    words: Words,
    titles: Mapping[str, str],
) -> Markup:
    """One square per (participant, workload). `rows` holds (index, label, states); a state is one of win, lead, tie, ran, pass, fail, none.

    `titles` words the states for a pointer that rests on a square.
    """

    def draw(wide: bool) -> Canvas:
        longest = max(len(label) for _, label, _ in rows)
        left = min(20 + longest * 7.2, 230.0 if wide else 132.0)
        step = min((WIDE - left - 8) / len(columns), 34.0) if wide else min((NARROW - left - 4) / len(columns), 30.0)
        tall, head = (26.0, 58.0) if wide else (24.0, 46.0)
        canvas = _canvas(id_, words, wide, head + tall * len(rows) + 6)
        canvas.width = max(left + step * len(columns) + 8, 300) if wide else NARROW
        every = max(1, -(-13 // int(max(step, 1))))
        for number, name in enumerate(columns):
            if number % every == 0 or (number == len(columns) - 1 and every == 1):
                canvas.text(
                    left + step * (number + 0.5) + 4, head - 8, name, class_="tick", turn=-90 if step < 30 else -60
                )
        if words.x:
            canvas.text(left - 8, head - 10, words.x, anchor="end", class_="axis")
        for line, (index, label, states) in enumerate(rows):
            at = head + tall * (line + 0.5)
            canvas.text(left - 8, at + 4, shortened(label, 29 if wide else 15), anchor="end")
            for number, state in enumerate(states):
                title = f"{label}, {columns[number]}: {titles[state]}"
                _square(canvas, index, left + step * number, at, step, tall, state, title)
        return canvas

    return both_widths(draw)


def _square(
    canvas: Canvas, index: int, x: float, middle: float, step: float, tall: float, state: str, title: str
) -> None:
    gap = 1.5 if step > 8 else 0.6
    canvas.add(
        "rect", element("title", title), class_=f"q {state} {colour_class(index)}", x=x + gap, y=middle - tall / 2 + 1.5,
        width=step - 2 * gap, height=tall - 3, rx=min(4.0, step / 5),
    )  # fmt: skip
    centre, size = x + step / 2, min(4.6, step / 3)
    if state in ("win", "lead"):
        canvas.mark(index, centre, middle, size=size)
    elif state in ("pass", "fail"):
        tick = [(-size, 0.0), (-size / 4, size * 0.8), (size, -size * 0.9)]
        cross = [(-size * 0.8, -size * 0.8), (size * 0.8, size * 0.8)]
        lines = [tick] if state == "pass" else [cross, [(a, -b) for a, b in cross]]
        canvas.add(
            "path", class_=f"t {state}", d="".join(path([(centre + a, middle + b) for a, b in line]) for line in lines)
        )
    elif state in ("tie", "ran"):
        canvas.add(
            "circle", class_=f"t {state}", cx=centre, cy=middle, r=size * 0.8 if state == "tie" else min(1.6, size / 2)
        )


def _canvas(id_: str, words: Words, wide: bool, height: float) -> Canvas:
    return Canvas(WIDE if wide else NARROW, height, f"{id_}-{'w' if wide else 'n'}", words.title, words.description)


def _frame(id_: str, words: Words, wide: bool, height: float, labels: Sequence[str]) -> Frame:
    canvas = _canvas(id_, words, wide, height)
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
    if len(s.points) > 1:
        frame.canvas.add(
            "path",
            class_=f"l {colour_class(s.index)}",
            d=path([(x(p.x), y(p.y)) for p in s.points]),
            stroke_dasharray=dash(s.index),
        )
    for point in s.points:
        if point.low is not None and point.high is not None:
            ends = path([(x(point.x), y(point.low)), (x(point.x), y(point.high))])
            frame.canvas.add("path", class_=f"w {colour_class(s.index)}", d=ends)
        frame.canvas.mark(s.index, x(point.x), y(point.y), title=point.title)


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
    """Sorted places moved as little as a single pass each way needs for `gap` between them, kept inside [low, high] where they fit."""
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


def _seq_len_ticks(values: Sequence[float], x: Scale, apart: float) -> list[float]:
    """The run's own seq_lens as ticks, as many as stand `apart` units from each other; the ends come first, then the largest."""
    kept: list[float] = []
    for value in [*values[:1], *reversed(values[1:])]:
        if all(abs(x(value) - x(other)) >= apart for other in kept):
            kept.append(value)
    return sorted(kept)


def _tick(value: float) -> str:
    digits = 0 if value >= 10 or value == int(value) else 1 if value * 10 == int(value * 10) else 2
    return fixed(value, digits, "×")
