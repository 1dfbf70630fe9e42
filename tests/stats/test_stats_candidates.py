"""Many candidates: compared with anchors and among the fastest, and nothing else of the analysis changes by that."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from bakeoff.report.render import render
from bakeoff.schema.analysis import Analysis
from bakeoff.schema.analysis_figures import Pair
from bakeoff.stats import pairs
from support.make import FOUR, Made, analysed

CANDIDATES = [f"candidate_{number:02}" for number in range(20)]


def candidates(contestants: bool) -> Made:
    """Twenty candidates with drawn speeds beside the four contestants, or as contestants themselves."""
    draw = random.Random(3)
    speed = {name: (draw.uniform(2, 40), draw.uniform(2, 20)) for name in CANDIDATES}
    return Made(
        name="many",
        blocks=5,
        workloads=[(1, 32), (80, 96)],
        speed={**FOUR, **speed},
        peers=[] if contestants else CANDIDATES,
    )


def corrected(pair: Pair) -> dict[str, object]:
    """What the correction decides of a pair."""
    return {"verdicts": pair.verdicts, "counts": pair.counts}


def all_but_pairs(document: Analysis) -> dict[str, object]:
    kept = {"pairs", "shown", "anchors", "rank_stability"}
    return document.model_dump(exclude={**dict.fromkeys(kept, True), "cells": {"__all__": {"mde"}}})


@pytest.mark.parametrize("contestants", [False, True])
def test_candidates_meet_the_anchors_and_the_fastest_each_other(
    contestants: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = analysed(candidates(contestants))
    monkeypatch.setattr(pairs, "MOST", 100)
    every = analysed(candidates(contestants))
    means = {summary.solution: summary.geometric_mean.value for summary in every.summaries if summary.geometric_mean}
    fastest = sorted(means, key=lambda name: -means[name])
    anchors = fastest[:1] if contestants else list(FOUR)
    met = {(pair.a, pair.b): pair for pair in few.pairs}
    for pair in every.pairs:
        due = {pair.a, pair.b} & set(anchors) or {pair.a, pair.b} <= set(fastest[: pairs.LEADING])
        here = met.get((pair.a, pair.b))
        assert (here is not None) == bool(due)
        # With an anchor the correction is over all candidates: tests/stats/test_stats_selection.py.
        same = pair if here is None or {pair.a, pair.b} & set(anchors) == set() else replace(pair, **corrected(here))
        assert here in (None, same)
    assert len(met) < len(every.pairs) / 2
    assert all_but_pairs(few) == all_but_pairs(every)
    assert b"candidate_19" in render(few)["tables/summary.csv"]
