"""A cell under way: sent to a worker, or waiting for the referee. Entry point: `Attempt`."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from bakeoff.core import policy
from bakeoff.core.messages import Batch, ChannelError, Done
from bakeoff.core.variants import Variant
from bakeoff.schema.outcomes import HINTS, Outcome, Reason
from bakeoff.schema.plan import PlannedCell
from bakeoff.schema.sample import Record
from bakeoff.supervisor.settings import BlockSettings, Task


@dataclass
class Attempt:
    """One try at a cell: what the worker was asked, and what it has answered so far."""

    cell: PlannedCell
    task: Task
    slots: list[int]
    variants: list[Variant]
    identity: dict[str, Any]
    started: str  # for the record
    begun: float  # time.monotonic(), as the other moments
    deadline: float
    answer: Done | None = None
    outputs: list[dict[str, Any]] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)  # variants of the timed calls whose outputs were asked for
    gpu_state: dict[str, Any] | None = None
    batches: int = 0
    sent: float = 0.0  # when the worker was last asked for something

    @classmethod
    def of(cls, settings: BlockSettings, task: Task, number: int = 0, slots: list[int] | None = None) -> Attempt:
        """An attempt at the task's next cell, which is taken from it."""
        cell, now = task.cells.popleft(), time.monotonic()
        variants = [Variant(cell.seed), *settings.timed_variants(cell)]
        identity = {"id": number, "token": secrets.token_hex(16)}
        limit = now + settings.timeout_s
        return cls(cell, task, slots or [], variants, identity, settings.clock(), now, limit, sent=now)

    def command(self) -> dict[str, Any]:
        """What the worker is told to do."""
        return {
            "do": "run",
            **self.identity,
            "workload": self.cell.workload,
            "family": self.cell.family,
            "seed": self.cell.seed,
            "kind": self.cell.kind,
            "protocol": self.cell.protocol,
            "slots": self.slots,
            "variants": self._documents(),
        }

    def probe(self, variant: Variant, slot: int) -> dict[str, Any]:
        """What the worker is told to do again, on changed values."""
        self.slots.append(slot)
        self.variants.append(variant)
        self.sent = time.monotonic()
        return {"do": "probe", **self.identity, "slots": [slot], "variants": self._documents()}

    def pick(self, batch: Batch) -> dict[str, Any]:
        """The answer to a batch: which output is to be kept, if any; ChannelError for values that nobody gave."""
        self.batches += 1
        if len(self.variants) == 1 or self.batches > policy.BATCHES:
            raise ChannelError(f"batch {self.batches} of a cell that has no more")
        if not all(0 <= variant < len(self.variants) for variant in batch.variants):
            raise ChannelError("a batch of unknown values")
        call = policy.choose_call(batch.variants, self.kept, len(self.slots) - 1)
        if call is None:
            return {"do": "next"}
        self.kept.append(batch.variants[call])
        return {"do": "keep", "call": call}

    def take(self, message: Done) -> None:
        """Note where the outputs lie; ChannelError if they are not those that the worker was asked for."""
        if not self.outputs and len(self.variants) > 1 and not any(self.kept):
            raise ChannelError("no timed call had changed values")
        # A probe answers for the variant that was added for it.
        first = 0 if not self.outputs else len(self.variants) - 1
        if [output.variant for output in message.outputs] != [first, *self.kept]:
            raise ChannelError("the outputs are not those that were asked for")
        self.kept = []
        for output in message.outputs:
            if output.slot not in self.slots:
                raise ChannelError(f"an output of unknown place: {output}")
            self.outputs.append(
                {"slot": output.slot, "poison": output.poison, "variant": self.variants[output.variant].document()}
            )

    def claims_too_much(self) -> bool:
        """Whether the reported times exceed what has passed since the cell began."""
        tiers = self.answer.tiers.values() if self.answer else ()
        return policy.claims_more_than(time.monotonic() - self.begun, tiers)

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

    def _documents(self) -> list[dict[str, Any]]:
        return [variant.document() for variant in self.variants]
