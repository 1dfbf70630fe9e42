"""From an analysis to the series that the charts draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from markupsafe import Markup

from bakeoff.report.performance import estimate_text
from bakeoff.report.svg import charts
from bakeoff.report.svg.charts import Point, Roof, Series, Words
from bakeoff.report.svg.grids import grid
from bakeoff.report.view import Person, RunView
from bakeoff.schema.analysis_run import AnalysedWorkload
from bakeoff.schema.base import Estimate
from bakeoff.schema.profile import CellProfile, ProfileSection
from bakeoff.tables import formats as f
from bakeoff.tables import words as words_of

# A chart of more lines or rows than this is no longer readable; the table has all of them.
MOST_ROWS, MOST_LINES = 60, 12
Place = tuple[float, float]


def _series(view: RunView, shown: Sequence[AnalysedWorkload], place: Callable[[int, float], Place]) -> list[Series]:
    """The speedups of those that charts show: with values, contestants first, as many as a chart can hold; no twins.
    place: a point's coordinates from its workload's number in `shown` and its value."""
    measured = {c.solution for c in view.a.cells if c.speedup}
    found = []
    for person in [p for p in view.people if p.name in measured and p.twin_of is None][:MOST_LINES]:
        points = [
            Point(*place(number, value.value), value.low, value.high, _title(person, w.id, value))
            for number, w in enumerate(shown)
            if (value := view.speedup(person.name, w.id)) is not None
        ]
        found.append(Series(person.index, person.label, points))
    return found


def _title(person: Person, workload: str, value: Estimate) -> str:
    interval = estimate_text(value)
    return f"{person.label}, {workload}: {f.speedup(value.value)}" + (f" ({interval})" if interval else "")


def over_seq_len(view: RunView, words: Words) -> Markup:
    """Speedup over seq_len, one line per participant."""
    shown = view.a.workloads
    lines = _series(view, shown, lambda number, value: (shown[number].seq_len, value))
    return charts.over_seq_len("fig-seq-len", lines, words)


def by_workload(view: RunView, words: Words) -> Markup:
    """One line per workload with every participant's speedup and interval."""
    shown = view.a.workloads[-MOST_ROWS:]
    series = _series(view, shown, lambda number, value: (value, number))
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
    """Solutions × workloads: who leads with support, who leads or ties without, who is the same, who only ran."""
    return _grid(view, "fig-winners", [*view.contestants], view.standing, words)


def outcomes(view: RunView, words: Words) -> Markup:
    """Solutions × workloads: passed, failed, or no result."""
    return _grid(view, "fig-outcomes", view.people, view.fate, words)


def _grid(view: RunView, id_: str, people: list[Person], state: Callable[[str, str], str], words: Words) -> Markup:
    shown = view.a.workloads[-MOST_ROWS:]
    rows = [(p.index, p.label, [state(p.name, w.id) for w in shown]) for p in people]
    return grid(id_, [view.tick(w.id) for w in shown], rows, words, words_of.STATES)


def roofline(view: RunView, words: Words) -> Markup:
    """All profiled cells below the roofs of the sourced peaks and of the rates measured on the host; empty without
    peaks."""
    section = view.a.profiles
    roofs, cells = (_roofs(section), section.cells) if section else ([], [])
    series = [
        Series(person.index, person.label, [_point(person, one) for one in cells if one.solution == person.name])
        for person in view.people
    ]
    drawn = [one for one in series if one.points][:MOST_LINES]
    return charts.roofline("fig-roofline", drawn, roofs, words) if roofs and drawn else Markup("")


def _roofs(section: ProfileSection) -> list[Roof]:
    """Slopes in TFLOP/s per FLOP/byte, that is in TB/s; a rate that could not be had leaves its roof out."""
    here = section.ceilings
    measured = (here.copy_gbs, here.fp8_tflops) if here else (None, None)
    rates = {"peak": (section.peak_gbs, section.peak_tflops), "measured": measured}
    return [Roof(gbs / 1e3, tflops, words_of.ROOFS[name]) for name, (gbs, tflops) in rates.items() if gbs and tflops]


def _point(person: Person, cell: CellProfile) -> Point:
    share = "" if cell.floor_share is None else f" ({f.percent(cell.floor_share, 0)})"
    said = f"{person.label}, {cell.workload}: {f.significant(cell.span_tflops)} TFLOP/s{share}"
    return Point(cell.intensity, cell.span_tflops, title=said)
