"""Readers of timelines: the same capture in both formats reads the same, and every broken file says what is wrong with
it."""

from __future__ import annotations

import ctypes
import sqlite3
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from bakeoff.errors import InputError
from bakeoff.profile import cupti, nsys
from bakeoff.profile.stages import break_down
from bakeoff.profile.timeline import Timeline, calls, display_name
from support.profile_captures import ABOUT, GEMM, RULES, timeline, write_cupti, write_nsys


def refused(reader: object, path: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        reader(path)  # type: ignore[operator]
    return caught.value


def as_read(found: Timeline) -> list[tuple[object, ...]]:
    return [
        (
            call.mark.workload,
            call.mark.call,
            tuple(sorted((one.start_ns, one.name, one.grid, one.registers) for one in call.activities)),
        )
        for call in calls(found)
    ]


@pytest.fixture(params=["nsys", "cupti"])
def tier(request: pytest.FixtureRequest, tmp_path: Path) -> SimpleNamespace:
    """A format: how to write it and how to read it."""
    if request.param == "nsys":
        return SimpleNamespace(
            name="nsys", read=nsys.read, write=lambda lines, **more: write_nsys(tmp_path / "a.sqlite", lines, **more)
        )
    return SimpleNamespace(
        name="cupti", read=cupti.read, write=lambda lines, **more: write_cupti(tmp_path / "a.jsonl", lines, **more)
    )


def test_a_capture_reads_back_whole(tier: SimpleNamespace) -> None:
    made = timeline()
    found = tier.read(tier.write(made))
    assert found.source == tier.name
    assert as_read(found) == as_read(made)
    assert [break_down(call, RULES, **ABOUT) for call in calls(found)] == [
        break_down(call, RULES, **ABOUT) for call in calls(made)
    ]


def test_a_missing_file_is_an_input_error(tier: SimpleNamespace, tmp_path: Path) -> None:
    assert "no" in refused(tier.read, tmp_path / "absent").found.lower()


def test_an_unreadable_file_is_an_input_error(tier: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tier.write(timeline())

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    monkeypatch.setattr(Path, "read_bytes", denied)
    assert "Permission denied" in refused(tier.read, path).found


@pytest.mark.parametrize("kept", [0.05, 0.5, 0.97])
def test_a_truncated_file_is_an_input_error(tier: SimpleNamespace, kept: float) -> None:
    path = tier.write(timeline(tuple(f"T{count}_o32" for count in range(40))))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    error = refused(tier.read, path)
    assert str(path) in error.where and error.hint


def test_a_cupti_file_cut_between_two_lines_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    path = write_cupti(tmp_path / "a.jsonl", timeline())
    path.write_bytes(b"\n".join(path.read_bytes().split(b"\n")[:2]) + b"\n")
    assert "no end" in refused(cupti.read, path).found


def test_what_a_dead_process_recorded_is_read_up_to_its_last_whole_line(tmp_path: Path) -> None:
    path = write_cupti(tmp_path / "a.jsonl", timeline(("T1_o32", "T7_o192", "T14_o0")))
    header, first, second, third, _, _ = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([header, first, second, third[:-20]]))
    refused(cupti.read, path)
    assert {mark.workload for mark in cupti.read(path, whole=False).marks} == {"T1_o32", "T7_o192"}
    path.write_bytes(b"\n".join([header, first, second, b""]))
    assert {mark.workload for mark in cupti.read(path, whole=False).marks} == {"T1_o32", "T7_o192"}


def test_another_version_is_named(tmp_path: Path) -> None:
    error = refused(nsys.read, write_nsys(tmp_path / "a.sqlite", timeline(), version="4.0.0"))
    assert "4.0.0" in error.found and "3.x" in error.expected
    error = refused(cupti.read, write_cupti(tmp_path / "a.jsonl", timeline(), schema="bakeoff/cupti/2"))
    assert "bakeoff/cupti/2" in error.found and cupti.SCHEMA in error.expected


def test_an_export_that_names_no_version_is_refused(tmp_path: Path) -> None:
    path = write_nsys(tmp_path / "a.sqlite", timeline())
    with sqlite3.connect(path) as database:
        database.execute("DROP TABLE META_DATA_EXPORT")
    assert "version none" in refused(nsys.read, path).found


def test_an_export_is_read_wherever_it_lies(tmp_path: Path) -> None:
    for name in ("a#b", "a?b", "a%41b", "a b"):
        (tmp_path / name).mkdir()
        assert as_read(nsys.read(write_nsys(tmp_path / name / "a.sqlite", timeline()))) == as_read(timeline())


def test_a_graph_that_was_traced_as_a_whole_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = write_nsys(tmp_path / "a.sqlite", timeline())
    with sqlite3.connect(path) as database:
        database.execute(f"CREATE TABLE {nsys.GRAPHS} (start INTEGER, end INTEGER, correlationId INTEGER)")
        database.commit()
        assert nsys.read(path).activities, "without such a graph the table is empty"
        database.execute(f"INSERT INTO {nsys.GRAPHS} VALUES (0, 1, 1)")
    error = refused(nsys.read, path)
    assert "traced as a whole" in error.found and "--cuda-graph-trace=node" in error.hint
    assert "--cuda-graph-trace=node" in nsys.capture_command("nsys", path, [])


def test_a_refused_cuda_trace_shows_what_the_profiler_said(tmp_path: Path) -> None:
    empty = replace(timeline(), activities=[], launches=[])
    said = "CUDA profiling is not permitted: CUPTI_ERROR_INSUFFICIENT_PRIVILEGES"
    error = refused(nsys.read, write_nsys(tmp_path / "a.sqlite", empty, diagnosis=said))
    assert "no kernel was recorded" in error.found and said in error.found


def test_a_refused_cupti_recorder_shows_the_error(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        f'{{"schema": "{cupti.SCHEMA}", "device": "x", "cupti": "13.0.1"}}\n'
        '{"error": "CUPTI_ERROR_INSUFFICIENT_PRIVILEGES"}\n'
    )
    assert "CUPTI_ERROR_INSUFFICIENT_PRIVILEGES" in refused(cupti.read, path).found


def test_an_export_without_a_column_that_is_needed_names_it(tmp_path: Path) -> None:
    path = write_nsys(tmp_path / "a.sqlite", timeline())
    with sqlite3.connect(path) as database:
        database.execute("ALTER TABLE CUPTI_ACTIVITY_KIND_KERNEL DROP COLUMN demangledName")
    assert "demangledName" in refused(nsys.read, path).found


def test_older_exports_without_optional_columns_are_read(tmp_path: Path) -> None:
    path = write_nsys(tmp_path / "a.sqlite", timeline())
    with sqlite3.connect(path) as database:
        database.execute("ALTER TABLE CUPTI_ACTIVITY_KIND_KERNEL DROP COLUMN localMemoryPerThread")
    kernel = next(one for one in nsys.read(path).activities if one.kind == "kernel")
    assert kernel.local_bytes is None and kernel.registers == 168


def test_a_line_that_lacks_fields_is_an_input_error(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        f'{{"schema": "{cupti.SCHEMA}"}}\n'
        '{"workload": "T1_o32", "marks": [[0, 1]], "launches": [], "activities": []}\n{"end": 1}\n'
    )
    assert "without what it must have" in refused(cupti.read, path).found


def test_symbols_are_demangled_as_nsight_shows_them() -> None:
    assert cupti.demangle("route_tokens") == "route_tokens"
    assert cupti.demangle("_ZN7cutlass6KernelILi4EEEvf") in (
        "void cutlass::Kernel<4>(float)",
        "_ZN7cutlass6KernelILi4EEEvf",
    )
    assert cupti.demangle("_Zbroken") == "_Zbroken"


def test_a_kernel_is_shown_by_its_bare_name() -> None:
    assert display_name("void (anonymous namespace)::route<int, (Kind)3>(float*, int)") == "route"
    assert display_name("_ZN7cutlass13device_kernelINS_4gemm6kernelEEEvT_") == "cutlass::device_kernel"
    assert display_name("k" * 30, width=30) == "k" * 30
    assert display_name("k" * 31, width=30) == "k" * 29 + "…"


def test_commands_ask_for_what_the_readers_need(tmp_path: Path) -> None:
    command = nsys.capture_command("/x/nsys", tmp_path / "out", ["python", "-m", "child"])
    assert command[:2] == ["/x/nsys", "profile"] and command[-3:] == ["python", "-m", "child"]
    assert {"--trace=cuda,nvtx", "--sample=none", "--cpuctxsw=none"} <= set(command)
    assert nsys.export_command("nsys", tmp_path / "a.nsys-rep", tmp_path / "a.sqlite")[-1].endswith("a.nsys-rep")


class FakeCupti:
    """Stands for the module cupti.cupti: delivers the records it is given at a flush."""

    class cuptiError(Exception):
        pass

    class ActivityKind:
        CONCURRENT_KERNEL, MEMCPY, MEMSET, RUNTIME, DRIVER = range(5)

    class CallbackDomain:
        RUNTIME_API, DRIVER_API = range(2)

    def __init__(self, denied: bool = False) -> None:
        self.denied, self.now, self.pending = denied, 0, []
        self.enabled: list[int] = []
        self.lost = 0

    def activity_get_num_dropped_records(self, context: int, stream: int, dropped: int) -> None:
        ctypes.c_size_t.from_address(dropped).value = self.lost

    def get_timestamp(self) -> int:
        self.now += 1000
        return self.now

    def activity_register_callbacks(self, _: object, completed: object) -> None:
        if self.denied:
            raise self.cuptiError("CUPTI_ERROR_INSUFFICIENT_PRIVILEGES")
        self.completed = completed

    def activity_enable(self, kind: int) -> None:
        self.enabled.append(kind)

    def activity_disable(self, kind: int) -> None:
        self.enabled.remove(kind)

    def activity_flush_all(self, _: int) -> None:
        self.completed(self.pending)  # type: ignore[operator]
        self.pending = []

    def get_callback_name(self, domain: int, cbid: int) -> str:
        return f"{'cuda' if domain == 0 else 'cu'}Call{cbid}"

    def launch(self, name: str, correlation: int) -> None:
        """A driver call now, and a kernel of it later on the GPU."""
        at = self.get_timestamp()
        self.pending.append(SimpleNamespace(kind=4, cbid=7, correlation_id=correlation, start=at, end=at + 10))
        self.pending.append(
            SimpleNamespace(
                kind=0,
                name=name,
                start=at + 50_000,
                end=at + 60_000,
                correlation_id=correlation,
                stream_id=7,
                grid_x=1,
                grid_y=2,
                grid_z=3,
                block_x=128,
                block_y=1,
                block_z=1,
                registers_per_thread=40,
                static_shared_memory=16,
                dynamic_shared_memory=32,
                local_memory_per_thread=8,
            )
        )


@pytest.fixture
def fake_cupti(monkeypatch: pytest.MonkeyPatch) -> FakeCupti:
    import sys

    fake = FakeCupti()
    monkeypatch.setitem(sys.modules, "cupti", SimpleNamespace(cupti=fake))
    return fake


def test_the_recorder_writes_what_its_reader_reads(fake_cupti: FakeCupti, tmp_path: Path) -> None:
    recorder = cupti.TimelineRecorder(tmp_path / "a.jsonl", "GPU")
    fake_cupti.launch("warmup", 1)
    with recorder.mark("T1_o32", 0):
        fake_cupti.launch("_Z4kernv", 2)
        fake_cupti.launch("route_tokens", 3)
    fake_cupti.launch("flush", 4)
    with recorder.mark("T1_o32", 1):
        fake_cupti.launch("route_tokens", 5)
    recorder.finish("T1_o32")
    with recorder.mark("T7_o192", 0):
        fake_cupti.launch("failed", 6)
    recorder.drop()
    recorder.close()
    found = calls(cupti.read(tmp_path / "a.jsonl"))
    assert [(call.mark.workload, call.mark.call, [one.name for one in call.activities]) for call in found] == [
        ("T1_o32", 0, ["kern()", "route_tokens"]),
        ("T1_o32", 1, ["route_tokens"]),
    ]
    kernel = found[0].activities[0]
    assert (kernel.grid, kernel.block, kernel.registers, kernel.shared_bytes, kernel.local_bytes) == (
        (1, 2, 3),
        (128, 1, 1),
        40,
        48,
        8,
    )
    assert found[0].launches[0].name == "cuCall7"
    assert fake_cupti.enabled == []


def test_dropped_records_and_records_without_times_are_refused(fake_cupti: FakeCupti, tmp_path: Path) -> None:
    for name, lost, start in (("dropped", 3, None), ("untimed", 0, 0)):
        recorder, fake_cupti.lost = cupti.TimelineRecorder(tmp_path / name, "GPU"), lost
        with recorder.mark("T1_o32", 0):
            fake_cupti.launch("route_tokens", 2)
        if start is not None:
            fake_cupti.pending[-1].start = start
        recorder.finish("T1_o32")
        recorder.close()
    with pytest.raises(InputError, match="3 records were dropped"):
        cupti.read(tmp_path / "dropped")
    with pytest.raises(InputError, match="1 records without their times, route_tokens"):
        cupti.read(tmp_path / "untimed")


def test_a_denied_recorder_leaves_the_reason_in_its_file(fake_cupti: FakeCupti, tmp_path: Path) -> None:
    fake_cupti.denied = True
    with pytest.raises(FakeCupti.cuptiError):
        cupti.TimelineRecorder(tmp_path / "a.jsonl", "GPU")
    assert "INSUFFICIENT_PRIVILEGES" in refused(cupti.read, tmp_path / "a.jsonl").found


def test_gemm_names_keep_their_template_arguments_in_the_timeline(tmp_path: Path) -> None:
    assert GEMM in {one.name for one in nsys.read(write_nsys(tmp_path / "a.sqlite", timeline())).activities}
