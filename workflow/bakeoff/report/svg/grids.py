"""The grid: one square per solution and workload, readable at a glance and without colour."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from bakeoff.report.svg.charts import NARROW, WIDE, Words, both_widths, sized
from bakeoff.report.svg.elements import SIZE, Canvas, coordinate, element, path

Row = tuple[int, str, Sequence[str]]
# The lines of a sign, in units of its size.
_SIGNS = {
    "pass": (((-1, 0), (-0.25, 0.8), (1, -0.9)),),
    "fail": (((-0.8, -0.8), (0.8, 0.8)), ((-0.8, 0.8), (0.8, -0.8))),
    "same": (((-1, -0.45), (1, -0.45)), ((-1, 0.45), (1, 0.45))),
}


def grid(id_: str, columns: Sequence[str], rows: Sequence[Row], words: Words, titles: Mapping[str, str]) -> Markup:
    """One square per (participant, workload). rows: (index, label, states), as the view names them. titles: words for
    the states, for a pointer that rests on a mark."""

    def draw(wide: bool) -> Canvas:
        longest = max(len(label) for _, label, _ in rows)
        left = min(20 + longest * 7.2, 230.0 if wide else 132.0)
        step = min((WIDE - left - 8) / len(columns), 34.0) if wide else min((NARROW - left - 4) / len(columns), 30.0)
        tall, head = (26.0, 58.0) if wide else (24.0, 46.0)
        canvas = sized(id_, words, wide, head + tall * len(rows) + 6)
        canvas.width = max(left + step * len(columns) + 8, 300) if wide else NARROW
        _heads(canvas, columns, left, step, head)
        canvas.text(left - 8, head - 10, words.x, "axis", at="end")
        for line, (index, label, states) in enumerate(rows):
            middle = head + tall * (line + 0.5)
            canvas.text(left - 8, middle + 4, shortened(label, 29 if wide else 15), at="end")
            _squares(canvas, states, left, middle, step, tall)
            for number, state in enumerate(states):
                title = f"{label}, {columns[number]}: {titles[state]}" if wide else ""
                _mark(canvas, index, left + step * (number + 0.5), middle, step, state, title)
        return canvas

    return both_widths(draw)


def _heads(canvas: Canvas, columns: Sequence[str], left: float, step: float, head: float) -> None:
    """Column names, turned; where they would touch, only every second, third, … one."""
    every = max(1, -(-13 // int(max(step, 1))))
    for number, name in enumerate(columns):
        if number % every == 0:
            canvas.text(left + step * (number + 0.5) + 4, head - 8, name, "tick", turn=-90 if step < 30 else -60)


def _squares(canvas: Canvas, states: Sequence[str], left: float, middle: float, step: float, tall: float) -> None:
    """The squares of one row, one path per state."""
    gap = 1.5 if step > 8 else 0.6
    across, down = coordinate(step - 2 * gap), coordinate(tall - 3)
    for state in sorted(set(states)):
        lefts = [left + step * number + gap for number, found in enumerate(states) if found == state]
        top = coordinate(middle - tall / 2 + 1.5)
        outline = "".join(f"M{coordinate(x)} {top}h{across}v{down}h-{across}Z" for x in lefts)
        canvas.add("path", class_=f"q {state}", d=outline)


def _mark(canvas: Canvas, index: int, x: float, y: float, step: float, state: str, title: str) -> None:
    size = min(SIZE, step / 3)
    inside = element("title", title) if title and state != "pass" else ""
    if state in ("win", "lead"):
        canvas.mark(index, x, y, scale=1.0 if size == SIZE else size / SIZE, title=title)
    elif state in _SIGNS:
        outline = "".join(path([(x + size * a, y + size * b) for a, b in line]) for line in _SIGNS[state])
        canvas.add("path", inside, class_=f"t {state}", d=outline)
    elif state == "tie":
        canvas.add("circle", inside, class_="t tie", cx=x, cy=y, r=size * 0.8)
    elif state == "ran":
        canvas.add("circle", class_="t ran", cx=x, cy=y, r=min(1.6, size / 2))


def shortened(label: str, most: int) -> str:
    """A long label without its middle: solutions tend to differ at the end."""
    head, tail = (most - 1) // 2, most - 1 - (most - 1) // 2
    return label if len(label) <= most else f"{label[:head]}…{label[-tail:]}"
