"""An analysis of many solutions cut down to those that a page shows.

Entry point: `narrowed`. What counts for the run as a whole, such as its conditions, stays.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import TypeVar

from bakeoff.schema.analysis import Analysis
from bakeoff.schema.analysis_figures import Pair, ProtocolSummary, RankStability
from bakeoff.schema.analysis_findings import Findings, LargeBatchFinding, RankingFinding

Row = TypeVar("Row")


def narrowed(a: Analysis) -> Analysis:
    """The same document about the solutions in `shown` alone; as it is where that is empty."""
    if not a.shown:
        return a
    names = set(a.shown)
    return a.model_copy(
        update={
            "participants": [who for who in a.participants if who.name in names],
            "cells": _of(a.cells, names),
            "verifications": _of(a.verifications, names),
            "summaries": _of(a.summaries, names),
            "other_protocols": [_protocol(one, names) for one in a.other_protocols],
            "pairs": _pairs(a.pairs, names),
            "rank_stability": _stability(a.rank_stability, names),
            "profile": _of(a.profile, names),
            "findings": _findings(a.findings, names),
            "builds": _of(a.builds, names),
            "profiles": a.profiles
            and a.profiles.model_copy(
                update={"cells": _of(a.profiles.cells, names), "coverage": _of(a.profiles.coverage, names)}
            ),
            "comparisons": [one.model_copy(update={"cells": _of(one.cells, names)}) for one in a.comparisons],
        }
    )


def _of(rows: Iterable[Row], names: Collection[str]) -> list[Row]:
    """The rows about one of the solutions."""
    return [row for row in rows if row.solution in names]  # type: ignore[attr-defined]


def _pairs(pairs: Iterable[Pair], names: Collection[str]) -> list[Pair]:
    return [pair for pair in pairs if pair.a in names and pair.b in names]


def _protocol(one: ProtocolSummary, names: Collection[str]) -> ProtocolSummary:
    return replace(
        one,
        summaries=_of(one.summaries, names),
        order=_of(one.order, names),
        first_order=_of(one.first_order, names),
        cells=_of(one.cells, names),
        overtakings=[pair for pair in one.overtakings if pair.faster in names and pair.slower in names],
    )


def _stability(found: RankStability | None, names: Collection[str]) -> RankStability | None:
    if found is None:
        return None
    kept = [ranking for ranking in found.rankings if ranking.baseline in {"reference", *names}]
    rankings = [replace(ranking, order=_of(ranking.order, names)) for ranking in kept]
    swaps = [pair for pair in found.swaps if names >= set(pair)]  # type: ignore[operator]
    return replace(found, rankings=rankings, swaps=swaps)


def _findings(found: Findings, names: Collection[str]) -> Findings:
    return found.model_copy(
        update={
            "ranking": found.ranking and _ranking(found.ranking, names),
            "large_batch": found.large_batch and _large(found.large_batch, names),
            "consistency": _of(found.consistency, names),
            "previous": [replace(one, rows=_of(one.rows, names)) for one in found.previous],
        }
    )


def _ranking(found: RankingFinding, names: Collection[str]) -> RankingFinding:
    """Up to the first that is not shown: a step is from one place to the next."""
    order = found.order[: next((at for at, one in enumerate(found.order) if one.solution not in names), None)]
    return replace(
        found,
        order=order,
        steps=found.steps[: max(0, len(order) - 1)],
        leads={name: count for name, count in found.leads.items() if name in names},
        wins={name: count for name, count in found.wins.items() if name in names},
    )


def _large(found: LargeBatchFinding, names: Collection[str]) -> LargeBatchFinding:
    return replace(found, rows=_of(found.rows, names))
