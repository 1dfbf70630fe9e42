"""The tables that set solutions against each other: pairs, verdicts, performance profile, rankings, key findings."""

from dataclasses import replace
from functools import partial

from bakeoff.report.view import RunView
from bakeoff.schema.analysis_figures import ProfileCurve
from bakeoff.schema.analysis_findings import PreviousFinding
from bakeoff.schema.base import Verdict
from bakeoff.tables import formats as f
from bakeoff.tables import shared, words
from bakeoff.tables.table import Column, Row, Table, flat, frame, frame_of, number

FACTORS = (1.0, 1.02, 1.05, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
_TONES = {1: "good", 0: "mute", -1: "bad"}


def pairs(view: RunView) -> Table:
    """Every two solutions: overall ratio, who is ahead where, and the counts of verdicts."""
    decided = any(entry.verdict for pair in view.a.pairs for entry in pair.verdicts)
    columns = [
        view.who("a", "First", head=True),
        view.who("b", "Second"),
        shared.ratio("ratio", "Ratio", interval=True),
        number("workloads", "" if decided else "Workloads"),  # the counts of verdicts add up to them
        number("a_ahead", "First ahead"),
        number("b_ahead", "Second ahead"),
        *(number(verdict.lower(), words.VERDICTS[verdict] if decided else "") for verdict in Verdict),
    ]
    counts = ({verdict.lower(): pair.counts.get(verdict, 0) for verdict in Verdict} for pair in view.a.pairs)
    rows = ({**flat(pair), **count} for pair, count in zip(view.a.pairs, counts, strict=True))
    return Table("pairs", frame(rows), columns)


def verdicts(view: RunView) -> Table:
    """Every pair on every workload that has a verdict: ratio, interval, corrected p values, minimum detectable
    effect."""
    robust = shared.ratio("without_outliers", "Without outlier processes", missing="–", interval=True)
    columns = [
        view.who("a", "First", head=True, marked=False),
        view.who("b", "Second", marked=False),
        Column("workload", "Workload"),
        shared.worded("verdict", "Verdict", words.VERDICTS, tone=lambda row: _TONES[row["verdict"].direction]),
        shared.ratio("ratio", "Ratio", interval=True),
        replace(robust, note=lambda row: ", ".join(filter(None, (robust.ends(row), row["rests_on"])))),
        Column("rests_on"),
        number("blocks", "Blocks"),
        number("p_difference", "p, difference", partial(f.significant, digits=2)),
        number("p_equivalence", "p, equivalence", partial(f.significant, digits=2)),
        number("p_margin", "p, 2 % or more", partial(f.significant, digits=2)),
        shared.percent("minimum_detectable_effect", "Detectable"),
    ]
    rows = (
        {
            **{"a": pair.a, "b": pair.b, "minimum_detectable_effect": entry.mde, **flat(entry)},
            "rests_on": view.rests_on(pair.a, pair.b, entry.workload),
        }
        for pair in view.a.pairs
        for entry in pair.verdicts
        if entry.verdict is not None
    )
    return Table("verdicts", frame(rows), columns)


def profile(view: RunView) -> Table:
    """The performance profile read off at round factors."""

    def within(curve: ProfileCurve, factor: float) -> float:
        reached = (share for x, share in zip(curve.factors, curve.shares, strict=True) if x <= factor)
        return max(reached, default=0.0)

    columns = [
        view.who(head=True),
        *(shared.share(f"within_{factor:g}", f.speedup(factor)) for factor in FACTORS),
    ]
    rows = (
        {"solution": curve.solution} | {f"within_{factor:g}": within(curve, factor) for factor in FACTORS}
        for curve in view.a.profile
    )
    return Table("profile", frame(rows), columns)


def rankings(view: RunView) -> Table:
    """The order of contestants under every aggregate and baseline, one column per place."""
    entries = view.a.rank_stability.rankings if view.a.rank_stability else []
    columns = [
        shared.worded("aggregate", "Aggregate", words.AGGREGATES, head=True),
        view.who("baseline", "Baseline", marked=False),
    ]
    rows = [flat(entry) for entry in entries]
    for number_, entry in enumerate(entries):
        for place, ranked in enumerate(entry.order, 1):
            rows[number_] |= {f"place_{place}": ranked.solution, f"value_{place}": ranked.value}
    for place in range(1, max((len(entry.order) for entry in entries), default=0) + 1):
        value = Column(f"value_{place}")
        columns += [view.who(f"place_{place}", f"{place}.", note=partial(_ranked_value, value.key)), value]
    return Table("rankings", frame(rows), columns)


def _ranked_value(key: str, row: Row) -> str:
    value = row[key]
    if value is None:
        return ""
    if row["aggregate"] == "leads":
        return f.count(int(value))
    return f.duration(value) if row["aggregate"] == "total_latency" else f.speedup(value)


def large_batch(view: RunView) -> Table:
    """Small against large workloads, one row per solution."""
    found = view.a.findings.large_batch
    columns = [
        view.who(head=True),
        shared.speedup("small", "Small"),
        shared.speedup("large", "Large"),
        shared.share("kept", "Kept"),
    ]
    return Table("large_batch", frame_of(found.rows if found else ()), columns)


def consistency(view: RunView) -> Table:
    """Coefficient of variation and spread, most consistent first."""
    columns = [
        view.who(head=True),
        shared.percent("cv_sample", "CV (sample)"),
        shared.percent("cv_population", "CV (population)"),
        shared.speedup("spread", "Greatest over least"),
    ]
    return Table("consistency", frame_of(view.a.findings.consistency), columns)


def previous(view: RunView, place: int, finding: PreviousFinding) -> Table:
    """This run over another one, one row per solution; `place` counts from 1 and names the table."""
    columns = [
        view.who(head=True, marked=False),
        number("workloads", "Workloads"),
        shared.ratio("ratio", "Geometric mean", unit=f.TIMES),
        shared.speedup("least", "Least"),
        shared.speedup("greatest", "Greatest"),
        number("reproduced", "Same", missing="–"),
        number("differs", "Different", missing="–"),
    ]
    return Table(f"previous_{place}", frame_of(finding.rows), columns)
