"""What a supervisor keeps track of: participants with their open cells, their worker processes, and cells under way.

Entry points: `Setting`, `Task`, `Flight`, and `Session`, which starts a worker. Side effects of a session: a scratch
folder, made anew, and a cache folder that outlives it.
"""

from __future__ import annotations

import shutil
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bakeoff.core.channel import ProtocolError
from bakeoff.core.messages import Done, Ready
from bakeoff.core.moe.geometry import Geometry
from bakeoff.core.protocols import Robust
from bakeoff.core.variants import Variant
from bakeoff.schema.outcomes import HINTS, Outcome, Reason
from bakeoff.schema.plan import Cell, Participant
from bakeoff.schema.sample import Record
from bakeoff.supervisor.children import Child, Slots, environment, shared_caches
from bakeoff.supervisor.fork_server import Nursery

# A start imports torch and kernel libraries and may compile; on a busy host that takes longer than a short time limit
# for cells.
START_S = 300.0


def utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass
class Task:
    """A participant and the cells that it still owes."""

    participant: Participant
    solution: Path | None
    cells: deque[Cell]
    probes: set[str] = field(default_factory=set)  # keys of cells that run a second time on changed values
    starts: int = 0  # workers started so far
    lost: str | None = None  # key of a cell whose worker was killed from outside, and that gets a second chance
    discarded: dict[str, list[int]] = field(default_factory=dict)  # by cell key: calls of each disturbed attempt


@dataclass
class Setting:
    """What all participants of a block share."""

    block: int
    folder: Path  # for scratch and caches; wiped and made as needed
    traces_root: Path
    definition: str
    definition_path: Path
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

    @property
    def scratch(self) -> Path:
        """What children of this block write to while they run; another block may run beside it on another GPU."""
        return self.folder / "scratch" / f"block-{self.block:02d}"

    def timed_variants(self, cell: Cell) -> list[Variant]:
        """The changed values that a timed cell's calls draw from beside its own: the same for all participants of the
        block."""
        if self.overlaps or cell.kind != "measure":
            return []
        if cell.workload not in self._variants:
            made = [
                Variant.secret(self.tokens[cell.workload], self.geometry.local_experts)
                for _ in range(Robust().variants - 1)
            ]
            # One roll of the weights for all: a worker holds two sets of weights, not one for each variant.
            self._variants[cell.workload] = [replace(variant, experts=made[0].experts) for variant in made]
        return self._variants[cell.workload]

    _variants: dict[str, list[Variant]] = field(default_factory=dict)


@dataclass
class Flight:
    """A cell under way: sent to a worker, or waiting for the referee."""

    cell: Cell
    task: Task
    slots: list[int]
    variants: list[Variant]
    identity: dict[str, Any]
    started: str
    begun: float
    deadline: float
    answer: Done | None = None
    outputs: list[dict[str, Any]] = field(default_factory=list)
    kept: list[int] = field(
        default_factory=list
    )  # variants of the timed calls whose outputs the supervisor has asked for
    gpu_state: dict[str, Any] | None = None
    sent: float = 0.0  # when the worker was last asked for something

    def __post_init__(self) -> None:
        self.sent = self.begun

    def variant_documents(self) -> list[dict[str, Any]]:
        return [variant.document() for variant in self.variants]

    def record(
        self, block: int, outcome: Outcome, reason: Reason | None, detail: str | None, judged: dict[str, Any]
    ) -> Record:
        """The journal line of this cell. judged: the referee's message, or empty."""
        cell, answer = self.cell, self.answer
        return Record(
            key=cell.key,
            kind=cell.kind,
            participant=cell.participant,
            workload=cell.workload,
            protocol=cell.protocol,
            family=cell.family,
            seed=cell.seed,
            block=block,
            outcome=outcome,
            reason=reason,
            detail=detail,
            hint=HINTS.get(reason) if reason else None,
            tiers=dict(answer.tiers) if answer else {},
            missing_tiers=answer.missing_tiers if answer else {},
            gates=judged.get("gates", {}),
            numerics=judged.get("numerics"),
            gpu_state=self.gpu_state,
            discarded=sum(self.task.discarded.get(cell.key, [])),
            warnings=list(answer.warnings) if answer else [],
            spent_s=dict(answer.spent_s) if answer else {},
            started=self.started,
            seconds=round(time.monotonic() - self.begun, 4),
        )

    def claims_more_than(self, seconds: float) -> bool:
        """Whether the reported times of the calls, which came one after the other, exceed what has really passed."""
        tiers = self.answer.tiers if self.answer else {}
        return max((sum(times) for times in tiers.values()), default=0.0) / 1e6 > seconds

    def check_changed(self) -> None:
        """ProtocolError if a timed cell never offered the output of a call on changed values: its worker chose them."""
        if not self.outputs and len(self.variants) > 1 and not any(self.kept):
            raise ProtocolError("no timed call had changed values")

    def take_outputs(self, message: Done) -> None:
        """Note where the outputs lie; ProtocolError if they are not those that the worker was asked for."""
        first = (
            0 if not self.outputs else len(self.variants) - 1
        )  # a probe answers for the variant that was added for it
        if [output.variant for output in message.outputs] != [first, *self.kept]:
            raise ProtocolError("the outputs are not those that were asked for")
        self.kept = []
        for output in message.outputs:
            if output.slot not in self.slots:
                raise ProtocolError(f"an output of unknown place: {output}")
            self.outputs.append(
                {"slot": output.slot, "poison": output.poison, "variant": self.variants[output.variant].document()}
            )


