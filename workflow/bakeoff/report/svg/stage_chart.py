"""The chart of stages: a row of stacked bars over seq_len per profiled solution, each bar a call's span by stage.

Shares make workloads of 70 µs and of 1.4 ms comparable; the span stands above each bar where it fits.
"""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from bakeoff.report.svg.charts import MOST_LINES, MOST_ROWS, NARROW, WIDE, Plot, Words, both_widths, sized
from bakeoff.report.svg.elements import Canvas, colour_class, element, key, legend
from bakeoff.report.view import Person, RunView
from bakeoff.schema.profile import CellProfile
from bakeoff.tables import formats as f
from bakeoff.tables import words as words_of

GAP = "gap"
# A bar this wide has room for its span in whole microseconds.
ROOM = 30.0


def over_seq_len(view: RunView, words: Words) -> Markup:
    """Bars of every profiled solution, one row each, the workloads in the same columns in all rows."""
    section = view.a.profiles
    if section is None:
        return Markup("")
    profiled = {one.workload for one in section.cells}
    columns = [w.id for w in view.a.workloads if w.id in profiled][-MOST_ROWS:]
    found: dict[str, dict[int, CellProfile]] = {}  # solution, column
    for one in section.cells:
        if one.workload in columns:
            found.setdefault(one.solution, {})[columns.index(one.workload)] = one
    rows = [(person, found[person.name]) for person in view.people if person.name in found][:MOST_LINES]
    shares = [_shares(one) for _, bars in rows for one in bars.values()]
    used = [name for name in [*section.stages, GAP] if any(parts.get(name) for parts in shares)]

    def draw(wide: bool) -> Canvas:
        left, tall = (52.0, 158.0) if wide else (42.0, 128.0)
        canvas = sized("fig-stages", words, wide, tall * len(rows) + 72)
        step = min(((WIDE if wide else NARROW) - left - 8) / len(columns), 72.0)
        for number, (person, bars) in enumerate(rows):
            area = (left, tall * number + 40, left + step * len(columns), tall * (number + 1) - 12)
            _panel(Plot(canvas, area, (0, len(columns)), (0, 1), ""), person, bars, step)
        _columns(canvas, [view.tick(name) for name in columns], left, step, tall * len(rows) + 8)
        canvas.text(8, canvas.height - 8, f"{words.x}; {words.y}" if step >= ROOM else words.x, "axis")
        return canvas

    boxes = ((key(element("rect", class_=f"st {name}", x=1, y=0, width=12, height=12), 14), name) for name in used)
    return legend((box, words_of.STACK[name]) for box, name in boxes) + both_widths(draw)


def _shares(one: CellProfile) -> dict[str, float]:
    """Shares of the span in pipeline order, with the idle rest last; stages that overlap in time can make them sum to
    more than one, and are then scaled to it."""
    busy = sum(stage.us for stage in one.stages)
    whole = max(one.span_us, busy)
    return {**{str(stage.stage): stage.us / whole for stage in one.stages}, GAP: (whole - busy) / whole}


def _panel(plot: Plot, person: Person, bars: Mapping[int, CellProfile], step: float) -> None:
    """One solution's row: its name, the lines of 0, 50 and 100 %, and its bars by column."""
    canvas = plot.canvas
    canvas.mark(person.index, 13, plot.top - 26)
    canvas.text(24, plot.top - 22, person.label, f"name {colour_class(person.index)}")
    for share in (0.0, 0.5, 1.0):
        canvas.line(plot.left, plot.y(share), plot.x(max(bars) + 1), plot.y(share), "base" if share == 0 else "grid")
        canvas.text(plot.left - 6, plot.y(share) + 4, f.percent(share, 0), "tick", at="end")
    for column, one in bars.items():
        inset, below = min(4.0, step / 6), 0.0
        for name, share in _shares(one).items():
            if share > 0:
                said = f"{person.label}, {one.workload}: {words_of.STACK[name]} {f.percent(share)}"
                top, bottom = plot.y(below + share), plot.y(below)
                inside = element("title", said) if canvas.width == WIDE else ""
                box = {"x": plot.x(column) + inset, "y": top, "width": step - 2 * inset, "height": bottom - top}
                canvas.add("rect", inside, class_=f"st {name}", **box)
            below += share
        if step >= ROOM:
            canvas.text(plot.x(column + 0.5), plot.top - 5, f.count(round(one.span_us)), "tick", at="middle")


def _columns(canvas: Canvas, names: Sequence[str], left: float, step: float, y: float) -> None:
    """seq_lens under the last row; where they would touch, only every second, third, … one."""
    every = max(1, -(-14 // int(max(step, 1))))
    level = step >= 6.6 * max(map(len, names), default=1) + 8
    for number, name in enumerate(names):
        at = left + step * (number + 0.5)
        if level:
            canvas.text(at, y + 4, name, "tick", at="middle")
        elif number % every == 0:
            canvas.text(at + 4, y - 2, name, "tick", at="end", turn=-60)
