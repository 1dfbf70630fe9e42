"""CUPTI's records of kernels, copies and fills, read from CUPTI's own buffers.

Entry point: `open_recorder`. The layout of a record comes from cupti-python, which follows the pinned toolkit; the
buffers are read with ctypes, because an object for each of a call's records costs the host more time than most calls
under test take. libcupti is the one that torch has loaded: two of them in one process would not see each other's work.
"""

import atexit
import ctypes
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

BUFFER = 4 << 20  # bytes; some ten thousand records
END_OF_BUFFER = 12  # CUPTI_ERROR_MAX_LIMIT_REACHED
_Requested = ctypes.CFUNCTYPE(
    None, ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_size_t), ctypes.POINTER(ctypes.c_size_t)
)
_Completed = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t)

DeviceRecord = tuple[int, int, bool, int]  # device start and end, ns; whether the kernel is a mark; stream


class CuptiError(Exception):
    """A call of CUPTI failed; says which and why."""


class Layout:
    """Where the fields of records lie, in bytes from a record's start."""

    def __init__(self, cupti: Any) -> None:
        """cupti: the module cupti.cupti of cupti-python."""
        kinds, kernel = cupti.ActivityKind, cupti.activity_kernel10_dtype
        dtypes = (kernel, cupti.activity_memcpy6_dtype, cupti.activity_memset4_dtype)
        self.kernel = int(kinds.CONCURRENT_KERNEL)
        self.kinds = (self.kernel, int(kinds.MEMCPY), int(kinds.MEMSET))
        self.name = kernel.fields["name"][1]
        self.streams = {kind: dtype.fields["stream_id"][1] for kind, dtype in zip(self.kinds, dtypes, strict=True)}
        # The same in all three, in every version so far; unpacking fails where they are not.
        (self.start,), (self.end,) = ({dtype.fields[field][1] for dtype in dtypes} for field in ("start", "end"))


class Reader:
    """Reads filled buffers."""

    def __init__(self, library: ctypes.CDLL, layout: Layout, mark: str) -> None:
        """mark: a word in the names of kernels that count as marks."""
        self._next, self._layout, self._mark = library.cuptiActivityGetNextRecord, layout, mark.encode()
        self._next.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.POINTER(ctypes.c_void_p)]
        self._marks: dict[int, bool] = {}  # by the address of a name, which CUPTI keeps for good

    def read(self, buffer: int, size: int) -> list[DeviceRecord]:
        """All records of the first `size` bytes at the address `buffer`."""
        found: list[DeviceRecord] = []
        record, layout, long = ctypes.c_void_p(), self._layout, ctypes.c_uint64.from_address
        while (status := self._next(buffer, size, ctypes.byref(record))) == 0:
            place = record.value or 0
            kind = ctypes.c_int32.from_address(place).value
            is_mark = kind == layout.kernel and self._is_mark(long(place + layout.name).value)
            stream = ctypes.c_uint32.from_address(place + layout.streams[kind]).value
            found.append((long(place + layout.start).value, long(place + layout.end).value, is_mark, stream))
        if status != END_OF_BUFFER:
            raise CuptiError(f"a buffer of records cannot be read: CUPTI's error {status}")
        return found

    def _is_mark(self, name: int) -> bool:
        if name not in self._marks:
            self._marks[name] = bool(name) and self._mark in ctypes.string_at(name)
        return self._marks[name]


class ActivityRecorder:
    """Switches recording on and off, and gives what has been recorded. One per process."""

    def __init__(self, library: ctypes.CDLL, layout: Layout, mark: str) -> None:
        self._library, self._layout, self._reader = library, layout, Reader(library, layout, mark)
        self._free: list[Any] = []
        self._lent: dict[int, Any] = {}
        self._full: list[tuple[int, int]] = []
        self.enabled = False
        # Held here: CUPTI calls them until the process ends.
        self._callbacks = _Requested(self._requested), _Completed(self._completed)
        self._call("cuptiActivityRegisterCallbacks", *self._callbacks)
        atexit.register(self.enable, False)

    def enable(self, wanted: bool) -> None:
        """Record from now on, or do not; raises CuptiError."""
        if wanted == self.enabled:
            return
        for kind in self._layout.kinds:
            self._call("cuptiActivityEnable" if wanted else "cuptiActivityDisable", ctypes.c_int(kind))
        self.enabled = wanted

    def collect(self) -> list[DeviceRecord]:
        """Everything recorded since the last time; the device is idle."""
        self._call("cuptiActivityFlushAll", ctypes.c_uint32(0))
        found: list[DeviceRecord] = []
        while self._full:
            address, size = self._full.pop(0)
            found += self._reader.read(address, size)
            self._free.append(self._lent.pop(address))
        dropped = ctypes.c_size_t()
        self._call("cuptiActivityGetNumDroppedRecords", None, ctypes.c_uint32(0), ctypes.byref(dropped))
        if dropped.value:
            raise CuptiError(f"CUPTI has dropped {dropped.value} records")
        return found

    def _requested(self, buffer: Any, size: Any, most: Any) -> None:
        block = self._free.pop() if self._free else ctypes.create_string_buffer(BUFFER + 8)
        address = -(-ctypes.addressof(block) // 8) * 8
        self._lent[address] = block
        buffer[0], size[0], most[0] = address, BUFFER, 0

    def _completed(self, context: Any, stream: int, buffer: int, size: int, valid: int) -> None:
        self._full.append((buffer, valid))

    def _call(self, function: str, *arguments: Any) -> None:
        status = getattr(self._library, function)(*arguments)
        if status:
            text = ctypes.c_char_p()
            self._library.cuptiGetResultString(ctypes.c_int(status), ctypes.byref(text))
            raise CuptiError(f"{function}: {(text.value or b'').decode()} ({status})")


def open_recorder(
    mark: str, loaded: Callable[[], str] = lambda: Path("/proc/self/maps").read_text()
) -> ActivityRecorder:
    """The process's recorder, switched on. ImportError without cupti-python, CuptiError where CUPTI is not there or
    denied."""
    from cupti import cupti

    found = re.search(r"\S*/libcupti\.so[.\d]*", loaded())
    if found is None:
        raise CuptiError("torch has not loaded libcupti; this build of torch has no profiler")
    recorder = ActivityRecorder(ctypes.CDLL(found.group()), Layout(cupti), mark)
    recorder.enable(True)
    return recorder
