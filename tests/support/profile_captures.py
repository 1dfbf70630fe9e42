"""Constructed captures: one small timeline, written in each format that the readers know, and broken on purpose.

These are made here, by hand, from the formats' documentation. Captures that a GPU gave lie in tests/profile/recorded/.
"""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from dataclasses import replace
from pathlib import Path

from bakeoff.profile.cupti import ACTIVITY_FIELDS, SCHEMA
from bakeoff.profile.timeline import Activity, Launch, Mark, Timeline, mark_name
from bakeoff.schema.solution import StageRule

US = 1000  # ns
ABOUT = {"solution": "nobody", "workload": "T1_o32", "key": "key", "tier": "nsys"}  # of a cell that captures give
RULES = [
    StageRule(kernel="^route_", stage="routing"),
    StageRule(kernel="^swiglu_", stage="activation_quant"),
    StageRule(kernel="cutlass", stage="gemm1"),
    StageRule(kernel="cutlass", stage="gemm2"),
    StageRule(kernel=r"\[memset\]", stage="combine"),
]
GEMM = "void cutlass::device_kernel<cutlass::gemm::Kernel<(int)128, float>>(cutlass::Params)"
# Name, start and duration on the GPU in us, within a call that the host begins at 0.
CALL = (
    ("route_tokens", 10.0, 4.0),
    (GEMM, 14.0, 20.0),
    ("swiglu_rows", 36.0, 6.0),
    (GEMM, 42.0, 10.0),
    ("[memset]", 60.0, 2.0),
    ("stray_kernel", 62.0, 1.0),
)
CALL_US = 100  # from one call's start to the next one's


def timeline(workloads: tuple[str, ...] = ("T1_o32", "T901_o96"), calls: int = 3) -> Timeline:
    """Calls of CALL; the n-th call of a workload has a first GEMM that is n us longer, and everything after it later by
    as much."""
    marks, launches, activities = [], [], []
    correlation = 0
    for place, workload in enumerate(workloads):
        for call in range(calls):
            start = (place * calls + call) * CALL_US * US
            marks.append(Mark(workload, call, start, start + 9 * US))
            launches.append(Launch(0, "cudaGetDevice_v3020", start + 100, start + 200))
            for number, (name, begin_us, length_us) in enumerate(CALL):
                correlation += 1
                late, longer = (call * US if number > 1 else 0), (call * US if number == 1 else 0)
                issued = start + (number + 1) * US
                # The fill is enqueued while the GPU idles: from 52 to 58 us it waits for the host.
                issued = start + 58 * US + late if name == "[memset]" else issued
                begin = start + int(begin_us * US) + late
                launches.append(
                    Launch(correlation, "cudaLaunchKernelExC_v11060", min(issued, start + 8 * US), issued + 500)
                )
                activities.append(_activity(name, begin, begin + int(length_us * US) + longer, correlation))
    return Timeline("constructed", marks, launches, activities)


def _activity(name: str, start: int, end: int, correlation: int) -> Activity:
    if name.startswith("["):
        return Activity("memset", name, start, end, correlation, stream=7)
    return Activity("kernel", name, start, end, correlation, 7, (132, 1, 1), (128, 1, 1), 168, 65536, 0)


