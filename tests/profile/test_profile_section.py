"""From summaries to facts: floors, limits, coverage, the check of a run, and the text for a kernel developer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from bakeoff.complete import document_flaws, profile_flaws
from bakeoff.core.moe.floors import PEAKS, Peak, stage_floors
from bakeoff.core.moe.geometry import Geometry
from bakeoff.errors import InputError
from bakeoff.files import canonical_json, pretty_json
from bakeoff.planned import read_plan
from bakeoff.profile import explain, section
from bakeoff.schema.gates import Rounding
from bakeoff.schema.profile import HostTime
from bakeoff.traces.models import RoutingStats
from support.profile_documents import PLAIN, WORKLOADS, cell, counters, everyone, plan, profile, stages, write_run
from support.profile_runs import GPU

V3, TRITON, FLASHINFER = "cutedsl_moe_fp8_v3", "triton_fused_moe_v2", "flashinfer_moe"
FULL = Geometry(7168, 2048)
ROUNDING = Rounding(gemm1_output=("bfloat16",), intermediate=("fp8_block128",), gemm2_output=("bfloat16",))
NO_CACHE = 0


def found(run: Path) -> section.ProfileSection:
    result = section.load(run, plan())
    assert result is not None
    return result


def test_a_run_without_profiles_has_no_section(tmp_path: Path) -> None:
    assert section.load(write_run(tmp_path, []), plan()) is None


def test_a_cells_facts_are_its_summary_over_its_floor(tmp_path: Path) -> None:
    counted = {"gemm1": counters(dram_share=0.8), "combine": counters(dram_share=0.2, tensor_share=0.0)}
    run = write_run(tmp_path, [profile(TRITON, [cell("T901_o96", counted=counted)])])
    one = found(run).cells[0]
    busy, span = sum(PLAIN.values()), sum(PLAIN.values()) + 10
    assert (one.busy_us, one.span_us, one.gap_share) == (busy, span, round(10 / span, 6))
    assert one.floor_us and one.floor_share == pytest.approx(one.floor_us / span, abs=1e-4)
    assert one.intensity == pytest.approx(one.flops / one.floor_bytes, rel=1e-4)
    assert one.dram_bytes == 1e6 and one.dram_over_floor == round(1e6 / one.floor_bytes, 6)
    assert one.bandwidth_gbs == pytest.approx(1e6 / busy / 1e3, rel=1e-3)
    assert one.bandwidth_share == pytest.approx(one.bandwidth_gbs / (PEAKS[GPU].bandwidth / 1e9), rel=1e-3)
    stages = {stage.stage: stage for stage in one.stages}
    assert (stages["gemm1"].limit, stages["gemm1"].limit_from) == ("memory", "counters")
    assert (stages["combine"].limit, stages["combine"].limit_from) == ("latency", "counters")
    assert stages["permute"].limit_from == "floor" and stages["other"].limit is None
    assert sum(stage.share for stage in one.stages) == pytest.approx(1, abs=1e-5)


def test_a_stages_floor_is_compared_with_the_time_at_which_it_runs(tmp_path: Path) -> None:
    running = {name: 2 * us for name, us in {**dict.fromkeys(section.STAGES, 0.0), **PLAIN}.items()}
    one = found(write_run(tmp_path, [profile(TRITON, [cell("T901_o96", stages=stages(PLAIN, running))])])).cells[0]
    gemm1 = next(stage for stage in one.stages if stage.stage == "gemm1")
    assert gemm1.floor_us and (gemm1.us, gemm1.run_us) == (PLAIN["gemm1"], 2 * PLAIN["gemm1"])
    assert gemm1.floor_share == pytest.approx(gemm1.floor_us / gemm1.run_us, abs=1e-5)
    assert gemm1.share == pytest.approx(gemm1.us / one.busy_us, abs=1e-5), "the share stays one of the busy time"


def test_what_was_not_measured_is_null_and_never_zero(tmp_path: Path) -> None:
    run = write_run(tmp_path, [profile(TRITON, [cell("T901_o96")], gpu="NVIDIA Unheard Of")])
    result = found(run)
    one = result.cells[0]
    assert result.peak_gbs is None and one.floor_us is None and one.floor_share is None and one.bandwidth_share is None
    assert one.dram_bytes is None and one.dram_over_floor is None and one.tensor_share is None and one.counters_missing
    assert all(stage.dram_share is None and stage.limit is None for stage in one.stages)
    assert result.farthest == []


def test_the_hosts_time_without_a_tracer_decides_what_a_cell_is_bound_by(tmp_path: Path) -> None:
    traced = profile(TRITON, [cell("T901_o96", host_us=500.0), cell("T1_o32")])
    plain = HostTime(workload="T901_o96", key="k", calls=20, host_us=90.0)
    without = found(write_run(tmp_path / "a", [traced])).cells[0]
    assert (without.bound, without.host_us, without.host_traced) == ("host", 500.0, True)
    both = found(write_run(tmp_path / "b", [traced.model_copy(update={"hosts": [plain]})])).cells
    assert (both[0].bound, both[0].host_us, both[0].host_traced) == ("device", 90.0, False)
    assert (both[1].host_us, both[1].host_traced) == (20.0, True)


def test_for_tiny_workloads_the_launches_join_the_floor(tmp_path: Path) -> None:
    run = write_run(tmp_path, [profile(TRITON, [cell("T1_o32", launches=100), cell("T14107_o32", launches=6)])])
    tiny, large = found(run).cells
    assert tiny.ceiling_us == 200.0, "100 launches of 2 us"
    assert large.ceiling_us is not None and large.floor_us is not None and large.ceiling_us > 12.0


def test_the_worst_cell_is_the_one_farthest_from_its_floor(tmp_path: Path) -> None:
    slow = cell("T80_o96", {"gemm1": 5000.0, "routing": 10.0})
    run = write_run(tmp_path, [profile(V3, [cell("T901_o96"), slow]), profile(TRITON, [cell("T901_o96")])])
    worst = {one.solution: one for one in found(run).farthest}
    longest = worst[V3].longest
    assert (worst[V3].workload, longest.stage) == ("T80_o96", "gemm1") and worst[TRITON].workload == "T901_o96"
    assert longest.share == pytest.approx(5000 / 5010, abs=1e-6)


def test_coverage_counts_cells_counters_and_failures(tmp_path: Path) -> None:
    lost = profile(V3, [cell("T1_o32", counted={}), cell("T80_o96", mapped_share=0.9)])
    lost = lost.model_copy(update={"failures": {"T901_o96": "Traceback\nRuntimeError: no"}})
    result = {one.solution: one for one in found(write_run(tmp_path, [lost])).coverage}
    assert (result[V3].due, result[V3].profiled, result[V3].counted, result[V3].mapped_least) == (5, 2, 1, 0.9)
    assert result[V3].failures == {"T901_o96": "RuntimeError: no"} and result[TRITON].profiled == 0


def test_the_section_is_the_same_bytes_every_time(tmp_path: Path) -> None:
    run = write_run(tmp_path, everyone())
    once, twice = (canonical_json(found(run).model_dump(mode="json")) for _ in range(2))
    assert once == twice


# -- floors of stages


def stats(pairs: int = 1000, tokens: int = 600, experts: int = 32) -> RoutingStats:
    return RoutingStats(local_pairs=pairs, active_tokens=tokens, active_experts=experts)


def test_stage_floors_are_the_tensors_that_go_through_memory() -> None:
    floors = stage_floors(FULL, 1000, stats(), ROUNDING, NO_CACHE)
    row = 7168 + 4 * 56  # a quantized row with its scales
    assert floors["routing"].bytes == 1000 * 1024 + 512
    assert floors["permute"].bytes == 600 * row + 1000 * row
    weights1, weights2 = 32 * (4096 * 7168 + 4 * 32 * 56), 32 * (7168 * 2048 + 4 * 56 * 16)
    assert floors["gemm1"].bytes == pytest.approx(1000 * row + weights1 + 1000 * 4096 * 2)
    assert floors["activation_quant"].bytes == pytest.approx(1000 * 4096 * 2 + 1000 * (2048 + 4 * 16))
    assert floors["gemm2"].bytes == pytest.approx(1000 * (2048 + 4 * 16) + weights2 + 1000 * 7168 * 2)
    assert floors["combine"].bytes == 1000 * 7168 * 2 + 600 * 7168 * 2, "zero rows may have been written before"
    assert floors["gemm1"].flops == 2 * 1000 * 4096 * 7168 and floors["gemm2"].flops == 2 * 1000 * 7168 * 2048
    assert floors["routing"].flops == 0


def test_a_separate_quantization_reads_and_writes_what_gemm1_wrote() -> None:
    two_casts = ROUNDING.model_copy(update={"gemm1_output": ("bfloat16", "fp8_block128")})
    one = stage_floors(FULL, 1000, stats(), ROUNDING, NO_CACHE)["activation_quant"]
    two = stage_floors(FULL, 1000, stats(), two_casts, NO_CACHE)["activation_quant"]
    assert two.bytes - one.bytes == pytest.approx(2 * 1000 * 4096 * (1 + 4 / 128))


def test_what_fits_into_the_cache_need_not_go_through_memory() -> None:
    cache = 50 << 20
    floors = stage_floors(FULL, 1000, stats(), ROUNDING, cache)
    assert floors["combine"].bytes == 0, "GEMM2's 14 MB are found in the cache, and the output's 9 MB may stay there"
    assert floors["permute"].bytes == 600 * (7168 + 4 * 56), "activations come from memory, rows stay in the cache"
    large = stage_floors(FULL, 14107, stats(14000, 7000), ROUNDING, cache)
    assert large["combine"].bytes == (14000 + 7000) * 7168 * 2 - 2 * cache


def test_a_stage_is_bound_by_what_takes_longer() -> None:
    floors = stage_floors(FULL, 14107, stats(14000, 7000), ROUNDING, NO_CACHE)
    peak = Peak(3e12, 2e15, "made")
    assert not floors["gemm1"].at_memory(peak) and floors["combine"].at_memory(peak)
    assert floors["gemm1"].us(peak) == pytest.approx(2 * 14000 * 4096 * 7168 / 2e15 * 1e6)


# -- the check of a run


def test_a_whole_profile_has_no_findings(tmp_path: Path) -> None:
    assert profile_flaws(write_run(tmp_path, everyone()), plan()) == []


def test_every_flaw_of_a_profile_is_found(tmp_path: Path) -> None:
    def codes(*cells: object, **more: object) -> list[str]:
        one = profile(V3, list(cells)).model_copy(update=more)  # type: ignore[arg-type]
        return [finding.code for finding in document_flaws(one, ["T1_o32"])]

    good = cell("T1_o32")
    assert codes(good) == []
    assert codes() == ["not_profiled"]
    assert codes(failures={"T1_o32": "why"}) == ["failed"]
    assert codes(good.model_copy(update={"mapped_share": 0.979, "unmapped": ["k"]})) == ["unmapped"]
    stray = [replace(kernel, mapped=kernel.stage != "combine") for kernel in good.kernels]
    assert codes(good.model_copy(update={"kernels": stray})) == ["unmapped"], "the share is not taken on trust"
    assert codes(good.model_copy(update={"mapped_share": 0.98})) == []
    assert codes(good.model_copy(update={"stages": stages({**PLAIN, "other": 1.2})})) == []
    assert codes(good.model_copy(update={"stages": stages({**PLAIN, "other": 1.4})})) == ["stage_sum"]
    assert codes(good.model_copy(update={"span_us": good.span_us * 1.02})) == ["span"]


def test_missing_and_stale_documents_are_found(tmp_path: Path) -> None:
    profiles = everyone()
    stale = profiles[0].model_copy(update={"digest": "0" * 64})
    run = write_run(tmp_path, [stale, *profiles[2:]])
    assert {(one.code, one.solution) for one in profile_flaws(run, read_plan(run))} == {
        ("stale", stale.solution),
        ("no_profile", profiles[1].solution),
    }
    assert all(one.solution in str(one) for one in profile_flaws(run, read_plan(run)))


def test_a_profile_from_another_model_of_gpu_is_found(tmp_path: Path) -> None:
    run = write_run(tmp_path, everyone())
    host = {
        "schema": "bakeoff/host/1",
        "system": "x",
        "kernel": "x",
        "architecture": "x86_64",
        "cpu": "x",
        "cores": 1,
        "python": "3.12",
        "driver": "x",
        "cuda_driver": "13.0",
        "packages": {},
        "fingerprint": "0" * 64,
    }
    gpu = {
        "uuid": "x",
        "capability": "9.0",
        "memory_mib": 1,
        "vbios": "x",
        "power_limit_w": 1.0,
        "max_sm_mhz": 1,
        "max_memory_mhz": 1,
        "ecc": True,
        "mig": False,
    }
    for name, codes in ((GPU, set()), ("NVIDIA H200", {"other_gpu"})):
        (run / "host.json").write_bytes(pretty_json({**host, "gpus": [{**gpu, "name": name}]}))
        assert {finding.code for finding in profile_flaws(run, read_plan(run))} == codes


def test_a_document_of_another_version_is_an_input_error(tmp_path: Path) -> None:
    run = write_run(tmp_path, everyone())
    path = run / "profile" / f"{V3}.json"
    path.write_bytes(path.read_bytes().replace(b"bakeoff/profile/2", b"bakeoff/profile/3"))
    with pytest.raises(InputError, match="schema"):
        profile_flaws(run, read_plan(run))


# -- the text for a kernel developer


def test_explain_says_where_time_goes_what_bounds_it_and_how_far_it_is(tmp_path: Path) -> None:
    counted = {"gemm1": counters(dram_share=0.8)}
    run = write_run(tmp_path, [profile(V3, [cell("T1_o32"), cell("T901_o96", counted=counted)])])
    text = explain.explain_solution(V3, run, None)
    assert f"{V3} on {GPU}" in text and ["bandwidth", "3350", "3000", "GB/s"] in map(str.split, text.splitlines())
    second = text[text.index("T901_o96:") :].splitlines()
    gemm1 = next(line for line in second if line.strip().startswith("gemm1"))
    assert (
        "GB/s (0% of peak, 0% of the host's)" in second[2] and "TFLOP/s (30% of peak, 40% of the host's)" in second[2]
    )
    assert "60.0 µs" in gemm1 and "memory" in gemm1 and "80 %" in gemm1
    assert "no counters: no counters were captured" in text and "Farthest from its floor: T1_o32" in text
    assert "other" not in text, "a stage without time is not shown"
    assert "device-bound: the host needs 20 µs under the tracer" in text
    one = explain.explain_solution(V3, run, ["T1_o32"])
    assert "T901_o96" not in one and "gemm1_kernel" in one and "gemm1_kernel" not in text


def test_explain_without_a_profile_says_how_to_get_one(tmp_path: Path) -> None:
    run = write_run(tmp_path, [profile(V3, [cell("T1_o32")])])
    with pytest.raises(InputError, match="bakeoff profile"):
        explain.explain_solution(TRITON, run, None)
    with pytest.raises(InputError, match="T9_o9"):
        explain.explain_solution(V3, run, ["T9_o9"])


def test_explain_knows_a_solution_from_a_wrong_name_the_reference_and_a_twin(tmp_path: Path) -> None:
    copy = plan().participants[1].model_copy(update={"name": f"{V3}.twin", "twin_of": V3})
    made = plan().model_copy(update={"participants": [*plan().participants, copy]})
    run = write_run(tmp_path, [profile(V3, [cell("T1_o32")])], made)
    for name, hint in (
        ("nobody", "correct the name"),
        ("reference", "correct the name"),
        (copy.name, f"name {V3}: this one is an exact copy"),
    ):
        with pytest.raises(InputError, match=hint) as caught:
            explain.explain_solution(name, run, None)
        assert V3 in caught.value.expected and "profile " not in str(caught.value.hint)


def test_explain_names_stages_that_spill(tmp_path: Path) -> None:
    spilled = counters().model_copy(update={"local_accesses": 70535.0})
    run = write_run(tmp_path, [profile(V3, [cell("T1_o32", counted={"routing": spilled, "gemm1": counters()})])])
    text = explain.explain_solution(V3, run, None)
    assert "instructions on local memory (spills, stacks): routing 70,535\n" in text


def test_explain_says_which_design_ran(tmp_path: Path) -> None:
    run = write_run(tmp_path, [profile(FLASHINFER, [cell("T1_o32")])])
    design = next(who.design for who in plan().participants if who.name == FLASHINFER)
    assert design and f"design: {design}\n" in explain.explain_solution(FLASHINFER, run, None)


def test_the_newest_recorded_run_with_the_solutions_profile_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explain, "PROJECT_ROOT", tmp_path)
    with pytest.raises(InputError, match="no recorded run"):
        explain.newest_recorded(TRITON)
    recorded = tmp_path / "results/recorded"
    for name, profiled in (("2026-01-01_a", [TRITON]), ("2026-02-01_b", [FLASHINFER]), ("2026-03-01_without", [])):
        write_run(recorded / name, [profile(who, [cell("T1_o32")]) for who in profiled])
    label = next(who.label for who in plan().participants if who.name == TRITON)
    assert explain.newest_recorded(TRITON).name == explain.newest_recorded(label).name == "2026-01-01_a"
    assert explain.newest_recorded(FLASHINFER).name == explain.newest_recorded("unknown").name == "2026-02-01_b"


def test_all_workloads_of_the_plan_are_known() -> None:
    assert [workload.id for workload in plan().workloads] == WORKLOADS
