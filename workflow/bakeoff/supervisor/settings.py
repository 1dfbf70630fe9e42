"""What a block is told: its settings, and for each participant the cells that are due.

Entry points: `BlockSettings`, `Task`, `Sink`. Nothing is started or written here.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from bakeoff.core.moe.geometry import Geometry
from bakeoff.schema.plan import Participant, PlannedCell
from bakeoff.schema.sample import Record


def utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Sink(Protocol):
    """Where results go; `add` returns only when the record is safe."""

    def add(self, record: Record) -> None: ...

    def tampered(self) -> str | None:
        """A sentence if the run's files were changed by somebody else."""


@dataclass
class Task:
    """A participant and the cells that it still owes."""

    participant: Participant
    solution: Path | None
    cells: deque[PlannedCell]
    probes: set[str] = field(default_factory=set)  # keys of cells that run a second time on changed values
    starts: int = 0  # workers started so far
    checks: int = 0  # cells whose worker has to pass `robust` first, and that the referee is at
    lost: str | None = None  # key of a cell whose worker was killed from outside, and that gets a second chance
    discarded: dict[str, list[int]] = field(default_factory=dict)  # by cell key: calls of each disturbed attempt


@dataclass
class BlockSettings:
    """What all participants of a block share."""

    block: int
    folder: Path  # for scratch and caches; wiped and made as needed
    traces_root: Path
    definition: str
    dataset: str
    backend: str
    geometry: Geometry
    tokens: dict[str, int]  # seq_len of each workload
    timeout_s: float
    threads: int
    emulates: bool  # whether the strict gate compares with an emulation of the declared roundings
    overlaps: bool  # whether judging may run beside a worker: yes where times do not count
    gpu: str | None = None  # UUID of the GPU that the block has to itself
    clock: Callable[[], str] = utc_now  # what `started` is read from
    lock_clocks_mhz: int | None = None
    tell: Callable[[str], None] = print
    # Takes the bytes of an output on a workload's own values that a gate has failed, before they are written over.
    wrong: Callable[[Record, bytes], None] | None = None

    @property
    def scratch(self) -> Path:
        """What children of this block write to while they run; another block may run beside it on another GPU."""
        return self.folder / "scratch" / f"block-{self.block:02d}"

    def timed(self, cell: PlannedCell) -> bool:
        """Whether a cell's calls are repeated and timed."""
        return cell.kind == "measure" and not self.overlaps
