"""From an analysis to the series that the charts draw."""

from __future__ import annotations

from collections.abc import Callable

from markupsafe import Markup

from bakeoff.report.performance import estimate_text
from bakeoff.report.stages import rate
from bakeoff.report.svg import charts
from bakeoff.report.svg.charts import Point, Roof, Series, Words
from bakeoff.report.svg.grids import grid
from bakeoff.report.view import Person, RunView
from bakeoff.schema.analysis import Estimate
from bakeoff.schema.profile import CellProfile, ProfileSection
from bakeoff.tables import formats as f
from bakeoff.tables import words as words_of

# A chart of more lines or rows than this is no longer readable; the table has all of them.
MOST_ROWS, MOST_LINES = 60, 12


def _title(person: Person, workload: str, value: Estimate) -> str:
    interval = estimate_text(value)
    return f"{person.label}, {workload}: {f.speedup(value.value)}" + (f" ({interval})" if interval else "")


def drawn(view: RunView) -> list[Person]:
    """The participants that charts show: those with values, contestants first, as many as a chart can hold; no
    twins."""
    measured = {c.solution for c in view.a.cells if c.speedup}
    return [p for p in view.people if p.name in measured and p.twin_of is None][:MOST_LINES]


def over_seq_len(view: RunView, words: Words) -> Markup:
    """Speedup over seq_len, one line per participant."""
    lines = []
    for person in drawn(view):
        points = []
        for workload in view.a.workloads:
            value = view.speedup(person.name, workload.id)
            if value is not None:
                points.append(
                    Point(workload.seq_len, value.value, value.low, value.high, _title(person, workload.id, value))
                )
        lines.append(Series(person.index, person.label, points))
    return charts.over_seq_len("fig-seq-len", lines, words)


def by_workload(view: RunView, words: Words) -> Markup:
    """One line per workload with every participant's speedup and interval."""
    shown = view.a.workloads[-MOST_ROWS:]
    series = []
    for person in drawn(view):
        points = []
        for row, workload in enumerate(shown):
            value = view.speedup(person.name, workload.id)
            if value is not None:
                points.append(Point(value.value, row, value.low, value.high, _title(person, workload.id, value)))
        series.append(Series(person.index, person.label, points))
    return charts.by_workload("fig-workloads", [w.id.replace("_", " ") for w in shown], series, words)


def profile(view: RunView, words: Words) -> Markup:
    """The performance profile, one step line per participant."""
    series = []
    for curve in view.a.profile[:MOST_LINES]:
        person = view.by_name[curve.solution]
        points = [
            Point(x, y, title=f"{person.label}: {f.percent(y, 0)} ≤ {f.speedup(x)}")
            for x, y in zip(curve.factors, curve.shares, strict=True)
        ]
        series.append(Series(person.index, person.label, points))
    return charts.performance_profile("fig-profile", series, words)


def winners(view: RunView, words: Words) -> Markup:
    """Solutions × workloads: who leads with support, who leads or ties without, who is the same, who only ran, who has
    no value."""

    def state(person: Person, workload: str) -> str:
        winner = view.winners.get(workload)
        if view.speedup(person.name, workload) is None:
            return "none"
        if winner is None or winner.leader is None:
            return "ran"
        if winner.leader == person.name:
            return "win" if winner.supported else "lead"
        if winner.basis != "blocks" or person.name not in winner.tied:
            return "ran"
        return "same" if person.name in winner.same else "tie"

    return _grid(view, "fig-winners", [*view.contestants], state, words)


def outcomes(view: RunView, words: Words) -> Markup:
    """Solutions × workloads: passed, failed, or no result."""

    def state(person: Person, workload: str) -> str:
        found = view.cells.get((person.name, workload))
        if found is None or found.outcome in ("NOT_RUN", "UNSUPPORTED"):
            return "none"
        return "pass" if found.outcome == "PASSED" else "fail"

    return _grid(view, "fig-outcomes", view.people, state, words)


def _grid(view: RunView, id_: str, people: list[Person], state: Callable[[Person, str], str], words: Words) -> Markup:
    shown = view.a.workloads[-MOST_ROWS:]
    rows = [(p.index, p.label, [state(p, w.id) for w in shown]) for p in people]
    return grid(id_, [view.tick(w.id) for w in shown], rows, words, words_of.STATES)


def roofline(view: RunView, words: Words) -> Markup:
    """All profiled cells below the roofs of the sourced peaks and of the rates measured on the host; empty without
    peaks."""
    section = view.a.profiles
    roofs = _roofs(view, section) if section else []
    if section is None or not roofs:
        return Markup("")
    series = []
    for person in view.people:
        points = [_point(person, one) for one in section.cells if one.solution == person.name]
        if points:
            series.append(Series(person.index, person.label, points))
    return charts.roofline("fig-roofline", series[:MOST_LINES], roofs, words) if series else Markup("")


def _roofs(view: RunView, section: ProfileSection) -> list[Roof]:
    """Slopes in TFLOP/s per FLOP/byte, that is in TB/s; a rate that could not be had leaves its roof out."""
    found = []
    if section.peak_gbs and section.peak_tflops:
        found.append(Roof(section.peak_gbs / 1e3, section.peak_tflops, words_of.ROOFS["peak"]))
    ceilings = section.ceilings
    if ceilings and ceilings.fp8_tflops:
        found.append(Roof(ceilings.copy_gbs / 1e3, ceilings.fp8_tflops, words_of.ROOFS["measured"]))
    return found


def _point(person: Person, cell: CellProfile) -> Point:
    share = "" if cell.floor_share is None else f" ({f.percent(cell.floor_share, 0)})"
    return Point(
        cell.intensity, rate(cell), title=f"{person.label}, {cell.workload}: {f.significant(rate(cell))} TFLOP/s{share}"
    )
