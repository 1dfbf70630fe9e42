"""A cell under way: sent to a worker, or waiting for the referee. Entry point: `Attempt`."""

import secrets
import time
from collections import Counter
from collections.abc import Container
from dataclasses import dataclass, field
from typing import Any

from bakeoff.core import policy, protocols
from bakeoff.core.messages import Batch, ChannelError, Done
from bakeoff.core.variants import Draws, Variant
from bakeoff.schema.outcomes import HINTS, Outcome, Reason
from bakeoff.schema.plan import PlannedCell
from bakeoff.schema.sample import Record
from bakeoff.supervisor.settings import BlockSettings, Task

Passed = dict[tuple[str, str, int], dict[str, Any]]


def place(cell: PlannedCell) -> tuple[str, str, int]:
    """What a cell's inputs are: workload, values, seed."""
    return cell.workload, cell.family, cell.seed


@dataclass
class Attempt:
    """One try at a cell: what the worker was asked, and what it has answered so far. protocol: the cell's, or `robust`,
    which its worker has to pass first."""

    cell: PlannedCell
    protocol: str | None
    task: Task
    slots: list[int]
    variants: list[Variant]
    identity: dict[str, Any]
    started: str  # for the record
    begun: float  # time.monotonic(), as the other moments
    deadline: float
    answer: Done | None = None
    outputs: list[dict[str, Any]] = field(default_factory=list)
    draws: Draws | None = None  # what the timed calls' variants are drawn from
    kept: dict[bool, int] = field(default_factory=dict)  # number of the call whose output is kept, by kind
    seen: Counter[bool] = field(default_factory=Counter)  # timed calls so far, by kind: whether they repeat values
    gpu_state: dict[str, Any] | None = None
    batches: int = 0
    # When the first and the last batch of timed calls were over.
    batch_ends: tuple[float, float] | None = None
    sent: float = 0.0  # when the worker was last asked for something

    @classmethod
    def of(
        cls,
        settings: BlockSettings,
        task: Task,
        number: int = 0,
        slots: list[int] | None = None,
        passed: Container[tuple[str, str, int]] = (),
    ) -> "Attempt":
        """An attempt at the task's next cell, which is taken from it. passed: the places that the worker has passed
        `robust` on."""
        cell, now = task.cells.popleft(), time.monotonic()
        is_rival = settings.timed(cell) and task.solution is not None
        is_later = is_rival and protocols.after_robust(cell.protocol)
        protocol = "robust" if is_later and place(cell) not in passed else cell.protocol
        draws = None
        if settings.timed(cell):
            timing = protocols.PROTOCOLS[str(protocol)]
            draws = Draws.new(cell.seed, settings.geometry.local_experts, not timing.in_place, timing.shared)
        identity = {"id": number, "token": secrets.token_hex(16)}
        limit, own = now + settings.timeout_s, [Variant(cell.seed)]
        return cls(
            cell, protocol, task, slots or [], own, identity, settings.clock(), now, limit, draws=draws, sent=now
        )

    @property
    def is_guard(self) -> bool:
        """Whether it only shows that the worker passes `robust` on the cell."""
        return self.protocol != self.cell.protocol

    @property
    def has_own(self) -> bool:
        """Whether the output on the workload's own values is asked for: where inputs stay in their places, it was
        judged when the worker passed `robust`."""
        return self.draws is None or not protocols.PROTOCOLS[str(self.protocol)].in_place

    def command(self) -> dict[str, Any]:
        """What the worker is told to do."""
        return {
            "do": "run",
            **self.identity,
            "workload": self.cell.workload,
            "family": self.cell.family,
            "seed": self.cell.seed,
            "kind": self.cell.kind,
            "protocol": self.protocol,
            "own": self.has_own,
            "attach": protocols.attaches(self.cell.protocol),
            "slots": self.slots,
            "draws": self.draws.document() if self.draws else None,
        }

    def probe(self, variants: list[Variant], slots: list[int]) -> dict[str, Any]:
        """What the worker is told to do again, on changed values."""
        self.slots += slots
        self.variants += variants
        self.sent = time.monotonic()
        return {
            "do": "probe",
            **self.identity,
            "slots": slots,
            "variants": [variant.document() for variant in variants],
        }

    def pick(self, batch: Batch) -> dict[str, Any]:
        """The answer to a batch: which outputs are to be kept; ChannelError if the cell has no such batch."""
        self.batches += 1
        self.batch_ends = (self.batch_ends or (time.monotonic(), 0.0))[0], time.monotonic()
        if self.draws is None or self.batches > policy.BATCHES:
            raise ChannelError(f"batch {self.batches} of a cell that has no more")
        first = self.seen.total()
        repeats = [self.draws.repeats(first + call) for call in range(batch.calls)]
        chosen = policy.choose_calls(repeats, self.seen)
        self.seen.update(repeats)
        self.kept |= {kind: first + call for kind, call in chosen.items()}
        return {"do": "keep", "calls": sorted(chosen.items())}

    def take(self, message: Done) -> None:
        """Note where the outputs lie; ChannelError if they are not those that the worker was asked for."""
        if self.draws and not self.kept:
            raise ChannelError("no timed call had changed values")
        timed = [number + 1 for _, number in sorted(self.kept.items())]
        probed = list(range(1, len(self.variants)))
        expected = probed if self.outputs else [*([0] if self.has_own else []), *timed]
        if [output.variant for output in message.outputs] != expected:
            raise ChannelError("the outputs are not those that were asked for")
        for output in message.outputs:
            if output.slot not in self.slots:
                raise ChannelError(f"an output of unknown place: {output}")
            drawn = self.draws.variant(output.variant - 1) if self.draws and output.variant else None
            variant = drawn or self.variants[output.variant]
            self.outputs.append({"slot": output.slot, "poison": output.poison, "variant": variant.document()})

    def claims_too_much(self) -> bool:
        """Whether the reported times exceed what has passed since the cell began."""
        tiers = self.answer.tiers.values() if self.answer else ()
        return policy.claims_more_than(time.monotonic() - self.begun, tiers)

    def discard(self) -> None:
        """Throw away what was answered, and count its calls."""
        tiers = self.answer.tiers if self.answer else {}
        calls = max((len(times) for times in tiers.values()), default=0)
        self.task.discarded.setdefault(self.cell.key, []).append(calls)
        self.answer = None

    def record(
        self, block: int, outcome: Outcome, reason: Reason | None, detail: str | None, judged: dict[str, Any]
    ) -> Record:
        """The journal line of this cell. judged: the referee's message, or empty."""
        cell, answer = self.cell, self.answer
        return Record(
            **cell.model_dump(),
            block=block,
            outcome=outcome,
            reason=reason,
            detail=detail,
            hint=HINTS.get(reason) if reason else None,
            tiers=dict(answer.tiers) if answer and not self.is_guard else {},
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
