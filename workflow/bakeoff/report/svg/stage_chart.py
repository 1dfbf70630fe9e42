"""The chart of stages: for each profiled solution one row of stacked bars over seq_len, each bar a call's span by
stage.

Entry point: `over_seq_len`. Shares make workloads of 70 µs and of 1.4 ms comparable; the span stands above each bar
where it fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from bakeoff.report.svg.charts import NARROW, WIDE, Words, both_widths, sized
from bakeoff.report.svg.elements import Canvas, Scale, colour_class, element, key, legend
from bakeoff.report.svg.figures import MOST_LINES, MOST_ROWS
from bakeoff.report.view import Person, RunView
from bakeoff.schema.profile import CellProfile, ProfileSection
from bakeoff.tables import formats as f
from bakeoff.tables import words as words_of

GAP = "gap"
# A bar this wide has room for its span in whole microseconds.
ROOM = 30.0


@dataclass(frozen=True)
class Bar:
    """One profiled cell: the parts of its span in pipeline order with the idle rest last, as (name, share)."""

    column: int
    parts: Sequence[tuple[str, float]]
    cell: CellProfile


@dataclass(frozen=True)
class Panel:
    """Where one solution's row of bars stands."""

    top: float
    left: float
    step: float
    y: Scale


def over_seq_len(view: RunView, words: Words) -> Markup:
    """Bars of every profiled solution, one row each, the workloads in the same columns in all rows."""
    section = view.a.profiles
    if section is None:
        return Markup("")
    profiled = {one.workload for one in section.cells}
    columns = [w.id for w in view.a.workloads if w.id in profiled][-MOST_ROWS:]
    names = {one.solution for one in section.cells}
    rows = [(person, _bars(section, person, columns)) for person in view.people if person.name in names][:MOST_LINES]
    used = [name for name in [*section.stages, GAP] if any(share for _, bars in rows for share in _of(bars, name))]

    def draw(wide: bool) -> Canvas:
        tall = 158.0 if wide else 128.0
        canvas = sized("fig-stages", words, wide, tall * len(rows) + 72)
        left = 52.0 if wide else 42.0
        step = min(((WIDE if wide else NARROW) - left - 8) / len(columns), 72.0)
        for number, (person, bars) in enumerate(rows):
            top = tall * number + 40
            _panel(canvas, view, person, bars, Panel(top, left, step, Scale(0, 1, top + tall - 52, top)))
        _columns(canvas, [view.tick(name) for name in columns], left, step, tall * len(rows) + 8)
        canvas.text(8, canvas.height - 8, f"{words.x}; {words.y}" if step >= ROOM else words.x, "axis")
        return canvas

    boxes = ((key(element("rect", class_=f"st {name}", x=1, y=0, width=12, height=12), 14), name) for name in used)
    return legend((box, words_of.STACK[name]) for box, name in boxes) + both_widths(draw)


def _of(bars: Sequence[Bar], name: str) -> list[float]:
    return [share for bar in bars for part, share in bar.parts if part == name]


def _bars(section: ProfileSection, person: Person, columns: Sequence[str]) -> list[Bar]:
    place = {name: number for number, name in enumerate(columns)}
    own = [one for one in section.cells if one.solution == person.name and one.workload in place]
    return [Bar(place[one.workload], _parts(one), one) for one in own]


def _parts(one: CellProfile) -> list[tuple[str, float]]:
    """Shares of the span; stages that overlap in time can make them sum to more than one, and are then scaled to it."""
    times = [(str(stage.stage), stage.us) for stage in one.stages]
    busy = sum(us for _, us in times)
    whole = max(one.span_us, busy)
    return [*((name, us / whole) for name, us in times), (GAP, (whole - busy) / whole)]


def _panel(canvas: Canvas, view: RunView, person: Person, bars: Sequence[Bar], panel: Panel) -> None:
    wide = canvas.width == WIDE
    right = panel.left + panel.step * (1 + max((bar.column for bar in bars), default=0))
    canvas.mark(person.index, 13, panel.top - 26)
    canvas.text(24, panel.top - 22, person.label, f"name {colour_class(person.index)}")
    for share in (0.0, 0.5, 1.0):
        canvas.line(panel.left, panel.y(share), right, panel.y(share), "base" if share == 0 else "grid")
        canvas.text(panel.left - 6, panel.y(share) + 4, f.percent(share, 0), "tick", at="end")
    for bar in bars:
        _stack(canvas, view, person, bar, panel, titled=wide)
        if panel.step >= ROOM:
            middle = panel.left + panel.step * (bar.column + 0.5)
            canvas.text(middle, panel.top - 5, f.count(round(bar.cell.span_us)), "tick", at="middle")


def _stack(canvas: Canvas, view: RunView, person: Person, bar: Bar, panel: Panel, *, titled: bool) -> None:
    inset = min(4.0, panel.step / 6)
    x, width, below = panel.left + panel.step * bar.column + inset, panel.step - 2 * inset, 0.0
    for name, share in bar.parts:
        if share > 0:
            top, bottom = panel.y(below + share), panel.y(below)
            said = f"{person.label}, {bar.cell.workload}: {words_of.STACK[name]} {f.percent(share)}"
            inside = element("title", said) if titled else ""
            canvas.add("rect", inside, class_=f"st {name}", x=x, y=top, width=width, height=bottom - top)
        below += share


def _columns(canvas: Canvas, names: Sequence[str], left: float, step: float, y: float) -> None:
    """seq_lens under the last row; where they would touch, only every second, third, … one."""
    every = max(1, -(-14 // int(max(step, 1))))
    longest = 6.6 * max(map(len, names), default=1)
    for number, name in enumerate(names):
        at = left + step * (number + 0.5)
        if step >= longest + 8:
            canvas.text(at, y + 4, name, "tick", at="middle")
        elif number % every == 0:
            canvas.text(at + 4, y - 2, name, "tick", at="end", turn=-60)
