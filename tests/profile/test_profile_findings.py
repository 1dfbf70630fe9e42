"""What docs/profiling.md says of the recorded H100 profile, figure by figure, against that profile."""

from __future__ import annotations

import functools
import gzip
import json
import re
import statistics
from typing import Any

import pytest
from bakeoff.files import PROJECT_ROOT

RUN = PROJECT_ROOT / "results/recorded/2026-11-24_h100"
V3, V3_2, TRITON = "cutedsl_moe_fp8_v3", "cutedsl_moe_fp8_v3_2", "triton_fused_moe_v2"
COMPOSITION = "flashinfer_moe"
LARGE = ("T11948_o128", "T14107_o32")
GEMMS = ("gemm1", "gemm2")


@functools.cache
def section() -> Any:
    return json.loads((RUN / "analysis.json").read_text())["profiles"]


@functools.cache
def cells() -> dict[tuple[str, str], Any]:
    return {(one["solution"], one["workload"]): one for one in section()["cells"]}


@functools.cache
def page() -> str:
    text = (PROJECT_ROOT / "docs" / "profiling.md").read_text()
    return text.split("## What the recorded H100 profile shows")[1].split("\n## ")[0]


def prose() -> str:
    return " ".join(page().split())


def stage(cell: Any, name: str) -> Any:
    return next(one for one in cell["stages"] if one["stage"] == name)


def gemm_us(cell: Any) -> float:
    return sum(stage(cell, name)["us"] for name in GEMMS)


def seq_len(workload: str) -> int:
    return int(workload[1:].split("_")[0])


def test_the_table_is_that_of_the_recorded_profile() -> None:
    rows = re.findall(r"^\| (\w+_\w+) \| (.+) \|$", page(), re.MULTILINE)
    assert [name for name, _ in rows] == sorted({solution for solution, _ in cells()})
    for name, printed in rows:
        small, middle, large = (cells()[name, workload] for workload in ("T1_o32", "T80_o96", "T14107_o32"))
        shares = [
            small["floor_share"],
            small["gap_share"],
            middle["floor_share"],
            middle["bandwidth_share"],
            large["floor_share"],
            stage(large, "gemm1")["tensor_share"],
            1 - gemm_us(large) / large["busy_us"],
        ]
        expected = [f"{share * 100:.0f} %" for share in shares] + [f"{large['dram_over_floor']:.2f}"]
        assert printed.split(" | ") == expected, name


def test_weights_bound_the_middle_and_the_tensor_pipe_the_large_ones() -> None:
    own = [one for (solution, _), one in cells().items() if solution != COMPOSITION]
    middle = [one for one in own if 7 <= seq_len(one["workload"]) <= 901]
    assert {stage(one, name)["limit"] for one in middle for name in GEMMS} == {"memory"}
    assert {seq_len(one["workload"]) for one in own} - {seq_len(one["workload"]) for one in middle} == {1, 11948, 14107}
    assert f"at most {max(one['dram_over_floor'] for one in middle):.2f} times the floor's bytes" in prose()
    copy = section()["ceilings"]["copy_gbs"] / section()["peak_gbs"]
    assert f"copy reaches {copy * 100:.0f} % of the peak" in prose()
    assert {stage(one, "gemm1")["limit"] for one in own if one["workload"] in LARGE} == {"tensor"}
    for workload in LARGE:
        assert cells()[V3_2, workload]["dram_bytes"] < cells()[V3, workload]["dram_bytes"]


def test_the_host_times_beside_the_tracers_are_those_of_the_recorded_profile() -> None:
    text = " ".join((PROJECT_ROOT / "docs" / "profiling.md").read_text().split())
    triton, deepgemm = (json.loads((RUN / "profile" / f"{name}.json").read_text()) for name in (TRITON, "deepgemm_moe"))
    own, noisy = ([one["host_us"] for one in document["hosts"]] for document in (triton, deepgemm))
    traced = max(cell["host_us"] for cell in triton["cells"])
    assert f"takes the host {min(own):.0f} to {max(own):.0f} µs, under nsys up to {traced:.0f} µs" in text
    assert f"takes {min(noisy):.0f} to {max(noisy):.0f} µs there" in text


def test_what_a_launch_costs_is_what_the_page_says() -> None:
    gaps = [
        one["gap_share"] * one["span_us"] / (one["launches"] - 1)
        for name in ("deepgemm_moe", TRITON)
        if (one := cells()[name, "T1_o32"])
    ]
    assert f"the GPU idles {min(gaps):.1f} to {max(gaps):.1f} µs between two kernels" in prose()
    assert cells()[V3, "T1_o32"]["gap_share"] == cells()[V3_2, "T1_o32"]["gap_share"] == 0, "their kernels overlap"
    v3, v3_2 = (1 - gemm_us(cells()[name, "T1_o32"]) / cells()[name, "T1_o32"]["span_us"] for name in (V3, V3_2))
    assert f"are {v3 * 100:.0f} % of v3's span and {v3_2 * 100:.0f} % of v3.2's" in prose()


def test_tritons_lag_at_large_t_is_in_its_gemms() -> None:
    pairs = [(cells()[TRITON, workload], cells()[V3_2, workload]) for workload in LARGE]
    behind = [f"{ours['busy_us'] - theirs['busy_us']:.0f}" for ours, theirs in pairs]
    first, second = (f"{gemm_us(ours) - gemm_us(theirs):.0f}" for ours, theirs in pairs)
    assert f"is {behind[0]} and {behind[1]} µs behind v3.2 there" in prose()
    assert f"{first} and {second} µs of that are in its GEMMs" in prose()


def test_the_composition_waits_for_the_host_and_nothing_else_spills() -> None:
    mine = [one for (solution, _), one in cells().items() if solution == COMPOSITION]
    assert {one["bound"] for one in mine} == {"host"}
    launches = [one["launches"] for one in mine]
    assert f"{min(launches)} to {max(launches)} launches a call" in prose()
    spans = [
        statistics.median(record["tiers"]["cupti_span_us"])
        for journal in RUN.glob(f"samples/block-*/{COMPOSITION}.jsonl.gz")
        for record in map(json.loads, gzip.decompress(journal.read_bytes()).splitlines())
        if (record["workload"], record["kind"]) == ("T80_o96", "measure")
    ]
    assert f"from {min(spans) / 1e3:.1f} to {max(spans) / 1e3:.1f} ms" in prose()
    spilling = {(name, s["stage"]) for (name, _), one in cells().items() for s in one["stages"] if s["local_accesses"]}
    assert spilling == {(COMPOSITION, "routing")}
    assert all(s["local_accesses"] is not None for one in cells().values() for s in one["stages"] if s["us"])


def test_no_stage_beats_its_floor_and_the_profile_is_small() -> None:
    stages = [one for cell in cells().values() for one in cell["stages"]]
    assert len(cells()) == 95 and max(one["floor_share"] or 0 for one in stages) < 1
    assert min(cell["dram_over_floor"] for cell in cells().values()) >= 1
    assert sum(path.stat().st_size for path in (RUN / "profile").iterdir()) < 10e6


@pytest.mark.parametrize("solution", [V3, V3_2, TRITON, "deepgemm_moe"])
def test_no_call_that_the_tracer_held_up_stands_for_a_cell(solution: str) -> None:
    """These solutions never wait for the GPU, so their calls have no gaps that the host causes."""
    held_up = [one["workload"] for (name, _), one in cells().items() if name == solution and one["host_gap_share"] > 0]
    assert held_up == []
