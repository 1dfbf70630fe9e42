"""What a run lacks: cells, blocks and journals are counted and named, and the rest keeps its figures."""

from __future__ import annotations

from bakeoff.stats.verbs import analysis_of
from support.found import cell, pair
from support.make import analysed, named, write


def test_one_block_has_values_without_intervals_and_no_verdicts():
    analysis = analysed(named("one_block"))
    assert all(entry.speedup.low is None and entry.mde is None for entry in analysis.cells)
    assert all(
        entry.verdict is None and entry.undecided == "few_blocks"
        for found in analysis.pairs
        for entry in found.verdicts
    )
    assert {check.code: check.status for check in analysis.validity}["blocks_enough"] == "warning"


def test_failed_cells_keep_their_reason_and_have_no_figures(faulty):
    crashed = cell(faulty, "flashinfer_moe", "T901_o96")
    assert (crashed.outcome, crashed.reason, crashed.speedup, crashed.latency_us) == ("CRASHED", "signal", None, None)
    assert crashed.hint and crashed.detail
    wrong = cell(faulty, "triton_fused_moe_v2", "T52_o160")
    assert (
        wrong.outcome == "INCORRECT_NUMERICAL"
        and not wrong.strict_gate.passed
        and wrong.published_gate.passed
        and wrong.speedup is None
    )
    assert cell(faulty, "cutedsl_moe_fp8_v3_2", "T16_o224").outcome == "NOT_RUN"
    assert cell(faulty, "cutedsl_moe_fp8_v3", "T1_o32").outcome == "UNSUPPORTED"


def test_what_is_missing_is_counted_and_named(faulty):
    checks = {check.code: check for check in faulty.validity}
    assert checks["cells_complete"].status == "failed" and checks["cells_complete"].items == [
        "cutedsl_moe_fp8_v3_2/T16_o224"
    ]
    # 57 are due: a solution that declares no such backend owes none.
    assert (checks["cells_passed"].found, checks["cells_passed"].of) == (51, 57)
    assert set(checks["cells_passed"].items) == {
        "flashinfer_moe/T901_o96",
        "flashinfer_moe/T14107_o32",
        "triton_fused_moe_v2/T52_o160",
        "triton_fused_moe_v2/T54_o128",
        "cutedsl_moe_fp8_v3_2/T80_o96",
    }
    assert checks["verifications_passed"].status == "failed"
    realistic = next(
        entry for entry in faulty.verifications if (entry.solution, entry.family) == ("flashinfer_moe", "realistic")
    )
    assert (realistic.due, realistic.passed, realistic.failed) == (19, 17, ["T901_o96", "T14107_o32"])


def test_a_missing_block_leaves_the_other_blocks(faulty):
    gap = cell(faulty, "triton_fused_moe_v2", "T58_o64")
    assert gap.blocks == 3 and gap.speedup.low is not None
    lone = cell(faulty, "flashinfer_moe", "T59_o160")
    assert lone.blocks == 1 and lone.speedup.low is None
    verdict = next(
        entry
        for entry in pair(faulty, "flashinfer_moe", "triton_fused_moe_v2").verdicts
        if entry.workload == "T59_o160"
    )
    assert verdict.verdict is None and verdict.undecided == "few_blocks" and verdict.ratio.value > 0


def test_cells_with_fewer_blocks_than_planned_are_counted_and_named(four, faulty):
    assert all(check.code != "blocks_complete" for check in four.validity)
    short = next(check for check in faulty.validity if check.code == "blocks_complete")
    assert short.items == ["flashinfer_moe/T59_o160", "triton_fused_moe_v2/T58_o64"] and short.status == "warning"
    assert (short.found, short.of) == (49, 51)


def test_on_the_cpu_backend_blocks_are_counted_as_well():
    made = named("cpu", blocks=3, missing_blocks={("flashinfer_moe", 80): [1]})
    analysis = analysed(made)
    assert {(entry.solution, entry.workload): entry.blocks for entry in analysis.cells if entry.blocks != 3} == {
        ("flashinfer_moe", "T80_o96"): 2
    }


def test_a_speedup_counts_the_blocks_that_hold_the_reference_too(tmp_path):
    folder = write(named("five_blocks"), tmp_path / "run")
    for block in (1, 3):
        (folder / f"samples/block-{block:02d}/reference.jsonl").unlink()
    assert {entry.blocks for entry in analysis_of(folder).cells} == {3}


def test_rankings_use_the_workloads_that_all_contestants_have(faulty):
    assert faulty.rank_stability.workloads == 19 - 6
    assert len(faulty.findings.ranking.order) == 3
