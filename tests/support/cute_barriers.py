"""A model of the CuTeDSL kernels' barriers: roles as generators, copies and products as events that finish when they
like.

`replay` runs one cluster's roles in a random order, with the stages and parities of cute_maps, which the device code
uses. It raises Fault for a deadlock, a slot written while it is in use, data read before it is there, or a miscounted
barrier.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from support.cute_support import module

maps = module("cute_maps")


class Fault(AssertionError):
    """The protocol broke."""


class Barrier:
    """An mbarrier: a phase ends when all arrivals and all announced bytes are in."""

    def __init__(self, count: int) -> None:
        self.count, self.pending, self.bytes, self.phase = count, count, 0, 0

    def arrive(self, count: int = 1, announce: int = 0) -> None:
        self.bytes += announce
        self.pending -= count
        if self.pending < 0:
            raise Fault(f"{-self.pending} arrivals more than the {self.count} of a phase")
        self._settle()

    def complete(self, done: int) -> None:
        self.bytes -= done
        self._settle()

    def passes(self, parity: int) -> bool:
        return self.phase % 2 != parity

    def _settle(self) -> None:
        if self.pending == 0 and self.bytes == 0:
            self.phase, self.pending = self.phase + 1, self.count


@dataclass
class Protocol:
    """What a replay runs, with the parts that a test may replace to see the model object."""

    form: Any
    chip: str  # hopper or blackwell
    k_blocks: int
    jobs: int
    stage: Callable[[int, int], int] = maps.stage
    full_parity: Callable[[int, int], int] = maps.full_parity
    empty_parity: Callable[[int, int], int] = maps.empty_parity
    empty_arrivals_missing: int = 0
    release_early: bool = False  # before the products that read the slot are done
    take_ahead: int = 1  # K blocks that a Hopper consumer waits for before it frees a slot

    @property
    def steps(self) -> int:
        return self.k_blocks * self.jobs

    @property
    def result_warps(self) -> int:
        return 8 if self.chip == "hopper" else 4 * max(1, self.form.tile_y // 128)


@dataclass
class Block:
    """One thread block's barriers and memory."""

    full: list[Barrier]
    empty: list[Barrier]
    done: list[Barrier]
    free: list[Barrier]
    parts: list[dict[str, int]]  # what step each part of a slot holds
    users: list[int]  # agents that are reading a slot
    accumulator: list[int]
    readers: list[int] = field(default_factory=list)  # agents that still have to read an accumulator


def make_block(p: Protocol) -> Block:
    s, a = p.form.stages, maps.accumulator_stages(p.form)
    per_block = p.result_warps + (p.chip == "blackwell")
    arrivals = per_block * p.form.cluster - p.empty_arrivals_missing
    return Block(
        full=[Barrier(1) for _ in range(s)],
        empty=[Barrier(arrivals) for _ in range(s)],
        done=[Barrier(1) for _ in range(a)],
        free=[Barrier(p.result_warps) for _ in range(a)],
        parts=[{} for _ in range(s)],
        users=[0] * s,
        accumulator=[-1] * a,
        readers=[0] * a,
    )


