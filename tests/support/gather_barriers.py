"""The barriers of v4's GEMMs in the model of `cute_barriers`: rows that warps gather, or that come by TMA."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from support.cute_barriers import Barrier, Protocol, Replay
from support.solution_support import module_of

geometry, loads = (module_of("cutedsl_moe_fp8_v4", name) for name in ("geometry", "loads"))
WARPS = loads.GATHERERS // 32
SCALES, TOKENS = 32, 128 * 128 + 4 * 128  # bytes of a slot that TMA brings besides the weights


@dataclass
class GatherProtocol(Protocol):
    """What v4 runs: GEMM1 gathers, GEMM2 does not."""

    gathered: bool = True
    counted: int = loads.GATHERERS  # arrivals of gathering threads that fill a slot
    arrive_at_once: bool = False  # before the copies are done


class GatherReplay(Replay):
    """One cluster's run. Weights are shared in every other job; rows never are."""

    p: GatherProtocol

    def __init__(self, protocol: GatherProtocol, seed: int) -> None:
        super().__init__(protocol, seed)
        for block in self.blocks:
            block.full = [Barrier(1 + protocol.counted * protocol.gathered) for _ in block.full]

    def agents(self, rank: int) -> Iterator[Any]:
        if self.p.gathered:
            yield from (self.gatherer(rank, warp) for warp in range(WARPS))
        yield from super().agents(rank)

    def loader(self, rank: int) -> Iterator[Callable[[], bool]]:
        """As the kernels': GEMM2 asks for weights ahead of its rows, and both wait for their last slots before they
        leave."""
        p, block = self.p, self.blocks[rank]
        stages = p.form.stages
        ahead = 0 if p.gathered else min(p.k_blocks, stages)
        for step in range(ahead):
            self.load_weights(rank, p.stage(step, stages), step)
        ended: list[bool] = [True] * p.gathered
        self.events.append(lambda: ended.append(True))
        yield lambda: bool(ended)
        for step in range(p.steps + stages):
            slot = p.stage(step, stages)
            if step >= ahead:
                yield lambda slot=slot, step=step: block.empty[slot].passes(p.empty_parity(step, stages))
            if step < p.steps:
                if step >= ahead:
                    self.load_weights(rank, slot, step)
                if not p.gathered:
                    self.copy(rank, slot, step, "rows", TOKENS)

    def load_weights(self, rank: int, slot: int, step: int) -> None:
        announced = loads.SLOT_BYTES + SCALES + (0 if self.p.gathered else TOKENS)
        self.blocks[rank].full[slot].arrive(announce=announced)
        self.load(rank, slot, step, "weights", loads.SLOT_BYTES, self.shares_weights(step))
        self.load(rank, slot, step, "scales", SCALES, False)

    def gatherer(self, rank: int, warp: int) -> Iterator[Callable[[], bool]]:
        """A gathering warp; its copies end in any order, and each thread arrives when its own are done."""
        p, block = self.p, self.blocks[rank]
        for step in range(p.steps):
            slot = p.stage(step, p.form.stages)
            yield lambda slot=slot, step=step: block.empty[slot].passes(p.empty_parity(step, p.form.stages))
            self.copy(rank, slot, step, f"rows{warp}", 0)
            finish = self.events.pop()

            def done(finish: Callable[[], None] = finish, slot: int = slot) -> None:
                finish()
                if not p.arrive_at_once:
                    block.full[slot].arrive(32)

            self.events.append(done)
            if p.arrive_at_once:
                block.full[slot].arrive(32)

    def needed(self, step: int) -> list[str]:
        """What a slot must hold of a step before it is read."""
        ranks = range(self.p.form.cluster)
        weights = [f"weights{rank}" for rank in ranks] if self.shares_weights(step) else ["weights"]
        rows = [f"rows{warp}" for warp in range(WARPS)] if self.p.gathered else ["rows"]
        return [*weights, *rows, "scales"]


def replay(protocol: GatherProtocol, seed: int) -> None:
    """Run the roles to their end in one random order."""
    GatherReplay(protocol, seed).run()