class Session:
    """A worker process with its shared memory."""

    def __init__(self, task: Task, setting: Setting, nursery: Nursery | None) -> None:
        self.task, self.ready, self.frozen = task, False, False
        task.starts += 1
        scratch = setting.scratch / task.participant.name
        cache = setting.folder / "cache" / task.participant.name
        shutil.rmtree(scratch, ignore_errors=True)
        for folder in (scratch, cache):
            folder.mkdir(parents=True, exist_ok=True)
        rows = max(setting.tokens[cell.workload] for cell in task.cells)
        self.slots = Slots(3 if setting.overlaps else 4, 2 * rows * setting.geometry.hidden)
        variables = environment(setting.threads, scratch, cache, setting.gpu)
        self.child = Child.spawn("bakeoff.core.worker.__main__", variables, scratch, (self.slots.descriptor,), nursery)
        self.child.send(
            {
                "participant": task.participant.name,
                "solution": None if task.solution is None else str(task.solution),
                "scratch": str(scratch),
                "writable": [str(scratch), str(cache), *shared_caches()],
                "backend": setting.backend,
                "threads": setting.threads,
                "traces_root": str(setting.traces_root),
                "definition": setting.definition,
                "definition_path": str(setting.definition_path),
                "dataset": setting.dataset,
                "slot_size": self.slots.size,
            }
        )
        self.deadline = time.monotonic() + max(START_S, setting.timeout_s)
        self.flight: Flight | None = None
        self.judging = 0  # outputs of this worker that wait for the referee
        self.retired = False
        self.warming = False  # it is running once on every workload that it is due on
        self.missing_tiers: dict[str, str] = {}
        self.warnings: list[str] = []
        self._oom_kills = _oom_kills()

    def take_ready(self, message: Ready) -> None:
        """The worker has imported its participant."""
        self.ready, self.missing_tiers = True, message.missing_tiers
        if message.unconfined:
            self.warnings.append(f"writes are not confined: {message.unconfined}")

    def rest(self) -> None:
        """Stop the worker until its turn comes: it must not use the machine while another one is measured."""
        self.child.freeze()
        self.frozen = True

    def wake(self) -> None:
        if self.frozen:
            self.child.thaw()
            self.frozen = False

    @property
    def clock(self) -> float | None:
        """When patience ends; None while nothing is expected of the worker."""
        if self.flight:
            return self.flight.deadline
        return self.deadline if self.warming or not self.ready else None

    def oom_kills_rose(self) -> bool:
        """Whether the kernel has ended a process for lack of memory since this worker began."""
        return _oom_kills() > self._oom_kills

    def release(self) -> None:
        """Give the shared memory back, once the worker has ended and all its outputs are judged."""
        if self.retired and not self.judging:
            self.close()

    def close(self) -> None:
        self.child.close()
        self.slots.close()


def _oom_kills() -> int:
    fields = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    return int(fields.get("oom_kill", 0))
