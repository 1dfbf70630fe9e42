"""A published table of speedups (speedups.csv and meta.yaml), as samples of one block without times.

Entry points: `read_published`, `published_folder`, `yardstick`. Nothing is written; flaws are InputErrors with file and
line.
"""

import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bakeoff.errors import InputError
from bakeoff.files import PROJECT_ROOT, csv_rows, plain_number, read_bytes, read_yaml
from bakeoff.runs.samples import Samples, times_frame
from bakeoff.schema.analysis_findings import Versions
from bakeoff.schema.analysis_run import AnalysedWorkload
from bakeoff.schema.published import PublishedMeta

ROOT = PROJECT_ROOT / "results" / "published"
SIZES = ("seq_len", "local_expert_offset")


@dataclass(frozen=True)
class PublishedRun:
    """A published folder; workloads in ascending order."""

    meta: PublishedMeta
    workloads: list[AnalysedWorkload]
    samples: Samples


def published_folder(name: str, root: Path = ROOT) -> Path:
    """Path of a published table; an unknown name is an InputError."""
    folder = root / name
    if not (folder / "meta.yaml").is_file():
        known = sorted(path.parent.name for path in root.glob("*/meta.yaml"))
        raise InputError(
            folder,
            found="no meta.yaml",
            expected=f"one of: {', '.join(known) or 'none there'}",
            hint="give a folder of results/published/",
        )
    return folder


@dataclass(frozen=True)
class Yardstick:
    """The published table that every run is held against."""

    folder: Path
    versions: Versions | None

    @property
    def id(self) -> str:
        return self.folder.name


@functools.cache
def yardstick(root: Path = ROOT) -> Yardstick:
    """The one table whose meta.yaml says `yardstick: true`; none or several are an InputError."""
    found = {path.parent: read_yaml(path, PublishedMeta) for path in sorted(root.glob("*/meta.yaml"))}
    marked = [Yardstick(folder, meta.versions) for folder, meta in found.items() if meta.yardstick]
    if len(marked) != 1:
        raise InputError(
            f"{root}: field yardstick of meta.yaml",
            found=f"true in {', '.join(one.id for one in marked) or 'none'}",
            expected="one table that every run is held against",
            hint="write `yardstick: true` into the meta.yaml of one of them",
        )
    return marked[0]


def read_published(folder: Path) -> PublishedRun:
    """Read a published folder."""
    meta = read_yaml(folder / "meta.yaml", PublishedMeta)
    workloads, samples = _table(folder / "speedups.csv", [who.name for who in meta.participants])
    return PublishedRun(meta, workloads, samples)


def _table(path: Path, names: list[str]) -> tuple[list[AnalysedWorkload], Samples]:
    rows = csv_rows(_text(path), path)
    header = rows[0] if rows else []
    sizes = [name for name in SIZES if name in header]
    if header not in ([*SIZES, *names], [SIZES[0], *names]):
        raise _flaw(
            f"{path}:1", ",".join(header) or "nothing", f"{','.join([*SIZES, *names])} (the offset may be missing)"
        )
    workloads: list[AnalysedWorkload] = []
    times: list[tuple[Any, ...]] = []
    for number, row in enumerate(rows[1:], 2):
        where = f"{path}:{number}"
        if len(row) != len(header):
            raise _flaw(where, f"{len(row)} columns", f"{len(header)} columns")
        numbers = dict(
            zip(sizes, (_whole(value, f"{where}: {key}") for key, value in zip(sizes, row, strict=False)), strict=True)
        )
        workload = _workload(numbers["seq_len"], numbers.get("local_expert_offset"), workloads, where)
        workloads.append(workload)
        for name, value in zip(names, row[len(sizes) :], strict=True):
            if value:  # an empty field is a cell without a value
                times.append((name, workload.id, 0, 1.0 / _speedup(value, f"{where}: {name}"), 1.0, ""))
    if not workloads:
        raise _flaw(path, "no rows", "one row per workload")
    ordered = sorted(workloads, key=lambda workload: (workload.seq_len, workload.offset or 0))
    return ordered, Samples.of(times_frame(times), names, [workload.id for workload in ordered], times_known=False)


def _workload(seq_len: int, offset: int | None, before: list[AnalysedWorkload], where: str) -> AnalysedWorkload:
    """Pairs are unique; a table without offsets may repeat a seq_len, and then the repetition is numbered."""
    stem = f"T{seq_len}" if offset is None else f"T{seq_len}_o{offset}"
    count = sum(workload.seq_len == seq_len and workload.offset == offset for workload in before)
    if count and offset is not None:
        raise _flaw(where, f"the workload {stem} for the second time", "each (seq_len, local_expert_offset) once")
    return AnalysedWorkload(id=f"{stem}_row{count + 1}" if count else stem, seq_len=seq_len, offset=offset)


def _text(path: Path) -> str:
    try:
        return read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise _flaw(path, f"not UTF-8 ({error})", "a UTF-8 CSV file") from error


def _whole(text: str, where: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise _flaw(where, repr(text), "a whole number")
    return int(text)


def _speedup(text: str, where: str) -> float:
    try:
        value = plain_number(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise _flaw(where, repr(text), "a speedup above 0, or nothing")
    return value


def _flaw(where: str | Path, found: str, expected: str) -> InputError:
    return InputError(where, found, expected, "correct the table; results/published/README.md has the format")
