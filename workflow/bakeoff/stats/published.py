"""A published table of speedups (speedups.csv and meta.yaml), read as a run with one block and without times.

Entry points: `load_published`, `published_folder`, `yardstick`. Nothing is written.
"""

from __future__ import annotations

import csv
import functools
import io
import math
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

from pydantic import Field

from bakeoff.errors import InputError
from bakeoff.files import PROJECT_ROOT, read_bytes, read_yaml
from bakeoff.schema.analysis import Cell, Check, Fact, Part, Participant, RunHeader, Workload
from bakeoff.schema.analysis_findings import Versions
from bakeoff.schema.outcomes import Outcome
from bakeoff.stats.rundata import Peer, RunData
from bakeoff.stats.samples import Sample, Samples

ROOT = PROJECT_ROOT / "results" / "published"
SIZES = ("seq_len", "local_expert_offset")


class PublishedParticipant(Part):
    """A column of the table."""

    name: str
    """Name of the column, and of the solution's folder."""
    label: str
    """Name in the publication."""
    description: str
    """One sentence on the design."""


class PublishedMeta(Part):
    """meta.yaml: what is known about a published table; null is "not recorded"."""

    title: str
    """One line for headings."""
    date: date
    """Day of the measurement."""
    hardware: str
    """GPU model."""
    backend: Literal["sm_90a", "sm_100a"]
    """Architecture."""
    definition: str
    """Name of the definition."""
    dataset: Literal["public", "synthetic"] | None
    """Source of the routing inputs."""
    protocol: str | None
    """Timing protocol."""
    timeout_s: int | None = None
    """Limit for one cell, seconds."""
    rtol: float | None = None
    """Relative tolerance of the gate."""
    atol: float | None = None
    """Absolute tolerance of the gate."""
    required_matched_ratio: float | None = None
    """Share of elements that had to match."""
    passed: bool = True
    """Whether the publication says that all cells passed."""
    participants: list[PublishedParticipant] = Field(min_length=1)
    """Columns of speedups.csv, in order."""
    environment: list[Fact]
    """Recorded facts."""
    unrecorded: list[str]
    """What a reader would need and the publication does not say."""
    flaws: list[str] = Field(default_factory=list)
    """Known flaws of the table, as sentences."""
    repeats: list[str]
    """Folders with the same measurement of the same day."""
    previous: str | None
    """Folder of the run before it."""
    yardstick: bool = False
    """Whether every run is held against this table, its explanations and its versions; true of one table."""
    versions: Versions | None = None
    """Two solutions that the publication compares as versions of one design; a finding of every run."""


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


def load_published(folder: Path) -> RunData:
    """Read a published folder; flaws of the files are InputErrors with file, line and column."""
    meta = read_yaml(folder / "meta.yaml", PublishedMeta)
    names = [who.name for who in meta.participants]
    workloads, samples = _table(folder / "speedups.csv", names)
    outcome = Outcome.PASSED if meta.passed else Outcome.NOT_RUN
    return RunData(
        header=_header(meta, folder.name),
        participants=[
            Participant(name=who.name, role="contestant", label=who.label, description=who.description)
            for who in meta.participants
        ],
        workloads=workloads,
        cells=[Cell(solution=name, workload=workload.id, outcome=outcome) for name in names for workload in workloads],
        samples=samples,
        provenance=[*meta.environment, *(Fact(group="run", key="flaw", value=flaw) for flaw in meta.flaws)],
        checks=[
            Check(
                code="values_recorded",
                status="warning" if meta.unrecorded else "ok",
                found=len(meta.unrecorded),
                items=meta.unrecorded,
            )
        ],
        performance_shown=True,
        beside=[
            *(Peer(name, "repeat") for name in meta.repeats),
            *([Peer(meta.previous, "previous")] if meta.previous else []),
        ],
    )


def _header(meta: PublishedMeta, name: str) -> RunHeader:
    return RunHeader(
        kind="published",
        id=name,
        title=meta.title,
        date=meta.date.isoformat(),
        backend=meta.backend,
        hardware=meta.hardware,
        definition=meta.definition,
        dataset=meta.dataset,
        protocol=meta.protocol,
        blocks=1,
        timeout_s=meta.timeout_s,
        rtol=meta.rtol,
        atol=meta.atol,
        required_matched_ratio=meta.required_matched_ratio,
    )


def _table(path: Path, names: list[str]) -> tuple[list[Workload], Samples]:
    rows = list(csv.reader(io.StringIO(_text(path))))
    header = rows[0] if rows else []
    sizes = [name for name in SIZES if name in header]
    if header not in ([*SIZES, *names], [SIZES[0], *names]):
        raise _flaw(
            f"{path}:1", ",".join(header) or "nothing", f"{','.join([*SIZES, *names])} (the offset may be missing)"
        )
    workloads: list[Workload] = []
    samples: list[Sample] = []
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
                samples.append(Sample(name, workload.id, 0, 1.0 / _speedup(value, f"{where}: {name}"), 1.0, where))
    if not workloads:
        raise _flaw(path, "no rows", "one row per workload")
    ordered = sorted(workloads, key=lambda workload: (workload.seq_len, workload.offset or 0))
    return ordered, Samples.collect(names, [workload.id for workload in ordered], samples, times_known=False)


def _workload(seq_len: int, offset: int | None, before: list[Workload], where: str) -> Workload:
    """Pairs are unique; a table without offsets may repeat a seq_len, and then the repetition is numbered."""
    stem = f"T{seq_len}" if offset is None else f"T{seq_len}_o{offset}"
    count = sum(workload.seq_len == seq_len and workload.offset == offset for workload in before)
    if count and offset is not None:
        raise _flaw(where, f"the workload {stem} for the second time", "each (seq_len, local_expert_offset) once")
    return Workload(id=f"{stem}_row{count + 1}" if count else stem, seq_len=seq_len, offset=offset)


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
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise _flaw(where, repr(text), "a speedup above 0, or nothing")
    return value


def _flaw(where: str | Path, found: str, expected: str) -> InputError:
    return InputError(
        where, found=found, expected=expected, hint="correct the table; results/published/README.md has the format"
    )
