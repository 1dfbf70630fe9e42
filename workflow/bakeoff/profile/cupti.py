"""CUPTI activity records: the recorder that runs inside the profiled process, and the reader of the file that it
writes.

Entry points: `TimelineRecorder` (needs the package cupti-python and a GPU), `read` (a pure function of the file). The
file is JSON lines: a header, one line per workload as it finishes, and a last line that says how many there are, so
that a cut file is seen. Tracing needs no permission. Limits: one recorder per process, and none beside another user of
CUPTI (nsys, ncu, torch's profiler).
"""

import ctypes
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

from bakeoff.errors import InputError
from bakeoff.files import canonical_json, json_document, read_bytes
from bakeoff.profile.timeline import Activity, Launch, Mark, Timeline, calls, copy_name

SCHEMA = "bakeoff/cupti/1"
BUFFER_BYTES = 8 << 20
# Columns of the file: another order is another schema.
ACTIVITY_FIELDS = tuple(one.name for one in fields(Activity))
AGAIN = "the profiled process was cut short: profile again; cells that were read before are kept"


class TimelineRecorder:
    """Records marked calls; `finish` writes a workload's line."""

    def __init__(self, path: Path, device: str) -> None:
        from cupti import cupti

        self._cupti, self._stream, self._lines = cupti, path.open("wb"), 0
        self._forget()
        self._write({"schema": SCHEMA, "device": device})
        kinds = cupti.ActivityKind
        self._kinds = [kinds.CONCURRENT_KERNEL, kinds.MEMCPY, kinds.MEMSET, kinds.RUNTIME, kinds.DRIVER]
        try:
            cupti.activity_register_callbacks(lambda: (BUFFER_BYTES, 0), self._completed)
            for kind in self._kinds:
                cupti.activity_enable(kind)
        except cupti.cuptiError as error:
            self._write({"error": str(error)})
            raise

    @contextmanager
    def mark(self, workload: str, call: int) -> Iterator[None]:
        """Mark one call; what is enqueued inside belongs to it."""
        start = self._cupti.get_timestamp()
        yield
        self._recorded.marks.append(Mark(workload, call, start, self._cupti.get_timestamp()))

    def finish(self, workload: str) -> None:
        """Write what the marked calls since the last `finish` did; the GPU must be idle."""
        self._cupti.activity_flush_all(1)
        if dropped := self._dropped():
            self._write({"error": f"{dropped} records were dropped"})
        found = calls(self._recorded)
        self._write(
            {
                "workload": workload,
                "marks": [[call.mark.call, call.mark.start_ns, call.mark.end_ns] for call in found],
                "launches": [astuple(one) for call in found for one in call.launches],
                "activities": [astuple(one) for call in found for one in call.activities],
            }
        )
        self._lines += 1
        self._forget()

    def _dropped(self) -> int:
        """How many records CUPTI had no room for since the last question."""
        count = ctypes.c_size_t()
        self._cupti.activity_get_num_dropped_records(0, 0, ctypes.addressof(count))
        return count.value

    def drop(self) -> None:
        """Forget what was recorded since the last `finish`: the cell failed."""
        self._cupti.activity_flush_all(1)
        self._forget()

    def close(self) -> None:
        for kind in self._kinds:
            self._cupti.activity_disable(kind)
        self._write({"end": self._lines})
        self._stream.close()

    def _forget(self) -> None:
        self._recorded = Timeline("cupti", [], [], [])

    def _write(self, value: dict[str, Any]) -> None:
        self._stream.write(canonical_json(value) + b"\n")
        self._stream.flush()

    def _completed(self, records: list[Any]) -> None:
        """Copy what is needed: the records are gone when this returns."""
        kinds, domains, activities = self._cupti.ActivityKind, self._cupti.CallbackDomain, self._recorded.activities
        for one in records:
            if one.kind in (kinds.RUNTIME, kinds.DRIVER):
                domain = domains.RUNTIME_API if one.kind == kinds.RUNTIME else domains.DRIVER_API
                name = self._cupti.get_callback_name(domain, one.cbid)
                self._recorded.launches.append(Launch(one.correlation_id, name, one.start, one.end))
                continue
            place = (one.start, one.end, one.correlation_id, one.stream_id)
            if one.kind == kinds.MEMCPY:
                activities.append(Activity("memcpy", copy_name(one.copy_kind), *place))
            elif one.kind == kinds.MEMSET:
                activities.append(Activity("memset", "[memset]", *place))
            elif one.kind == kinds.CONCURRENT_KERNEL:
                grid, block = (one.grid_x, one.grid_y, one.grid_z), (one.block_x, one.block_y, one.block_z)
                size = one.static_shared_memory + one.dynamic_shared_memory
                launch = {"registers": one.registers_per_thread, "shared_bytes": size}
                launch["local_bytes"] = one.local_memory_per_thread
                activities.append(Activity("kernel", demangle(one.name), *place, grid, block, **launch))


