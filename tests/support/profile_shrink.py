"""Makes a fixture out of a raw capture: the same file with the workloads that are asked for, and without what no reader
reads.

usage: python tests/support/profile_shrink.py RUN/profile/raw/SOLUTION/TIER-00 tests/profile/recorded SOLUTION WORKLOAD
[WORKLOAD ...]

Names, host names and paths of the recording machine go: tables and columns that are not read are dropped.
"""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from bakeoff.profile import ncu, nsys
from bakeoff.profile.timeline import Timeline, calls, parse_mark

CSV_COLUMNS = {ncu.ID, ncu.NAME, *ncu.wanted("sm_90a").values(), *ncu.wanted("sm_100a").values()}
# The folders of an absolute path: where the recording machine keeps things. What a distribution installs is the same
# everywhere.
FOLDERS = re.compile(rb"(?<![\w./:-])/(?!usr/)[a-z](?:[\w.+-]*/)+")
KEPT_COLUMNS = {
    nsys.KERNELS: {
        "start",
        "end",
        "streamId",
        "correlationId",
        "demangledName",
        "registersPerThread",
        "gridX",
        "gridY",
        "gridZ",
        "blockX",
        "blockY",
        "blockZ",
        "staticSharedMemory",
        "dynamicSharedMemory",
        "localMemoryPerThread",
    },
    nsys.COPIES: {"start", "end", "streamId", "correlationId", "copyKind"},
    nsys.FILLS: {"start", "end", "streamId", "correlationId"},
    nsys.API_CALLS: {"start", "end", "correlationId", "nameId"},
    nsys.RANGES: {"start", "end", "text", "textId"},
    nsys.STRINGS: {"id", "value"},
    nsys.META: {"name", "value"},
}


def shrink_sqlite(source: Path, target: Path, workloads: Sequence[str]) -> None:
    """Keep the marked calls of some workloads, with their host calls and GPU work."""
    kept = [call for call in calls(nsys.read(source)) if call.mark.workload in workloads]
    keys = {launch.correlation for call in kept for launch in call.launches}
    shutil.copyfile(source, target)
    with closing(sqlite3.connect(target)) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            if table in KEPT_COLUMNS:
                _slim(database, table)
            else:
                database.execute(f'DROP TABLE "{table}"')
        correlated = [table for table in (nsys.KERNELS, nsys.COPIES, nsys.FILLS, nsys.API_CALLS) if table in tables]
        listed = ", ".join(map(str, sorted(keys))) or "-1"
        for table in correlated:
            database.execute(f"DELETE FROM {table} WHERE correlationId NOT IN ({listed})")
        strings = dict(database.execute(f"SELECT id, value FROM {nsys.STRINGS}"))
        for row, text, text_id in list(database.execute(f"SELECT rowid, text, textId FROM {nsys.RANGES}")):
            mark = parse_mark(text or strings.get(text_id))
            if mark is None or mark[0] not in workloads:
                database.execute(f"DELETE FROM {nsys.RANGES} WHERE rowid = {row}")
        database.execute(f"DELETE FROM {nsys.META} WHERE name NOT LIKE 'EXPORT_%VERSION%'")
        used = [
            f"SELECT nameId FROM {nsys.API_CALLS}",
            f"SELECT textId FROM {nsys.RANGES} WHERE textId NOT NULL",
            f"SELECT demangledName FROM {nsys.KERNELS}",
        ]
        database.execute(f"DELETE FROM {nsys.STRINGS} WHERE id NOT IN ({' UNION '.join(used)})")
        database.commit()
        database.execute("VACUUM")


def _slim(database: sqlite3.Connection, table: str) -> None:
    """Copy a table with the columns that are read."""
    columns = [name for _, name, *_ in database.execute(f"PRAGMA table_info({table})") if name in KEPT_COLUMNS[table]]
    listed = ", ".join(f'"{name}"' for name in columns)
    database.execute(f"CREATE TABLE slim AS SELECT {listed} FROM {table}")
    database.execute(f"DROP TABLE {table}")
    database.execute(f"ALTER TABLE slim RENAME TO {table}")


def shrink_jsonl(source: Path, target: Path, workloads: Sequence[str]) -> None:
    """Keep some workloads' lines."""
    header, *cells, _ = source.read_text().splitlines()
    kept = [line for line in cells if json.loads(line)["workload"] in workloads]
    target.write_text("\n".join([header, *kept, json.dumps({"end": len(kept)})]) + "\n")


def shrink_csv(source: Path, target: Path, workloads: Sequence[str]) -> None:
    """Keep some workloads' rows and the columns that are read."""
    lines = source.read_text().splitlines()
    table = [line for line in lines if line.startswith('"')]
    header, units, *rows = csv.reader(io.StringIO("\n".join(table)))
    kept = [row for row in rows if any((mark := parse_mark(text)) and mark[0] in workloads for text in row)]
    columns = [place for place, name in enumerate(header) if name in CSV_COLUMNS or ncu.RANGES in name]
    slim = [[row[place] for place in columns] for row in (header, units, *kept)]
    stream = io.StringIO()
    csv.writer(stream, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(slim)
    target.write_text(stream.getvalue())


def without_folders(data: bytes) -> bytes:
    """The same bytes with the folders of absolute paths struck out; as long as before, for lengths stand before all
    texts."""
    return FOLDERS.sub(lambda found: re.sub(rb"[^/]", b"x", found.group()), data)


def of_workloads(lines: Timeline, workloads: Sequence[str]) -> list[tuple[str, int, list[str]]]:
    """What must be the same before and after: (workload, call, names of its work)."""
    return [
        (call.mark.workload, call.mark.call, [one.name for one in call.activities])
        for call in calls(lines)
        if call.mark.workload in workloads
    ]


def main(arguments: list[str]) -> None:
    raw, into, solution, *workloads = arguments
    shrinkers = {
        "timeline.sqlite": ("nsys.sqlite", shrink_sqlite),
        "records.jsonl": ("cupti.jsonl", shrink_jsonl),
        "counters.csv": ("ncu.csv", shrink_csv),
    }
    for name, (suffix, shrink) in shrinkers.items():
        source = Path(raw) / name
        if source.is_file():
            target = Path(into) / f"{solution}.{suffix}"
            shrink(source, target, workloads)
            print(f"{target}: {source.stat().st_size} -> {target.stat().st_size} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
