"""Records read from CUPTI's buffers: through a stand-in for libcupti everywhere, through the real one where a toolkit
is installed."""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bakeoff.core.device.activity import BUFFER, ActivityRecorder, CuptiError, Layout, Reader, open_recorder

KERNEL, COPY, FILL = 10, 1, 2
SIZES = {KERNEL: 216, COPY: 96, FILL: 88}  # bytes of a record, CUDA 13.0
SPIN = ctypes.create_string_buffer(b"_ZN2at4cuda12_GLOBAL__N_111spin_kernelEl")
GEMM = ctypes.create_string_buffer(b"gemm")
RECORDS = [
    (KERNEL, 0, 10, SPIN),
    (KERNEL, 1000, 3000, GEMM),
    (FILL, 3000, 3500, None),
    (COPY, 3600, 3700, None),
    (KERNEL, 4000, 4001, SPIN),
]
STREAMS = {KERNEL: (48, 7), COPY: (40, 8), FILL: (40, 9)}  # where a record has its stream, and which it is here
EXPECTED = [
    (0, 10, True, 7),
    (1000, 3000, False, 7),
    (3000, 3500, False, 9),
    (3600, 3700, False, 8),
    (4000, 4001, True, 7),
]


def dtype(**offsets: int) -> SimpleNamespace:
    return SimpleNamespace(fields={name: (None, offset) for name, offset in offsets.items()})


CUPTI = SimpleNamespace(
    ActivityKind=SimpleNamespace(CONCURRENT_KERNEL=KERNEL, MEMCPY=COPY, MEMSET=FILL),
    activity_kernel10_dtype=dtype(kind=0, start=16, end=24, stream_id=48, name=104),
    activity_memcpy6_dtype=dtype(kind=0, start=16, end=24, stream_id=40),
    activity_memset4_dtype=dtype(kind=0, start=16, end=24, stream_id=40),
)


def write(address: int, records: list[Any]) -> int:
    """Lay records out as CUPTI does; returns their size in bytes."""
    place = address
    for kind, start, end, name in records:
        ctypes.memset(place, 0, SIZES[kind])
        ctypes.c_int32.from_address(place).value = kind
        ctypes.c_uint64.from_address(place + 16).value = start
        ctypes.c_uint64.from_address(place + 24).value = end
        offset, stream = STREAMS[kind]
        ctypes.c_uint32.from_address(place + offset).value = stream
        if name is not None:
            ctypes.c_uint64.from_address(place + 104).value = ctypes.addressof(name)
        place += SIZES[kind]
    return place - address


class Library:
    """Stands in for libcupti: hands over what `waiting` holds, in buffers that it asked for."""

    def __init__(self) -> None:
        self.on: set[int] = set()
        self.waiting: list[list[Any]] = []
        self.status = 0
        self.dropped = 0

        def next_record(buffer: int, size: int, record: Any) -> int:
            place = record._obj.value
            place = buffer if place is None else place + SIZES[ctypes.c_int32.from_address(place).value]
            if place >= buffer + size:
                return 12
            record._obj.value = place
            return 0

        self.cuptiActivityGetNextRecord: Callable[..., int] = next_record

    def cuptiActivityRegisterCallbacks(self, requested: Any, completed: Any) -> int:
        self.requested, self.completed = requested, completed
        return 0

    def cuptiActivityEnable(self, kind: Any) -> int:
        self.on.add(kind.value)
        return self.status

    def cuptiActivityDisable(self, kind: Any) -> int:
        self.on.remove(kind.value)
        return 0

    def cuptiActivityFlushAll(self, flag: Any) -> int:
        while self.waiting:
            buffer, size, most = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_size_t()
            self.requested(ctypes.byref(buffer), ctypes.byref(size), ctypes.byref(most))
            assert size.value == BUFFER and buffer.value and buffer.value % 8 == 0 and most.value == 0
            self.completed(None, 0, buffer, size, write(buffer.value, self.waiting.pop(0)))
        return self.status

    def cuptiActivityGetNumDroppedRecords(self, context: Any, stream: Any, dropped: Any) -> int:
        dropped._obj.value = self.dropped
        return 0

    def cuptiGetResultString(self, status: Any, text: Any) -> int:
        text._obj.value = b"CUPTI_ERROR_INSUFFICIENT_PRIVILEGES"
        return 0


def test_dropped_records_are_an_error_and_no_shorter_time() -> None:
    library = Library()
    recorder = ActivityRecorder(library, Layout(CUPTI), "spin_kernel")  # type: ignore[arg-type]
    recorder.enable(True)
    library.waiting, library.dropped = [RECORDS[:2]], 3
    with pytest.raises(CuptiError, match="dropped 3 records"):
        recorder.collect()


def test_records_of_all_kinds_are_read_in_order_and_marks_are_known_by_name() -> None:
    library = Library()
    recorder = ActivityRecorder(library, Layout(CUPTI), "spin_kernel")  # type: ignore[arg-type]
    recorder.enable(True)
    assert recorder.enabled and library.on == {KERNEL, COPY, FILL}
    library.waiting = [RECORDS[:2], RECORDS[2:]]
    assert recorder.collect() == EXPECTED
    assert recorder.collect() == []
    recorder.enable(False)
    assert not library.on


def test_buffers_are_used_again() -> None:
    library = Library()
    recorder = ActivityRecorder(library, Layout(CUPTI), "spin_kernel")  # type: ignore[arg-type]
    for _ in range(50):
        library.waiting = [RECORDS]
        assert recorder.collect() == EXPECTED
    assert len(recorder._free) == 1 and not recorder._lent


def test_a_refusal_names_the_call_and_its_reason() -> None:
    library = Library()
    recorder = ActivityRecorder(library, Layout(CUPTI), "spin_kernel")  # type: ignore[arg-type]
    library.status = 35
    with pytest.raises(CuptiError, match=r"cuptiActivityEnable: CUPTI_ERROR_INSUFFICIENT_PRIVILEGES \(35\)"):
        recorder.enable(True)


def test_a_buffer_that_cannot_be_read_is_an_error() -> None:
    library = Library()
    library.cuptiActivityGetNextRecord = lambda *arguments: 9
    with pytest.raises(CuptiError, match="error 9"):
        Reader(library, Layout(CUPTI), "spin").read(0, 0)  # type: ignore[arg-type]


def test_without_cupti_python_or_libcupti_the_reason_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(__import__("sys").modules, "cupti", None)
        with pytest.raises(ImportError):
            open_recorder("spin")
    monkeypatch.setitem(__import__("sys").modules, "cupti", SimpleNamespace(cupti=CUPTI))
    with pytest.raises(CuptiError, match="torch has not loaded libcupti"):
        open_recorder("spin", loaded=lambda: "7f00-7f01 r--p 0 0 0 /usr/lib/libc.so.6\n")


def test_the_real_libcupti_reads_the_layout_of_cupti_python() -> None:
    libraries = sorted(Path("/usr/local/cuda/lib64").glob("libcupti.so.13*"))
    if not libraries:
        pytest.skip("needs libcupti.so.13 of a CUDA 13 toolkit")
    pytest.importorskip("cupti", reason="needs cupti-python")
    block = ctypes.create_string_buffer(4096)
    address = -(-ctypes.addressof(block) // 8) * 8
    layout = Layout(importlib.import_module("cupti.cupti"))
    reader = Reader(ctypes.CDLL(str(libraries[0])), layout, "spin_kernel")
    assert reader.read(address, write(address, RECORDS)) == EXPECTED