@functools.cache
def demangle(name: str) -> str:
    """A C++ symbol in source form, as Nsight shows it; any other name unchanged."""
    if not name.startswith("_Z"):
        return name
    try:
        standard = ctypes.CDLL("libstdc++.so.6")  # torch is linked to it, so it is there where this runs
    except OSError:
        return name
    standard.__cxa_demangle.restype = ctypes.c_void_p
    pointer = standard.__cxa_demangle(name.encode(), None, None, ctypes.byref(ctypes.c_int()))
    if not pointer:
        return name
    text = ctypes.string_at(pointer).decode(errors="replace")
    ctypes.CDLL(None).free(ctypes.c_void_p(pointer))
    return text


def read(path: Path, whole: bool = True) -> Timeline:
    """The timeline of a recorder's file; a cut file, another version, or a recorder that was refused is an InputError.

    whole: False takes what a process that died has written, up to its last whole line.
    """
    lines = read_bytes(path).split(b"\n")
    numbered = enumerate(lines if whole else lines[:-1], 1)
    documents = [json_document(line, f"{path}:{number}") for number, line in numbered if line.strip()]
    header, *cells = [document if isinstance(document, dict) else {} for document in documents] or [{}]
    if header.get("schema") != SCHEMA:
        raise InputError(
            f"{path}: field schema",
            found=repr(header.get("schema")),
            expected=repr(SCHEMA),
            hint="the file was written by another version of bakeoff: profile the solution again",
        )
    refused = next((document["error"] for document in cells if "error" in document), None)
    if refused:
        raise InputError(
            path,
            found=f"CUPTI refused to record: {refused}",
            expected="activity records",
            hint="end other profilers of this GPU (nsys, ncu, DCGM), then profile again",
        )
    if whole:
        end = cells.pop() if cells else {}
        if end.get("end") != len(cells):
            raise InputError(
                path, f"{len(cells)} workloads and no end", "a file whose last line counts its workloads", AGAIN
            )
    return _timeline(cells, path)


def _timeline(cells: list[dict[str, Any]], path: Path) -> Timeline:
    try:
        marks = [Mark(cell["workload"], *values) for cell in cells for values in cell["marks"]]
        launches = [Launch(*values) for cell in cells for values in cell["launches"]]
        activities = [_activity(values) for cell in cells for values in cell["activities"]]
    except (KeyError, TypeError, ValueError) as error:
        found = f"a line without what it must have ({type(error).__name__}: {error})"
        raise InputError(path, found, "marks, launches and activities", "profile the solution again") from error
    return Timeline("cupti", marks, launches, activities).timed(path)


def _activity(values: list[Any]) -> Activity:
    known = dict(zip(ACTIVITY_FIELDS, values, strict=True))
    return Activity(**known | {name: known[name] and tuple(known[name]) for name in ("grid", "block")})
