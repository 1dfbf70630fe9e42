"""Nsight Systems: the commands that capture and export a timeline, and the reader of its SQLite export.

Entry points: `capture_command`, `export_command`, `read`. Reading is a pure function of the file; the schema is
described in the user guide's chapter on the SQLite schema (docs.nvidia.com/nsight-systems). Checked: export schema 3
(Nsight Systems 2022 to 2026).
"""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from bakeoff.errors import InputError
from bakeoff.profile.timeline import Activity, Launch, Mark, Timeline, copy_name, parse_mark

SCHEMA_MAJOR = 3
KERNELS, COPIES, FILLS, GRAPHS = (
    f"CUPTI_ACTIVITY_KIND_{kind}" for kind in ("KERNEL", "MEMCPY", "MEMSET", "GRAPH_TRACE")
)
API_CALLS, RANGES, STRINGS, META = "CUPTI_ACTIVITY_KIND_RUNTIME", "NVTX_EVENTS", "StringIds", "META_DATA_EXPORT"
AGAIN = "capture it again with `bakeoff profile`; it keeps the cells that it has"


def capture_command(nsys: str, output: Path, command: Sequence[str]) -> list[str]:
    """Profile `command` into `output`.nsys-rep: CUDA with the kernels of its graphs, and marks; no CPU sampling (which
    needs permissions), no context switches."""
    return [
        *(nsys, "profile", "--trace=cuda,nvtx", "--cuda-graph-trace=node", "--sample=none", "--cpuctxsw=none"),
        *("--force-overwrite=true", f"--output={output}", *command),
    ]


def export_command(nsys: str, report: Path, output: Path) -> list[str]:
    """Export a report to SQLite."""
    return [nsys, "export", "--type=sqlite", "--force-overwrite=true", f"--output={output}", str(report)]


def read(path: Path) -> Timeline:
    """The timeline of an export; a file that is no whole export of a known version, or recorded no kernel, is an
    InputError."""
    if not path.is_file():
        raise _broken(path, "no file")
    try:
        _check_length(path)
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            database.row_factory = sqlite3.Row
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            _check_version(path, database, tables)
            _check_content(path, database, tables)
            return _timeline(database, tables).timed(path)
    except (sqlite3.Error, OSError) as error:
        # Among them is a table or column that a query did not find, by name.
        raise _broken(path, f"not readable as SQLite ({error})") from error


def _check_length(path: Path) -> None:
    """Compare the file's length with the one in its header: SQLite itself reads on where the end is missing."""
    with path.open("rb") as stream:
        header = stream.read(100)
    if len(header) < 100:
        raise sqlite3.DatabaseError(f"a header of {len(header)} bytes instead of 100")
    page_size, pages = int.from_bytes(header[16:18]), int.from_bytes(header[28:32])
    expected = (65536 if page_size == 1 else page_size) * pages
    if path.stat().st_size < expected:
        raise sqlite3.DatabaseError(f"{path.stat().st_size} of {expected} bytes")


def _check_version(path: Path, database: sqlite3.Connection, tables: set[str]) -> None:
    version = "none"
    if META in tables:
        rows = database.execute(f"SELECT value FROM {META} WHERE name = 'EXPORT_SCHEMA_VERSION'").fetchone()
        version = str(rows[0]) if rows else "none"
    if version.split(".")[0] != str(SCHEMA_MAJOR):
        raise InputError(
            path,
            found=f"export schema version {version}",
            expected=f"an Nsight Systems export with schema {SCHEMA_MAJOR}.x",
            hint="export the .nsys-rep file with Nsight Systems 2022.1 or later: `nsys export --type=sqlite "
            "FILE.nsys-rep`",
        )


def _check_content(path: Path, database: sqlite3.Connection, tables: set[str]) -> None:
    if KERNELS not in tables:
        raise InputError(
            path,
            found=f"no kernel was recorded{_diagnosis(database, tables)}",
            expected=f"a table {KERNELS}",
            hint="the CUDA trace was refused or nothing ran: see profile/raw/*/log beside it, or profile with `--tier "
            "cupti`",
        )
    if GRAPHS in tables and database.execute(f"SELECT count(*) FROM {GRAPHS}").fetchone()[0]:
        raise InputError(
            path,
            found=f"CUDA graphs that were traced as a whole ({GRAPHS}): their kernels have no records",
            expected="a record of every kernel",
            hint="capture it with `nsys profile --cuda-graph-trace=node`, as `bakeoff profile` does",
        )


def _diagnosis(database: sqlite3.Connection, tables: set[str]) -> str:
    """What the profiler itself said of problems, errors first."""
    if "DIAGNOSTIC_EVENT" not in tables:
        return ""
    rows = database.execute(
        "SELECT text FROM DIAGNOSTIC_EVENT WHERE severity >= 2 ORDER BY severity DESC, rowid LIMIT 3"
    )
    said = "; ".join(" ".join(str(text).split()) for (text,) in rows)
    return f"; the profiler says: {said}" if said else ""


def _timeline(database: sqlite3.Connection, tables: set[str]) -> Timeline:
    strings = f"LEFT JOIN {STRINGS} AS text ON text.id ="
    marks = [
        Mark(*parsed, row["start"], row["end"])
        for row in database.execute(
            f"SELECT start, end, coalesce(text, value) AS name FROM {RANGES} {strings} textId WHERE end IS NOT NULL"
        )
        if (parsed := parse_mark(row["name"]))
    ]
    launches = [
        Launch(*row)
        for row in database.execute(
            f"SELECT correlationId, coalesce(value, '?'), start, end FROM {API_CALLS} {strings} nameId"
        )
    ]
    needed = "coalesce(value, '?') AS name, start, end, correlationId, streamId"
    kernels = database.execute(f"SELECT {needed}, {KERNELS}.* FROM {KERNELS} {strings} demangledName")
    activities = [_kernel(dict(row)) for row in kernels]
    # The memory engines' tables exist only if there was any such work.
    if COPIES in tables:
        copies = database.execute(f"SELECT copyKind, start, end, correlationId, streamId FROM {COPIES}")
        activities += [Activity("memcpy", copy_name(kind), *rest) for kind, *rest in copies]
    if FILLS in tables:
        fills = database.execute(f"SELECT start, end, correlationId, streamId FROM {FILLS}")
        activities += [Activity("memset", "[memset]", *row) for row in fills]
    return Timeline("nsys", marks, launches, activities)


def _kernel(row: dict[str, Any]) -> Activity:
    """A kernel's record; older exports lack columns on its launch."""

    def whole(*columns: str) -> tuple[Any, ...] | None:
        values = tuple(row.get(column) for column in columns)
        return None if None in values else values

    sizes = whole("staticSharedMemory", "dynamicSharedMemory")
    return Activity(
        *("kernel", row["name"], row["start"], row["end"], row["correlationId"], row["streamId"]),
        grid=whole("gridX", "gridY", "gridZ"),
        block=whole("blockX", "blockY", "blockZ"),
        registers=row.get("registersPerThread"),
        shared_bytes=sum(sizes) if sizes else None,
        local_bytes=row.get("localMemoryPerThread"),
    )


def _broken(path: Path, found: str) -> InputError:
    return InputError(path, found, expected="a whole SQLite export of an Nsight Systems report", hint=AGAIN)