class Replay:
    """One cluster's run."""

    def __init__(self, protocol: Protocol, seed: int) -> None:
        self.p = protocol
        self.random = random.Random(seed)
        self.blocks = [make_block(protocol) for _ in range(protocol.form.cluster)]
        self.events: list[Callable[[], None]] = []  # copies in flight, in no order
        self.products: list[list[Callable[[], None]]] = [[] for _ in self.blocks]  # in order, for each block

    def run(self) -> None:
        agents = [agent for rank in range(len(self.blocks)) for agent in self.agents(rank)]
        waiting: dict[Any, Callable[[], bool]] = {agent: (lambda: True) for agent in agents}
        while waiting or self.events or any(self.products):
            queues = [queue for queue in self.products if queue]
            ready = [agent for agent, condition in waiting.items() if condition()]
            if not ready and not self.events and not queues:
                raise Fault(f"deadlock with {len(waiting)} roles waiting")
            turn = self.random.randrange(len(ready) + len(self.events) + len(queues))
            if turn < len(ready):
                agent = ready[turn]
                condition = next(agent, None)
                waiting.pop(agent)
                if condition is not None:
                    waiting[agent] = condition
            elif turn < len(ready) + len(self.events):
                self.events.pop(turn - len(ready))()
            else:
                queues[turn - len(ready) - len(self.events)].pop(0)()

    def agents(self, rank: int) -> Iterator[Any]:
        yield self.loader(rank)
        if self.p.chip == "hopper":
            yield from (self.hopper_consumer(rank) for _ in range(2))
        else:
            yield self.product_warp(rank)
            yield from (self.result_warp(rank) for _ in range(self.p.result_warps))

    # --- roles: each yields the condition that it waits for -----------------------------------------------------------

    def loader(self, rank: int) -> Iterator[Callable[[], bool]]:
        """Weights (and their scales) of the first round at once, tokens when the kernel before has ended."""
        p, block = self.p, self.blocks[rank]
        ahead = min(p.k_blocks, p.form.stages) if p.jobs else 0
        for step in range(ahead):
            self.load_weights(rank, p.stage(step, p.form.stages), step)
        ended: list[bool] = []
        self.events.append(lambda: ended.append(True))
        yield lambda: bool(ended)
        for step in range(p.steps):
            slot = p.stage(step, p.form.stages)
            if step >= ahead:
                yield lambda slot=slot, step=step: block.empty[slot].passes(p.empty_parity(step, p.form.stages))
                self.load_weights(rank, slot, step)
            self.load_tokens(rank, slot, step)

    def shares_weights(self, step: int) -> bool:
        return (step // self.p.k_blocks) % 2 == 0

    def load_weights(self, rank: int, slot: int, step: int) -> None:
        p = self.p
        self.blocks[rank].full[slot].arrive(announce=p.form.stage_bytes)
        name, size = ("x", 128 * 128) if p.form.swapped else ("y", 128 * p.form.tile_y)
        self.load(rank, slot, step, name, size, self.shares_weights(step))
        self.load(rank, slot, step, "weight scales", 16 * p.form.n_blocks, False)

    def load_tokens(self, rank: int, slot: int, step: int) -> None:
        p = self.p
        name, size = ("y", 128 * p.form.tile_y) if p.form.swapped else ("x", 128 * 128)
        self.load(rank, slot, step, name, size, not self.shares_weights(step))
        self.load(rank, slot, step, "scales", 4 * p.form.tile_m, False)

    def load(self, rank: int, slot: int, step: int, name: str, size: int, shared: bool) -> None:
        everyone = shared and self.p.form.cluster > 1
        for target in range(self.p.form.cluster) if everyone else [rank]:
            part = f"{name}{rank}" if everyone else name
            self.copy(target, slot, step, part, size // self.p.form.cluster if everyone else size)

    def copy(self, target: int, slot: int, step: int, part: str, size: int) -> None:
        block = self.blocks[target]

        def finish() -> None:
            if block.users[slot]:
                raise Fault(f"step {step} overwrites slot {slot} while it is read")
            if block.parts[slot].get("freed", step) != step - self.p.form.stages and step >= self.p.form.stages:
                raise Fault(f"step {step} overwrites slot {slot}, which holds {block.parts[slot]}")
            block.parts[slot][part] = step
            block.full[slot].complete(size)

        self.events.append(finish)

    def enter(self, rank: int, slot: int, step: int) -> None:
        """A role starts to read a slot."""
        block = self.blocks[rank]
        held = {part: s for part, s in block.parts[slot].items() if part != "freed"}
        if any(held.get(part) != step for part in self.needed(step)):
            raise Fault(f"step {step} reads slot {slot}, which holds {held}")
        block.users[slot] += 1

    def needed(self, step: int) -> list[str]:
        """What a slot must hold of a step before it is read: of a tile that the cluster shares, both halves."""
        if self.p.form.cluster == 1:
            return ["x", "y", "scales"]
        shared, own = ("y", "x") if self.shares_weights(step) else ("x", "y")
        return [own, "scales", *(f"{shared}{rank}" for rank in (0, 1))]

    def leave(self, rank: int, slot: int, arrivals: int, signal: bool = True) -> None:
        """A role has read a slot for the last time and tells the loaders of the whole cluster."""
        self.blocks[rank].users[slot] -= 1
        if signal:
            self.signal_empty(slot, arrivals)

    def signal_empty(self, slot: int, arrivals: int) -> None:
        for block in self.blocks:
            before = block.empty[slot].phase
            block.empty[slot].arrive(arrivals)
            if block.empty[slot].phase != before:
                held = [step for part, step in block.parts[slot].items() if part != "freed"]
                block.parts[slot]["freed"] = max(held, default=-1)

    def hopper_consumer(self, rank: int) -> Iterator[Callable[[], bool]]:
        """A consumer warpgroup: four warps arrive together."""
        p, block = self.p, self.blocks[rank]

        def full(step: int) -> Callable[[], bool]:
            slot = p.stage(step, p.form.stages)
            return lambda: block.full[slot].passes(p.full_parity(step, p.form.stages))

        for first in range(0, p.steps, p.k_blocks):
            taken = first
            for step in range(first, first + p.k_blocks):
                while taken <= min(step + p.take_ahead, first + p.k_blocks - 1):
                    yield full(taken)
                    self.enter(rank, p.stage(taken, p.form.stages), taken)
                    taken += 1
                slot = p.stage(step, p.form.stages)
                if p.release_early:
                    self.signal_empty(slot, 4)
                yield lambda: True  # products run
                self.leave(rank, slot, 4, signal=not p.release_early)

    def product_warp(self, rank: int) -> Iterator[Callable[[], bool]]:
        p, block = self.p, self.blocks[rank]
        depth = maps.accumulator_stages(p.form)
        for step in range(p.steps):
            slot, target = p.stage(step, p.form.stages), p.stage(step, depth)
            yield lambda target=target, step=step: block.free[target].passes(p.empty_parity(step, depth))
            yield lambda slot=slot, step=step: block.full[slot].passes(p.full_parity(step, p.form.stages))
            self.enter(rank, slot, step)

            def finish(step: int = step, slot: int = slot, target: int = target) -> None:
                if block.readers[target]:
                    raise Fault(f"step {step} overwrites accumulator {target} before it was read")
                block.accumulator[target], block.readers[target] = step, p.result_warps
                self.leave(rank, slot, 1)
                block.done[target].arrive()

            self.products[rank].append(finish)

    def result_warp(self, rank: int) -> Iterator[Callable[[], bool]]:
        p, block = self.p, self.blocks[rank]
        depth = maps.accumulator_stages(p.form)
        for step in range(p.steps):
            slot, source = p.stage(step, p.form.stages), p.stage(step, depth)
            yield lambda slot=slot, step=step: block.full[slot].passes(p.full_parity(step, p.form.stages))
            self.enter(rank, slot, step)
            yield lambda source=source, step=step: block.done[source].passes(p.full_parity(step, depth))
            if block.accumulator[source] != step:
                raise Fault(f"step {step} reads accumulator {source}, which holds step {block.accumulator[source]}")
            block.readers[source] -= 1
            block.free[source].arrive()
            self.leave(rank, slot, 1)


def replay(protocol: Protocol, seed: int) -> None:
    """Run the roles to their end in one random order."""
    Replay(protocol, seed).run()
