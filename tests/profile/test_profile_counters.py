"""Counters: reading Nsight Compute's output, what a chip lacks, and what kernels sum up to."""

from __future__ import annotations

from pathlib import Path

import pytest
from bakeoff.errors import InputError
from bakeoff.profile import ncu
from bakeoff.profile.stages import cell_profile, with_counters
from bakeoff.profile.timeline import calls, mark_name
from bakeoff.schema.profile import NOT_COUNTED, Counters
from support.profile_captures import ABOUT, GEMM, NVTX_COLUMN, RULES, timeline, write_ncu

METRICS = ncu.wanted("sm_90a")
FAST = {
    "duration_ns": "1000",
    "dram_read_bytes": "2,000,000",
    "dram_write_bytes": "500000",
    "dram_share": "75",
    "tensor_share": "0",
    "occupancy": "50",
    "local_loads": "0",
    "local_stores": "0",
}
SLOW = {**FAST, "duration_ns": "3000", "tensor_share": "80", "dram_share": "25"}
KERNELS = [
    ("T1_o32", "route_tokens", FAST),
    ("T1_o32", GEMM, SLOW),
    ("T1_o32", "swiglu_rows", FAST),
    ("T901_o96", GEMM, SLOW),
]


def refused(path: Path, metrics: dict[str, str] = METRICS) -> InputError:
    with pytest.raises(InputError) as caught:
        ncu.read_csv(path, metrics)
    return caught.value


def test_a_raw_page_gives_kernels_with_their_calls_and_metrics(tmp_path: Path) -> None:
    found = ncu.read_csv(
        write_ncu(tmp_path / "a.csv", METRICS, KERNELS, before="==PROF== Connected to process 42\n"), METRICS
    )
    assert [(one.workload, one.call, one.kernel) for one in found] == [
        (workload, 0, name) for workload, name, _ in KERNELS
    ]
    assert found[0].metrics["dram_read_bytes"] == 2e6 and found[0].metrics["dram_share"] == 0.75
    assert found[1].metrics["tensor_share"] == 0.8


def test_a_metric_that_the_chip_lacks_is_none_and_never_zero(tmp_path: Path) -> None:
    lacking = {name: value for name, value in FAST.items() if name != "tensor_share"}
    found = ncu.read_csv(
        write_ncu(tmp_path / "a.csv", METRICS, [("T1_o32", "k", lacking), ("T1_o32", "k", FAST)]), METRICS
    )
    assert found[0].metrics["tensor_share"] is None and found[1].metrics["tensor_share"] == 0.0
    assert ncu.summarize(found)["tensor_share"] is None
    assert ncu.summarize(found[1:])["tensor_share"] == 0.0


def test_a_metric_that_was_not_asked_for_is_none(tmp_path: Path) -> None:
    asked = {"duration_ns": METRICS["duration_ns"]}
    found = ncu.read_csv(write_ncu(tmp_path / "a.csv", asked, KERNELS[:1]), METRICS)
    assert found[0].metrics["duration_ns"] == 1000.0 and found[0].metrics["dram_read_bytes"] is None


def test_sums_are_sums_and_shares_are_weighted_by_duration(tmp_path: Path) -> None:
    found = ncu.read_csv(write_ncu(tmp_path / "a.csv", METRICS, KERNELS[:2]), METRICS)
    total = ncu.summarize(found)
    assert (total["dram_bytes"], total["local_accesses"]) == (5e6, 0.0)
    assert (total["tensor_share"], total["dram_share"]) == (0.6, 0.375)


def test_a_sum_with_an_unknown_part_is_unknown() -> None:
    known = ncu.Counted("T1_o32", 0, "k", {"dram_read_bytes": 10.0, "dram_write_bytes": 5.0, "duration_ns": 1.0})
    unknown = ncu.Counted("T1_o32", 0, "k", {"dram_read_bytes": None, "dram_write_bytes": 5.0, "duration_ns": 1.0})
    assert ncu.summarize([known])["dram_bytes"] == 15.0
    assert ncu.summarize([known, unknown])["dram_bytes"] is None
    assert ncu.summarize([]) == dict.fromkeys(Counters.model_fields)


def test_a_cells_counters_are_split_by_the_same_stages_as_its_time(tmp_path: Path) -> None:
    found = ncu.read_csv(write_ncu(tmp_path / "a.csv", METRICS, [*KERNELS[:3], ("T1_o32", GEMM, FAST)]), METRICS)
    cell = cell_profile(calls(timeline())[:3], RULES, **ABOUT)
    assert cell is not None and not cell.counted and cell.counters_missing == NOT_COUNTED
    counted = with_counters(cell, found, RULES)
    stages = {one.stage: one for one in counted.stages if one.dram_bytes is not None}
    assert counted.counted and sorted(stages) == ["activation_quant", "gemm1", "gemm2", "routing"]
    assert stages["gemm1"].tensor_share == 0.8 and stages["gemm2"].tensor_share == 0.0
    assert counted.dram_bytes == sum(one.dram_bytes or 0 for one in stages.values())


