"""Conclusions over several timing protocols: the order under each, who overtakes whom, what incomplete data allow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from bakeoff.core.protocols import block_order
from bakeoff.files import PROJECT_ROOT
from bakeoff.schema.analysis_figures import ProtocolSummary
from support.make import Made, analysed

PLACES = [(1, 32), (80, 96), (14107, 32)]
SPEED = {"a": (30.0, 15.0), "b": (20.0, 14.0), "c": (10.0, 10.0)}


def under(**described: Any) -> ProtocolSummary:
    """A run of three solutions under `robust` and one more protocol, as the analysis has the latter."""
    fields = {"blocks": 5, "workloads": PLACES, "speed": SPEED, "outliers": 0.0, "noise": 0.002, "gate_power": False}
    (found,) = analysed(Made(**{**fields, "protocols": ["robust", "graph"], **described})).other_protocols
    return found


def order(found: ProtocolSummary, first: bool = False) -> list[str]:
    return [each.solution for each in (found.first_order if first else found.order)]


def test_equal_protocols_have_one_order_and_nobody_overtakes() -> None:
    found = under()
    assert order(found) == order(found, first=True) == ["a", "b", "c"] and found.overtakings == []


def test_a_small_change_is_no_overtaking_and_a_large_one_is() -> None:
    near, far = (
        under(speed={"a": (20.1, 14.1), "b": (20.0, 14.0)}, slowed={"graph": {"a": by}}) for by in (1.006, 1.2)
    )
    assert near.overtakings == [] and {(one.faster, one.slower) for one in far.overtakings} <= {("b", "a")}
    assert order(far) == ["b", "a"]


def test_only_those_who_pass_overtake() -> None:
    found = under(slowed={"graph": {"a": 1.8}})
    assert {(one.faster, one.slower) for one in found.overtakings if one.workload != "T14107_o32"} == {("b", "a")}
    assert order(found) == ["b", "a", "c"]


def test_who_cannot_be_captured_anywhere_has_no_place_and_the_others_keep_theirs() -> None:
    found = under(rigid=[("graph", "a", tokens) for tokens, _ in PLACES])
    assert order(found) == order(found, first=True) == ["b", "c"] and len(found.workloads) == 3
    assert not [cell for cell in found.cells if cell.solution == "a"] and found.overtakings == []


def test_a_workload_that_one_lacks_counts_for_nobody() -> None:
    found = under(rigid=[("graph", "a", 14107)], slowed={"graph": {"b": 1.2}})
    assert found.workloads == ["T1_o32", "T80_o96"] and order(found) == ["a", "b", "c"]
    assert found.order[0].value == 1.0 and found.order[2].value == pytest.approx(3.0, rel=0.01)


def test_one_block_gives_an_order_and_no_overtaking() -> None:
    found = under(blocks=1, slowed={"graph": {"a": 3.0}})
    assert order(found) == ["b", "c", "a"] and found.overtakings == [] and found.blocks == 1


def test_missing_blocks_cost_blocks_and_not_the_cell() -> None:
    found = under(missing_blocks={("a", 1): [0, 3]}, slowed={"graph": {"a": 1.8}})
    assert order(found) == ["b", "a", "c"] and len(found.workloads) == 3
    assert {one.workload for one in found.overtakings} >= {"T80_o96"}


def test_a_lone_slow_block_makes_no_overtaking() -> None:
    found = under(speed={"a": (20.4, 14.4), "b": (20.0, 14.0)}, outliers=0.3, seed=3, blocks=10)
    assert found.overtakings == []


def test_equal_solutions_hardly_ever_overtake_each_other() -> None:
    speed = {name: (20.0, 14.0) for name in "abcdef"}
    found = [under(speed=speed, seed=seed, noise=0.01, slowed={"graph": {}}) for seed in range(3)]
    assert sum(len(one.overtakings) for one in found) == 0  # of 135 pairs of cells


def biases(balanced: bool) -> tuple[float, float]:
    """Root mean square over pairs and runs of the error of a log ratio over 10 blocks of 10 participants, from a drift
    of 0.2 % for each place, and from one participant whose follower is 1 % slow."""
    names = [f"p{number}" for number in range(10)]
    drift, follows = [], []
    for seed in range(100):
        orders = [block_order(f"run{seed}", block, names, balanced) for block in range(10)]
        place = np.array([[order.index(name) for name in names] for order in orders])
        drift.append(0.002 * place.mean(axis=0))
        after = np.array(
            [[order[order.index(name) - 1] == "p0" and order[0] != name for name in names] for order in orders]
        )
        follows.append(0.01 * after.mean(axis=0)[1:])
    return tuple(
        float(np.sqrt(2 * np.var(each, axis=1, ddof=1).mean())) for each in (np.array(drift), np.array(follows))
    )  # type: ignore[return-value]


def test_a_balanced_order_takes_drift_and_neighbours_out_of_ratios() -> None:
    assert biases(balanced=True) == pytest.approx((0.0, 0.0), abs=1e-12)
    drift, neighbour = biases(balanced=False)
    page = (PROJECT_ROOT / "docs/statistics.md").read_text()
    for bias in (drift, neighbour):
        assert f"| – / 0 | {100 * bias:.2f} / 0.00 % |" in page
