"""An analysis of many solutions cut down to those that a page shows.

Entry point: `narrowed`. What counts for the run as a whole, such as its conditions, stays.
"""

from dataclasses import replace
from typing import Any, TypeVar

from pydantic import BaseModel

from bakeoff.schema.analysis import Analysis
from bakeoff.schema.analysis_figures import ProtocolSummary, RankStability
from bakeoff.schema.analysis_findings import Findings, RankingFinding

Stored = TypeVar("Stored")


def narrowed(a: Analysis) -> Analysis:
    """The same document about the solutions in `shown` alone; as it is where that is empty."""
    if not a.shown:
        return a
    names = set(a.shown)
    return _about(
        a,
        names,
        participants=[who for who in a.participants if who.name in names],
        other_protocols=[_protocol(one, names) for one in a.other_protocols],
        pairs=[pair for pair in a.pairs if {pair.a, pair.b} <= names],
        rank_stability=a.rank_stability and _stability(a.rank_stability, names),
        findings=_findings(a.findings, names),
        profiles=a.profiles and _about(a.profiles, names),
        comparisons=[_about(one, names) for one in a.comparisons],
    )


def _about(part: Stored, names: set[str], **others: Any) -> Stored:
    """A stored object whose lists of rows hold those about one of the solutions. others: fields that are no such
    rows."""
    lists = {key: value for key, value in vars(part).items() if isinstance(value, list)}
    kept = {
        key: [row for row in rows if row.solution in names]
        for key, rows in lists.items()
        if rows and hasattr(rows[0], "solution")
    }
    if isinstance(part, BaseModel):
        return part.model_copy(update=kept | others)
    return replace(part, **kept, **others)  # type: ignore[type-var]


def _protocol(one: ProtocolSummary, names: set[str]) -> ProtocolSummary:
    return _about(one, names, overtakings=[two for two in one.overtakings if {two.faster, two.slower} <= names])


def _stability(found: RankStability, names: set[str]) -> RankStability:
    kept = [_about(one, names) for one in found.rankings if one.baseline in {"reference", *names}]
    return replace(found, rankings=kept, swaps=[pair for pair in found.swaps if names >= set(pair)])


def _findings(found: Findings, names: set[str]) -> Findings:
    return _about(
        found,
        names,
        ranking=found.ranking and _ranking(found.ranking, names),
        large_batch=found.large_batch and _about(found.large_batch, names),
        previous=[_about(one, names) for one in found.previous],
    )


def _ranking(found: RankingFinding, names: set[str]) -> RankingFinding:
    """Up to the first that is not shown: a step is from one place to the next."""
    order = found.order[: next((at for at, one in enumerate(found.order) if one.solution not in names), None)]
    return replace(
        found,
        order=order,
        steps=found.steps[: max(0, len(order) - 1)],
        leads={name: count for name, count in found.leads.items() if name in names},
        wins={name: count for name, count in found.wins.items() if name in names},
    )