@pytest.mark.parametrize(
    ("printed", "value"),
    [("2,000,000", 2e6), ("12345.67", 12345.67), ("1.5e+3", 1500.0), ("n/a", None), ("nan", None), ("", None)],
)
def test_a_number_is_read_as_the_locale_c_prints_it(printed: str, value: float | None, tmp_path: Path) -> None:
    path = write_ncu(tmp_path / "a.csv", METRICS, [("T1_o32", "k", {**FAST, "dram_read_bytes": printed})])
    assert ncu.read_csv(path, METRICS)[0].metrics["dram_read_bytes"] == value


@pytest.mark.parametrize("printed", ["١٢", "12.345,67", "45,5", "1,23", "1.000.000", "0x10", "1_000", "(1)"])
def test_a_number_of_another_locale_is_refused_and_never_another_number(printed: str, tmp_path: Path) -> None:
    path = write_ncu(tmp_path / "a.csv", METRICS, [("T1_o32", "k", {**FAST, "dram_read_bytes": printed})])
    assert repr(printed) in refused(path).found


def test_a_truncated_table_is_an_input_error(tmp_path: Path) -> None:
    path = write_ncu(tmp_path / "a.csv", METRICS, KERNELS)
    whole = path.read_text()
    for kept in (0, 40, len(whole) // 2, len(whole) - 30):
        path.write_text(whole[:kept])
        assert refused(path).hint
    path.write_text("\n".join(whole.splitlines()[:2]))
    assert "without kernels" in refused(path).found


def test_denied_counters_are_named_with_the_fix(tmp_path: Path) -> None:
    line = (
        "==ERROR== ERR_NVGPUCTRPERM - The user does not have permission to access NVIDIA GPU Performance Counters "
        "on the target device 0."
    )
    path = tmp_path / "a.csv"
    path.write_text(
        f"==PROF== Connected to process 1 (/usr/bin/python3)\n{line}\n==WARNING== No kernels were profiled.\n"
    )
    error = refused(path)
    assert error.found == line and "NVreg_RestrictProfilingToAdminUsers=0" in error.hint
    assert ncu.refusal(path.read_text()) == line and ncu.refusal("all is well") is None


def test_a_table_of_another_version_without_ranges_is_named(tmp_path: Path) -> None:
    path = write_ncu(tmp_path / "a.csv", METRICS, KERNELS)
    path.write_text(path.read_text().replace(NVTX_COLUMN, "something else"))
    assert '"ID"' in refused(path).found or "ID" in refused(path).found


def test_a_kernel_outside_any_marked_call_is_refused(tmp_path: Path) -> None:
    path = write_ncu(tmp_path / "a.csv", METRICS, KERNELS[:1])
    path.write_text(path.read_text().replace(mark_name("T1_o32", 0), "other"))
    assert "outside any marked call" in refused(path).found


def listing(*names: str) -> str:
    """What `ncu --query-metrics` prints."""
    rule = "-" * 90
    rows = "\n".join(f"{name:<40} Counter         byte            # of something" for name in names)
    return (
        f"Device NVIDIA H100 (GH100)\n{rule} --------------- ---------------\nMetric Name{' ' * 30}Metric "
        f"Type\n{rule}\n{rows}\n"
    )


def test_only_metrics_of_the_chip_are_asked_for() -> None:
    text = listing("dram__bytes_read", "dram__bytes_write", "gpu__time_duration", "sm__pipe_tensor_cycles_active")
    found = ncu.supported(METRICS, text)
    assert set(found) == {"dram_read_bytes", "dram_write_bytes", "duration_ns", "tensor_share"}
    assert ncu.available("no table at all") == set()


def test_each_chip_has_its_own_tensor_pipe() -> None:
    assert ncu.wanted("sm_90a")["tensor_share"].startswith("sm__pipe_tensor_cycles_active")
    assert ncu.wanted("sm_100a")["tensor_share"].startswith("sm__pipe_tc_cycles_active")


def test_the_capture_leaves_clocks_alone_and_profiles_marked_calls_only(tmp_path: Path) -> None:
    command = ncu.capture_command("ncu", tmp_path / "out", ["a.sum", "b.sum"], ["python", "x"])
    assert {"--clock-control=none", "--profile-from-start=off", "--nvtx", "--metrics=a.sum,b.sum"} <= set(command)
    assert command[-2:] == ["python", "x"]
