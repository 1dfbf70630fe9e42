"""Counters: reading Nsight Compute's output, what a chip lacks, and what kernels sum up to."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from bakeoff.errors import InputError
from bakeoff.profile import counters, ncu
from bakeoff.profile.summary import cell_profile, with_counters
from bakeoff.profile.timeline import calls, mark_name
from bakeoff.schema.profile import NOT_COUNTED
from support.profile_captures import GEMM, NVTX_COLUMN, RULES, timeline, write_ncu

METRICS = counters.wanted("sm_90a")
FAST = {
    "duration_ns": "1000",
    "dram_read_bytes": "2,000,000",
    "dram_write_bytes": "500000",
    "dram_share": "75",
    "tensor_share": "0",
    "occupancy": "50",
    "registers": "32",
    "waves": "1.5",
    "l2_bytes": "4000000",
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
    assert found[1].metrics["tensor_share"] == 0.8 and found[1].metrics["registers"] == 32


def test_a_metric_that_the_chip_lacks_is_none_and_never_zero(tmp_path: Path) -> None:
    lacking = {name: value for name, value in FAST.items() if name != "tensor_share"}
    found = ncu.read_csv(
        write_ncu(tmp_path / "a.csv", METRICS, [("T1_o32", "k", lacking), ("T1_o32", "k", FAST)]), METRICS
    )
    assert found[0].metrics["tensor_share"] is None and found[1].metrics["tensor_share"] == 0.0
    assert counters.summarize(found).tensor_share is None
    assert counters.summarize(found[1:]).tensor_share == 0.0


def test_a_metric_that_was_not_asked_for_is_none(tmp_path: Path) -> None:
    asked = {"duration_ns": METRICS["duration_ns"]}
    found = ncu.read_csv(write_ncu(tmp_path / "a.csv", asked, KERNELS[:1]), METRICS)
    assert found[0].metrics["duration_ns"] == 1000.0 and found[0].metrics["dram_read_bytes"] is None


def test_sums_are_sums_and_shares_are_weighted_by_duration(tmp_path: Path) -> None:
    found = ncu.read_csv(write_ncu(tmp_path / "a.csv", METRICS, KERNELS[:2]), METRICS)
    total = counters.summarize(found)
    assert (total.kernels, total.duration_us, total.dram_bytes, total.local_accesses) == (2, 4.0, 5e6, 0.0)
    assert total.tensor_share == pytest.approx(0.6) and total.dram_share == pytest.approx((0.75 + 3 * 0.25) / 4)


def test_a_sum_with_an_unknown_part_is_unknown() -> None:
    known = counters.Counted("T1_o32", 0, "k", {"dram_read_bytes": 10.0, "dram_write_bytes": 5.0, "duration_ns": 1.0})
    unknown = counters.Counted("T1_o32", 0, "k", {"dram_read_bytes": None, "dram_write_bytes": 5.0, "duration_ns": 1.0})
    assert counters.summarize([known]).dram_bytes == 15.0
    assert counters.summarize([known, unknown]).dram_bytes is None
    assert counters.summarize([]).dram_bytes is None


def test_a_cells_counters_are_split_by_the_same_stages_as_its_time(tmp_path: Path) -> None:
    found = ncu.read_csv(write_ncu(tmp_path / "a.csv", METRICS, [*KERNELS[:3], ("T1_o32", GEMM, FAST)]), METRICS)
    cell = cell_profile("T1_o32", "key", "nsys", calls(timeline())[:3], RULES)
    assert cell is not None and cell.counters is None and cell.counters_missing == NOT_COUNTED
    counted = with_counters(cell, found, RULES, ["waves"]).counters
    assert counted is not None and counted.missing == ["waves"]
    assert sorted(counted.stages) == ["activation_quant", "gemm1", "gemm2", "routing"]
    assert counted.stages["gemm1"].tensor_share == 0.8 and counted.stages["gemm2"].tensor_share == 0.0
    assert counted.total.dram_bytes == sum(one.dram_bytes or 0 for one in counted.stages.values())


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
    found = counters.supported(METRICS, text)
    assert {"dram_read_bytes", "dram_write_bytes", "duration_ns", "tensor_share"} <= set(found)
    assert {"registers", "waves"} <= set(found), "launch metrics are never listed"
    assert "occupancy" not in found
    assert counters.available("no table at all") == set()


def test_each_chip_has_its_own_tensor_pipe() -> None:
    assert counters.wanted("sm_90a")["tensor_share"].startswith("sm__pipe_tensor_cycles_active")
    assert counters.wanted("sm_100a")["tensor_share"].startswith("sm__pipe_tc_cycles_active")


def test_the_capture_leaves_clocks_alone_and_profiles_marked_calls_only(tmp_path: Path) -> None:
    command = ncu.capture_command("ncu", tmp_path / "out", ["a.sum", "b.sum"], ["python", "x"])
    assert {"--clock-control=none", "--profile-from-start=off", "--nvtx", "--metrics=a.sum,b.sum"} <= set(command)
    assert command[-2:] == ["python", "x"]


class FakeAction:
    """What ncu_report gives of one kernel."""

    def __init__(self, kernel: str, ranges: list[str], values: dict[str, float]) -> None:
        self.kernel, self.ranges, self.values = kernel, ranges, values

    def name(self, base: int) -> str:
        assert base == 2
        return self.kernel

    def nvtx_state(self) -> SimpleNamespace | None:
        domain = SimpleNamespace(push_pop_ranges=lambda: tuple(self.ranges))
        return SimpleNamespace(domains=lambda: (0,), domain_by_id=lambda _: domain) if self.ranges else None

    def metric_by_name(self, name: str) -> SimpleNamespace | None:
        value = self.values.get(name)
        return None if value is None else SimpleNamespace(has_value=lambda: True, as_double=lambda: value)


def fake_library(actions: list[FakeAction]) -> SimpleNamespace:
    part = SimpleNamespace(num_actions=lambda: len(actions), action_by_idx=lambda number: actions[number])
    context = SimpleNamespace(num_ranges=lambda: 1 if actions else 0, range_by_idx=lambda _: part)
    return SimpleNamespace(load_report=lambda _: context, IAction=SimpleNamespace(NameBase_DEMANGLED=2))


def test_a_report_file_reads_as_its_table_does(tmp_path: Path) -> None:
    path = tmp_path / "a.ncu-rep"
    path.write_bytes(b"NVR")
    values = {METRICS["duration_ns"]: 1000.0, METRICS["dram_share"]: 75.0}
    found = ncu.read_report(path, METRICS, fake_library([FakeAction(GEMM, [mark_name("T1_o32", 0)], values)]))
    assert (found[0].workload, found[0].kernel) == ("T1_o32", GEMM)
    assert found[0].metrics["dram_share"] == 0.75 and found[0].metrics["tensor_share"] is None


def test_a_report_without_kernels_or_ranges_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.ncu-rep"
    path.write_bytes(b"NVR")
    with pytest.raises(InputError, match="without kernels"):
        ncu.read_report(path, METRICS, fake_library([]))
    with pytest.raises(InputError, match="outside any marked call"):
        ncu.read_report(path, METRICS, fake_library([FakeAction("k", [], {})]))


def test_nvidias_own_reader_refuses_what_is_no_report(tmp_path: Path) -> None:
    pytest.importorskip("ncu_report", reason="needs NVIDIA's package: pip install ncu-report")
    for content in (b"", b"NVR\0" + b"x" * 500):
        path = tmp_path / "a.ncu-rep"
        path.write_bytes(content)
        with pytest.raises(InputError, match="without kernels"):
            ncu.read_report(path, METRICS)
    with pytest.raises(InputError, match="cannot read"):
        ncu.read_report(tmp_path / "absent.ncu-rep", METRICS)


def test_without_nvidias_reader_the_error_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "ncu_report", None)
    with pytest.raises(InputError, match="pip install ncu-report"):
        ncu.read_report(tmp_path / "a.ncu-rep", METRICS)
