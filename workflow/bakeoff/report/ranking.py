"""The tables that set solutions against each other: pairs, verdicts, performance profile, rankings."""

from __future__ import annotations

from bakeoff.report import formats as f
from bakeoff.report.performance import estimate_text
from bakeoff.report.tables import Cell, Column, Table, cell
from bakeoff.report.view import View
from bakeoff.schema.analysis import Estimate, Verdict

_VERDICT_TONES = {Verdict.FASTER: "good", Verdict.SLOWER: "bad", Verdict.SAME: "", Verdict.AMBIGUOUS: "mute"}


def pairs(view: View) -> Table:
    """Every two solutions: overall ratio, who is ahead where, and the counts of verdicts."""
    columns = [
        Column("a", head=True),
        Column("b"),
        Column("ratio", numeric=True),
        Column("ratio_low", shown=False),
        Column("ratio_high", shown=False),
    ]
    decided = any(entry.verdict for pair in view.a.pairs for entry in pair.verdicts)
    # The counts of verdicts add up to the workloads.
    columns += [Column("workloads", numeric=True, shown=not decided)]
    columns += [Column(key, numeric=True) for key in ("a_ahead", "b_ahead")]
    columns += [Column(key, numeric=True, shown=decided) for key in ("faster", "slower", "same", "ambiguous")]
    rows = []
    for pair in view.a.pairs:
        head = [
            cell(pair.a, view.label(pair.a), mark=view.by_name[pair.a].index),
            cell(pair.b, view.label(pair.b), mark=view.by_name[pair.b].index),
        ]
        rows.append(
            [
                *head,
                *_ratio(pair.ratio),
                *[
                    cell(n)
                    for n in (
                        pair.workloads,
                        pair.a_ahead,
                        pair.b_ahead,
                        pair.faster,
                        pair.slower,
                        pair.same,
                        pair.ambiguous,
                    )
                ],
            ]
        )
    return Table("pairs", columns, rows)


def _ratio(estimate: Estimate | None) -> list[Cell]:
    if estimate is None:
        return [cell(None)] * 3
    return [
        cell(estimate.value, f.fixed(estimate.value, 3), note=estimate_text(estimate, 3)),
        cell(estimate.low),
        cell(estimate.high),
    ]


def verdicts(view: View) -> Table:
    """Every pair on every workload that has a verdict: ratio, interval, corrected p values, minimum detectable
    effect."""
    columns = [
        Column("a", head=True),
        Column("b"),
        Column("workload"),
        Column("verdict"),
        Column("ratio", numeric=True),
    ]
    columns += [Column("ratio_low", shown=False), Column("ratio_high", shown=False)]
    columns += [
        Column(key, numeric=True) for key in ("blocks", "p_difference", "p_equivalence", "minimum_detectable_effect")
    ]
    rows = [
        [
            cell(pair.a, view.label(pair.a)),
            cell(pair.b, view.label(pair.b)),
            cell(entry.workload),
            cell(entry.verdict.value, tone=_VERDICT_TONES[entry.verdict]),
            *_ratio(entry.ratio),
            cell(entry.blocks),
            cell(entry.p_difference, f.significant(entry.p_difference, 2)),
            cell(entry.p_equivalence, f.significant(entry.p_equivalence, 2)),
            cell(entry.mde, f.percent(entry.mde)),
        ]
        for pair in view.a.pairs
        for entry in pair.verdicts
        if entry.verdict is not None
    ]
    return Table("verdicts", columns, rows)


def profile(view: View, factors: tuple[float, ...] = (1.0, 1.02, 1.05, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0)) -> Table:
    """The performance profile read off at round factors."""
    columns = [
        Column("solution", head=True),
        *[Column(f"within_{factor:g}", f.fixed(factor, 2, f.TIMES), numeric=True) for factor in factors],
    ]
    rows = []
    for curve in view.a.profile:
        person = view.by_name[curve.solution]
        shares = [
            max((s for x, s in zip(curve.factors, curve.shares, strict=True) if x <= factor), default=0.0)
            for factor in factors
        ]
        rows.append(
            [
                cell(curve.solution, person.label, mark=person.index),
                *[cell(share, f.percent(share, 0)) for share in shares],
            ]
        )
    return Table("profile", columns, rows)


def rankings(view: View) -> Table:
    """The order of contestants under every aggregate and baseline, one column per place."""
    stability = view.a.rank_stability
    entries = stability.rankings if stability else []
    places = max((len(entry.order) for entry in entries), default=0)
    columns = [Column("aggregate", head=True), Column("baseline")]
    for place in range(1, places + 1):
        columns += [Column(f"place_{place}", f"{place}."), Column(f"value_{place}", shown=False)]
    rows = []
    for entry in entries:
        row = [
            cell(entry.aggregate, view.word("aggregates", entry.aggregate)),
            cell(entry.baseline, view.label(entry.baseline)),
        ]
        for ranked in entry.order:
            note = _ranked_value(entry.aggregate, ranked.value)
            row += [
                cell(ranked.solution, view.label(ranked.solution), note=note, mark=view.by_name[ranked.solution].index),
                cell(ranked.value),
            ]
        row += [cell(None)] * (2 * (places - len(entry.order)))
        rows.append(row)
    return Table("rankings", columns, rows)


def _ranked_value(aggregate: str, value: float) -> str:
    if aggregate == "leads":
        return f.count(int(value))
    return f.duration(value) if aggregate == "total_latency" else f.speedup(value)