def write_nsys(path: Path, lines: Timeline, version: str = "3.24.14", diagnosis: str | None = None) -> Path:
    """The tables and columns of an Nsight Systems export that this project reads, and some that it does not."""
    database = sqlite3.connect(path)
    database.executescript("""
        CREATE TABLE META_DATA_EXPORT (name TEXT, value TEXT);
        CREATE TABLE StringIds (id INTEGER PRIMARY KEY, value TEXT NOT NULL);
        CREATE TABLE NVTX_EVENTS (start INTEGER NOT NULL, end INTEGER, eventType INTEGER, text TEXT, textId
            INTEGER, globalTid INTEGER);
        CREATE TABLE CUPTI_ACTIVITY_KIND_RUNTIME (start INTEGER, end INTEGER, eventClass INTEGER, globalTid INTEGER,
            correlationId INTEGER, nameId INTEGER, returnValue INTEGER, callchainId INTEGER);
        CREATE TABLE DIAGNOSTIC_EVENT (timestamp INTEGER, timestampType INTEGER, source INTEGER, severity
            INTEGER, text TEXT, globalPid INTEGER);
    """)
    database.execute("INSERT INTO META_DATA_EXPORT VALUES ('EXPORT_SCHEMA_VERSION', ?)", (version,))
    if diagnosis:
        database.execute("INSERT INTO DIAGNOSTIC_EVENT VALUES (0, 0, 0, 3, ?, 1)", (diagnosis,))
    names: dict[str, int] = {}

    def string(value: str) -> int:
        if value not in names:
            names[value] = len(names) + 1
            database.execute("INSERT INTO StringIds VALUES (?, ?)", (names[value], value))
        return names[value]

    for number, mark in enumerate(lines.marks):
        text = mark_name(mark.workload, mark.call)
        # torch writes plain text; NVTX with registered strings writes ids. Both occur.
        row = (text, None) if number % 2 else (None, string(text))
        database.execute("INSERT INTO NVTX_EVENTS VALUES (?, ?, 59, ?, ?, 1)", (mark.start_ns, mark.end_ns, *row))
    for one in lines.launches:
        row = (one.start_ns, one.end_ns, 0, 1, one.correlation, string(one.name), 0, None)
        database.execute("INSERT INTO CUPTI_ACTIVITY_KIND_RUNTIME VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    kernels = [one for one in lines.activities if one.kind == "kernel"]
    if kernels:
        database.execute("""CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (start INTEGER, end INTEGER, deviceId
            INTEGER, streamId INTEGER,
            correlationId INTEGER, demangledName INTEGER, shortName INTEGER, registersPerThread INTEGER,
                gridX INTEGER, gridY INTEGER,
            gridZ INTEGER, blockX INTEGER, blockY INTEGER, blockZ INTEGER, staticSharedMemory INTEGER,
                dynamicSharedMemory INTEGER,
            localMemoryPerThread INTEGER)""")
    for one in kernels:
        assert one.grid and one.block
        row = (
            one.start_ns,
            one.end_ns,
            0,
            one.stream,
            one.correlation,
            string(one.name),
            string(one.name),
            one.registers,
            *one.grid,
            *one.block,
            0,
            one.shared_bytes,
            one.local_bytes,
        )
        database.execute(f"INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES ({', '.join('?' * len(row))})", row)
    fills = [one for one in lines.activities if one.kind == "memset"]
    if fills:
        database.execute(
            "CREATE TABLE CUPTI_ACTIVITY_KIND_MEMSET (start INTEGER, end INTEGER, streamId INTEGER, correlationId "
            "INTEGER, bytes INTEGER)"
        )
    for one in fills:
        row = (one.start_ns, one.end_ns, one.stream, one.correlation, 4)
        database.execute("INSERT INTO CUPTI_ACTIVITY_KIND_MEMSET VALUES (?, ?, ?, ?, ?)", row)
    database.commit()
    database.close()
    return path


def write_cupti(path: Path, lines: Timeline, schema: str = SCHEMA) -> Path:
    """The file that cupti.Recorder writes."""
    documents: list[dict[str, object]] = [{"schema": schema, "device": "constructed"}]
    workloads = list(dict.fromkeys(mark.workload for mark in lines.marks))
    for workload in workloads:
        mine = [mark for mark in lines.marks if mark.workload == workload]
        launches = [one for one in lines.launches if any(mark.start_ns <= one.start_ns < mark.end_ns for mark in mine)]
        keys = {one.correlation for one in launches}
        documents.append(
            {
                "workload": workload,
                "marks": [[mark.call, mark.start_ns, mark.end_ns] for mark in mine],
                "launches": [[one.correlation, one.name, one.start_ns, one.end_ns] for one in launches],
                "activities": [
                    [getattr(one, name) for name in ACTIVITY_FIELDS]
                    for one in lines.activities
                    if one.correlation in keys
                ],
            }
        )
    documents.append({"end": len(workloads)})
    path.write_text("".join(json.dumps(document) + "\n" for document in documents))
    return path


NVTX_COLUMN = "thread Domain:Push/Pop_Range:PL_Type:PL_Value:CLR_Type:Color:Msg_Type:Msg"
UNITS = {"gpu__time_duration.sum": "ns", "dram__bytes_read.sum": "byte", "dram__bytes_write.sum": "byte"}


def write_ncu(
    path: Path,
    metrics: dict[str, str],
    kernels: list[tuple[str, str, dict[str, str]]],
    before: str = "",
    after: str = "",
) -> Path:
    """A raw page: kernels are (workload, kernel name, our metric name -> printed value); what is not given is printed
    as n/a."""
    header = [
        "ID",
        "Process ID",
        "Process Name",
        "Host Name",
        NVTX_COLUMN,
        "Kernel Name",
        "Context",
        "Stream",
        *metrics.values(),
    ]
    rows = [header, ["", "", "", "", "", "", "", "", *(UNITS.get(name, "%") for name in metrics.values())]]
    for number, (workload, kernel, values) in enumerate(kernels):
        ranges = f'1  "<default domain>:{mark_name(workload, 0)}:none:none:none:none:none:none" '
        rows.append(
            [
                str(number),
                "42",
                "python3.12",
                "host",
                ranges,
                kernel,
                "1",
                "7",
                *(values.get(ours, "n/a") for ours in metrics),
            ]
        )
    stream = io.StringIO()
    csv.writer(stream, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    path.write_text(before + stream.getvalue() + after)
    return path


def shifted(lines: Timeline, ns: int) -> Timeline:
    """The same later."""
    return Timeline(
        lines.source,
        [replace(mark, start_ns=mark.start_ns + ns, end_ns=mark.end_ns + ns) for mark in lines.marks],
        [replace(one, start_ns=one.start_ns + ns, end_ns=one.end_ns + ns) for one in lines.launches],
        [replace(one, start_ns=one.start_ns + ns, end_ns=one.end_ns + ns) for one in lines.activities],
    )
