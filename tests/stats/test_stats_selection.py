"""Many candidates: screened in few blocks, the leading ones confirmed on fresh ones; by simulation, and on constructed
runs that are dealt into shards."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from bakeoff.errors import InputError
from bakeoff.files import PROJECT_ROOT
from bakeoff.report.render import render
from bakeoff.runs.intervals import block_means
from bakeoff.runs.samples import Samples
from bakeoff.schema.analysis import Analysis
from bakeoff.stats.pairs import compare_pairs
from bakeoff.stats.select import select
from bakeoff.stats.verbs import analysis_of
from bakeoff.stats.verdicts import holm, verdicts
from scipy import stats
from support.make import FOUR, Made, analysed, write

CANDIDATES, LEADING, WORKLOADS, SCREENING, BLOCKS, NOISE = 500, 10, 19, 3, 10, 0.004
PEERS = [f"candidate_{number:02}" for number in range(24)]


def faster(logs: np.ndarray) -> np.ndarray:
    """Whether a family of tests, block log ratios (runs, tests, blocks), says anywhere that a candidate is faster."""
    means = block_means(logs)
    return np.char.startswith(verdicts(means, means.count - 1.0)[0], "FASTER")


def confirmed(runs: int, *, together: bool, lead: float = 0.0, seed: int = 21) -> tuple[float, float]:
    """Share of screenings of equal candidates, one of them faster by `lead`, after which an equal one of the leading
    ten is declared faster than the anchor on fresh blocks; and in which the faster one is, on every workload."""
    random = np.random.default_rng(seed)
    truth = np.zeros(CANDIDATES)
    truth[0] = np.log1p(lead)
    wrong, found = 0, 0
    for _ in range(runs):
        screened = truth + NOISE * random.standard_normal((SCREENING * WORKLOADS, CANDIDATES)).mean(axis=0)
        leading = np.argsort(-screened)[:LEADING]
        anchor = random.standard_normal((1, WORKLOADS, BLOCKS))
        own = random.standard_normal((LEADING, WORKLOADS, BLOCKS))
        logs = truth[leading][:, None, None] + NOISE * (own - anchor)
        if together:
            said = faster(logs.reshape(1, LEADING * WORKLOADS, BLOCKS)).reshape(LEADING, WORKLOADS)
        else:
            said = faster(logs)
        equal = truth[leading] == 0
        wrong += bool(said[equal].any())
        found += bool(said[~equal].all() and not equal.all())
    return wrong / runs, found / runs


def at_once(runs: int) -> float:
    """Share of runs of ten blocks in which one of all equal candidates is declared faster than the anchor, each pair
    corrected on its own."""
    random = np.random.default_rng(22)
    wrong = 0
    for _ in range(runs):
        anchor = random.standard_normal((1, WORKLOADS, BLOCKS))
        wrong += bool(faster(NOISE * (random.standard_normal((CANDIDATES, WORKLOADS, BLOCKS)) - anchor)).any())
    return wrong / runs


@cache
def rates() -> dict[str, str]:
    together, _ = confirmed(1500, together=True)
    alone, _ = confirmed(300, together=False)
    _, power = confirmed(200, together=True, lead=0.03)
    return {
        "together": f"{100 * together:.1f} %",
        "alone": f"{100 * alone:.0f} %",
        "at once": f"{100 * at_once(40):.0f} %",
        "power": f"{100 * power:.0f} %",
    }


def test_the_best_of_500_equal_candidates_is_seldom_declared_faster_than_the_anchor() -> None:
    assert float(rates()["together"][:-2]) <= 5.0
    assert float(rates()["alone"][:-2]) > 8 and float(rates()["at once"][:-2]) > 90, "what the rule is for"
    assert float(rates()["power"][:-2]) >= 95


def test_the_page_has_these_rates() -> None:
    page = (PROJECT_ROOT / "docs/statistics.md").read_text()
    row = "| {together} | {alone} | {at once} | {power} |".format(**rates())
    assert row in page, row


def samples(solutions: int) -> Samples:
    random = np.random.default_rng(4)
    times = 0.01 * random.standard_normal((solutions, 3, 10))
    names, tier = [f"s{number}" for number in range(solutions)], np.full((solutions, 3), "event_us")
    return Samples(names, ["a", "b", "c"], list(range(10)), times, np.zeros_like(times), tier, times_known=True)


@pytest.mark.parametrize("solutions, selected, joint", [(4, False, False), (4, True, True), (25, False, True)])
def test_all_that_are_compared_with_an_anchor_are_one_family(solutions: int, selected: bool, joint: bool) -> None:
    made = samples(solutions)
    pairs = compare_pairs(made, contestants=[1], selected=selected)
    with_anchor = [pair for pair in pairs if 1 in (pair.a, pair.b)]
    assert len(with_anchor) == solutions - 1
    p = [stats.ttest_1samp(pair.log_ratios, 0.0, axis=1).pvalue for pair in with_anchor]
    expected = holm(np.concatenate(p)) if joint else np.concatenate([holm(each) for each in p])
    assert np.concatenate([pair.decision.p_difference for pair in with_anchor]) == pytest.approx(expected)
    other = next(pair for pair in pairs if 1 not in (pair.a, pair.b))
    alone = holm(stats.ttest_1samp(other.log_ratios, 0.0, axis=1).pvalue)
    assert other.decision.p_difference == pytest.approx(alone), "of two candidates, their own"


@cache
def screening() -> Analysis:
    """Six shards of four peers, in three blocks each; one peer fails at a workload."""
    speed = {name: (12 + 0.4 * number, 12 + 0.4 * number) for number, name in enumerate(PEERS)}
    made = Made("screening", workloads=[(1, 32), (80, 96)], speed={**FOUR, **speed}, peers=PEERS, blocks=18, shards=6)
    made.outcomes[PEERS[-1], 80] = ("INCORRECT_NUMERICAL", None)
    return analysed(made)


def test_a_dealt_run_is_whole_and_each_stands_on_its_own_blocks() -> None:
    found = screening()
    blocks = {(cell.solution, cell.workload): cell.blocks for cell in found.cells if cell.outcome == "PASSED"}
    assert {blocks[name, "T1_o32"] for name in PEERS} == {3} and {blocks[name, "T1_o32"] for name in FOUR} == {18}
    checks = {check.code: check for check in found.validity}
    assert checks["cells_complete"].status == "ok" and "blocks_complete" not in checks
    assert found.run.blocks == 3 and all(cell.speedup for cell in found.cells if cell.outcome == "PASSED")
    assert {pair.b for pair in found.pairs if pair.a in FOUR} >= set(PEERS), "each is compared with the anchors"
    assert "3 blocks" in render(found)["report.html"].decode()


def test_a_block_holds_its_shard_the_reference_and_the_anchors(tmp_path: Path) -> None:
    from bakeoff.planned import block_cells, block_order, read_plan

    made = Made("dealt", workloads=[(1, 32)], speed={**FOUR, **dict.fromkeys(PEERS, (9, 9))}, peers=PEERS)
    made.blocks, made.shards = 6, 3
    plan = read_plan(write(made, tmp_path / "dealt"))
    held = {"reference", *FOUR}
    seen: list[str] = []
    for block in range(6):
        names = set(block_order(plan, block))
        assert names == held | {name for name in PEERS if made.shard(name) == block % 3}
        cells = block_cells(plan, block)
        assert {cell.participant for cell in cells if cell.kind == "measure"} == names
        seen += [cell.key for cell in cells if cell.kind == "verify"]
    assert len(seen) == len(set(seen)) == len(PEERS) + len(FOUR), "each is verified once"
    assert plan.blocks_each == 2


def test_the_leading_are_selected_with_what_they_were_selected_by() -> None:
    found = select(screening(), "d" * 64, 5)
    assert [one.solution for one in found.selected] == PEERS[-2:-7:-1], "the fastest failed at a workload"
    assert [one.rank for one in found.selected] == [1, 2, 3, 4, 5] and {one.blocks for one in found.selected} == {3}
    assert (found.screened, found.unfit, found.anchors) == (24, 1, list(FOUR))
    means = {one.solution: one.geometric_mean for one in screening().summaries}
    assert all(one.geometric_mean == means[one.solution] for one in found.selected)


def test_nothing_is_selected_of_a_run_without_times() -> None:
    with pytest.raises(InputError, match="times mean nothing"):
        select(analysed(Made("cpu", backend="cpu", workloads=[(1, 32)], blocks=1)), "d" * 64, 5)


def test_a_confirmation_says_what_was_selected_and_rests_on_its_own_blocks(tmp_path: Path) -> None:
    selection = select(screening(), "d" * 64, 3)
    names = [one.solution for one in selection.selected]
    made = Made(
        "confirmed", workloads=[(1, 32), (80, 96)], speed={**FOUR, **dict.fromkeys(names, (20, 20))}, peers=names
    )
    made.selection = json.loads(selection.model_dump_json(by_alias=True))
    found = analysis_of(write(made, tmp_path / "confirmed"))
    assert found.selection == selection and found.anchors == list(FOUR) and found.run.blocks == 10
    files = render(found)
    assert "screened 24 solutions, of which 1 did not pass" in " ".join(files["report.html"].decode().split())
    table = files["tables/selection.csv"].decode().splitlines()
    assert table[0].startswith("rank,solution,screening,") and len(table) == 4
    assert abs(float(table[1].split(",")[6]) - 20) < 1, "what this run measured"
