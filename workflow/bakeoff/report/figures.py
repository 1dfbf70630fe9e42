"""From an analysis to the series that the charts draw."""

from collections.abc import Callable, Collection, Sequence

from markupsafe import Markup

from bakeoff.report.performance import estimate_text
from bakeoff.report.svg import charts
from bakeoff.report.svg.charts import MOST_LINES, MOST_ROWS, Point, Roof, Series, Words
from bakeoff.report.svg.grids import grid
from bakeoff.report.view import Person, RunView
from bakeoff.schema.analysis_figures import Ranked
from bakeoff.schema.analysis_run import AnalysedWorkload
from bakeoff.schema.base import Estimate
from bakeoff.schema.profile import CellProfile, ProfileSection
from bakeoff.tables import formats as f
from bakeoff.tables import words as words_of


def _shown(view: RunView, named: Collection[str]) -> list[Person]:
    """Those of some that charts show: contestants first, as many as a chart can hold; no twins."""
    return [p for p in view.people if p.name in named and p.twin_of is None][:MOST_LINES]


def _series(
    people: Sequence[Person],
    shown: Sequence[AnalysedWorkload],
    figure: Callable[[str, str], Estimate | None],
    said: Callable[[Estimate], str],
) -> list[Series]:
    """The line over seq_len of each of some people; figure: the value of a solution at a workload."""
    return [
        Series(p.index, p.label, [_point(p, w, found, said) for w in shown if (found := figure(p.name, w.id))])
        for p in people
    ]


def _point(person: Person, w: AnalysedWorkload, found: Estimate, said: Callable[[Estimate], str]) -> Point:
    return Point(w.seq_len, found.value, found.low, found.high, f"{person.label}, {w.id}: {said(found)}")


def _speedup(found: Estimate) -> str:
    ends = estimate_text(found)
    return f.speedup(found.value) + (f" ({ends})" if ends else "")


def _behind(found: Estimate) -> str:
    if found.low is None or found.high is None:
        return f.signed_percent(found.value - 1)
    return (
        f"{f.signed_percent(found.value - 1)} ({f.signed_percent(found.low - 1)} to {f.signed_percent(found.high - 1)})"
    )


def over_seq_len(view: RunView, words: Words) -> Markup:
    """Speedup over seq_len, one line per participant."""
    people = _shown(view, {c.solution for c in view.a.cells if c.speedup})
    return charts.over_seq_len("fig-seq-len", _series(people, view.a.workloads, view.speedup, _speedup), words)


def latencies(view: RunView, words: Words, id_: str = "fig-latency") -> Markup:
    """Latency over seq_len, one line per participant, with the floor, and with the time that the leader's call takes
    the host where it was profiled."""
    people = _shown(view, {c.solution for c in view.a.cells if c.latency_us})
    lines = _series(people, view.a.workloads, view.latency, lambda found: f.duration(found.value))
    floor = [Point(w.seq_len, w.floor_us) for w in view.a.workloads if w.floor_us]
    sizes = {w.id: w.seq_len for w in view.a.workloads}
    host = [Point(sizes[c.workload], c.host_us) for c in view.host_cells if c.workload in sizes]
    lines += [Series(None, "floor", floor)] * bool(floor) + [Series(None, "host time", host, "1 3")] * bool(host)
    return charts.over_seq_len(id_, lines, words, lambda us: f.duration(us))


def behind(view: RunView, words: Words, id_: str = "fig-behind", style: str = "") -> Markup:
    """How far every participant is behind the fastest, one line per workload; with a style sheet, as a picture of its
    own."""
    shown = [w for w in view.a.workloads if w.id in view.fastest][-MOST_ROWS:]
    series = []
    for person in _shown(view, {c.solution for c in view.a.cells if c.speedup}):
        points = []
        for number, w in enumerate(shown):
            if found := view.behind(person.name, view.fastest[w.id], w.id):
                low, high = (None if end is None else end - 1 for end in (found.low, found.high))
                points.append(Point(found.value - 1, number, low, high, f"{person.label}, {w.id}: {_behind(found)}"))
        series.append(Series(person.index, person.label, points))
    return charts.behind(id_, [w.id.replace("_", " ") for w in shown], series, words, style)


def orders(view: RunView, words: Words) -> Markup:
    """How far every solution is behind the fastest under each protocol, each set of workloads below the first protocol
    on the same ones."""
    rows: list[tuple[str, list[Ranked]]] = []
    before: list[str] = []
    for one in view.a.other_protocols:
        if one.workloads != before:
            said = "" if len(one.workloads) == len(view.a.workloads) else f", {len(one.workloads)} workloads"
            rows.append((f"{view.a.run.protocol}{said}", one.first_order))
            before = one.workloads
        rows.append((one.protocol, one.order))
    series = []
    for person in _shown(view, {each.solution for _, order in rows for each in order}):
        points = [
            Point(each.value - 1, place, title=f"{person.label}, {name}: {f.signed_percent(each.value - 1)}")
            for place, (name, order) in enumerate(rows)
            for each in order
            if each.solution == person.name
        ]
        series.append(Series(person.index, person.label, points))
    return charts.behind("fig-orders", [name for name, _ in rows], series, words)


def samples(view: RunView, workload: str, words: Words) -> Markup:
    """The time of every process at a workload, a line per solution, as its share above the fastest one's median; empty
    where there are not several."""
    people = _shown(view, {c.solution for c in view.a.cells if c.workload == workload and c.median_us})
    cells = [view.cells[person.name, workload] for person in people]
    if max((len(c.block_us) for c in cells), default=0) < 2:
        return Markup("")
    least = min(c.median_us.value for c in cells if c.median_us)
    series = [
        Series(who.index, who.label, [Point(us / least - 1, row) for us in c.block_us])
        for row, (who, c) in enumerate(zip(people, cells, strict=True))
    ]
    return charts.behind(f"fig-samples-{workload}", [who.label for who in people], series, words, small=True)


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
        Series(person.index, person.label, [_mark(person, one) for one in cells if one.solution == person.name])
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


def _mark(person: Person, cell: CellProfile) -> Point:
    share = "" if cell.floor_share is None else f" ({f.percent(cell.floor_share, 0)})"
    said = f"{person.label}, {cell.workload}: {f.significant(cell.span_tflops)} TFLOP/s{share}"
    return Point(cell.intensity, cell.span_tflops, title=said)
