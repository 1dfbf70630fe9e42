"""A small machine that runs the PTX of the grouped GEMMs on a CPU: memory, barriers, asynchronous units, warps in
random order.

`Machine.launch` runs one cluster of thread blocks until all threads have returned; what each instruction does stands in
`ptx_arithmetic`, `ptx_memory` and `ptx_units`. It is made to object: an asynchronous copy poisons its target when it
starts and delivers when it likes, a matrix instruction reads its operands at its start and again at its end, and
`Fault` is raised for a deadlock, a barrier miscounted, a product whose operands changed under it, an address outside of
what was allocated, a tensor-memory access that no fence orders, or a block that leaves while something is still on its
way to it. It also delivers signals to another block late, and raises `Fault` where a matrix or copy unit reads what
threads wrote to
shared memory without a proxy fence in between. Not modelled: the memory order of ordinary loads and stores, bank
conflicts, time.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

SHARED_BASE = 1024  # where a block's shared memory starts in its window
CLUSTER_SHIFT = 24  # address bits above: rank of the block whose memory it is
ALL = np.ones(32, dtype=bool)
POISON = 0xFF  # not a number, both as e4m3 and repeated as float32
E4M3 = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float().numpy()


class Fault(AssertionError):
    """The program did something that the chip would not forgive."""


def require(condition: bool, text: str) -> None:
    if not condition:
        raise Fault(text)


@dataclass
class Barrier:
    """An mbarrier: a phase ends when all arrivals and all announced bytes are in."""

    count: int
    pending: int = 0
    bytes: int = 0
    phase: int = 0

    def __post_init__(self) -> None:
        self.pending = self.count

    def arrive(self, count: int = 1, announce: int = 0) -> None:
        self.bytes += announce
        self.pending -= count
        require(self.pending >= 0, f"more arrivals than the {self.count} of a phase")
        self.settle()

    def complete(self, done: int) -> None:
        self.bytes -= done
        self.settle()

    def settle(self) -> None:
        if self.pending == 0 and self.bytes == 0:
            self.phase, self.pending = self.phase + 1, self.count


@dataclass(frozen=True)
class TensorMap:
    """What a TMA descriptor says of a tensor of bytes: its array, outermost axis first, and the rows of a box of 128
    bytes."""

    data: np.ndarray
    rows: int
    late: bool = False  # see Memory.add

    def box(self, coordinates: list[int]) -> np.ndarray:
        """The box at `coordinates`, innermost first. A box that leaves the tensor is a fault: nothing here needs
        one."""
        column, row, *outer = coordinates
        plane = self.data[tuple(reversed(outer))]
        inside = 0 <= column <= plane.shape[1] - 128 and 0 <= row <= plane.shape[0] - self.rows
        require(inside, f"box at {coordinates} of {self.rows} rows leaves a tensor of {self.data.shape}")
        return plane[row : row + self.rows, column : column + 128]


@dataclass
class Block:
    """One thread block: shared memory, barriers by address, tensor memory, the tensor core's queue."""

    rank: int
    index: int
    shared: np.ndarray
    barriers: dict[int, Barrier] = field(default_factory=dict)
    tmem: np.ndarray = field(default_factory=lambda: np.full((128, 512), np.nan, dtype=np.float32))
    tmem_columns: int = 0
    products: list[Callable[[], None]] = field(default_factory=list)  # finish in order
    waiting: dict[int, set[Any]] = field(default_factory=dict)  # named barrier -> warps there
    in_flight: int = 0  # copies on their way here
    done_warps: int = 0
    stamps: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))  # by byte: when threads wrote it
    writers: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int32))  # by byte: number of the warp
    waited: bool = False  # one of its warps has waited for the end of the kernel before

    def at(self, address: int, size: int) -> slice:
        start = address - SHARED_BASE
        require(start >= 0 and start + size <= len(self.shared), f"shared address {address} of {size} bytes")
        require(start % min(size, 16) == 0, f"shared address {address} is not aligned to {size} bytes")
        return slice(start, start + size)

    def barrier(self, address: int) -> Barrier:
        require(address in self.barriers, f"no barrier was initialised at shared address {address}")
        return self.barriers[address]


class Memory:
    """Global memory: named arrays, each with a window of addresses of its own."""

    def __init__(self) -> None:
        self.arrays: list[np.ndarray] = []
        self.late: set[int] = set()

    def add(self, array: np.ndarray, late: bool = False) -> int:
        """Address of a contiguous array, whose bytes stores will change.

        late: the kernel before this one in the stream may still use it, so that it must not be touched before that
        one's end.
        """
        self.arrays.append(array.reshape(-1).view(np.uint8))
        if late:
            self.late.add(len(self.arrays))
        return len(self.arrays) << 36

    def is_late(self, address: int) -> bool:
        return address >> 36 in self.late

    def window(self, address: int, size: int) -> tuple[np.ndarray, int]:
        index, offset = (address >> 36) - 1, address & ((1 << 36) - 1)
        inside = 0 <= index < len(self.arrays) and offset + size <= len(self.arrays[index])
        require(inside, f"global address {address:#x} of {size} bytes is outside of every array")
        require(offset % min(size, 32) == 0, f"global address {address:#x} is not aligned to {size} bytes")
        return self.arrays[index], offset


class Warp:
    """32 threads: registers by name, a program counter a lane, and what the asynchronous units owe it."""

    def __init__(self, machine: Machine, block: Block, index: int) -> None:
        self.machine, self.block, self.index = machine, block, index
        self.registers: dict[str, np.ndarray] = {}
        self.groups: list[tuple[int, np.ndarray]] = [(0, ALL)]  # program counter -> lanes, lowest first
        self.blocked: Callable[[], bool] | None = None
        self.products: list[list[Callable[[], None]]] = [[]]  # Hopper: committed groups, the open one last
        self.may_multiply = False  # Hopper: registers are ordered before the products
        self.sees_tmem = False  # Blackwell: ordered after the last signal
        self.reads_tmem = False  # Blackwell: accesses that no fence has ordered before the next signal
        self.new_barriers = False
        self.waited = False  # for the end of the kernel before this one in the stream
        self.yields = False
        self.at_cluster = 0
        self.fenced = 0  # what threads had written to shared memory by this warp's last proxy fence
        self.copies: list[Callable[[], None]] = []  # cp.async under way
        self.sums = np.zeros(0)  # Hopper: of the products under way
        self.loaded: list[tuple[list[str], np.ndarray]] = []  # Blackwell: what no wait has delivered yet

    @property
    def thread(self) -> np.ndarray:
        return np.arange(32, dtype=np.uint32) + 32 * self.index

    def goto(self, mask: np.ndarray, target: int, current: int) -> None:
        """Send the lanes of `mask` to `target` and the group's others to the next instruction."""
        _, lanes = self.groups.pop(0)
        for place, these in ((target, lanes & mask), (current + 1, lanes & ~mask)):
            if these.any():
                self.join(place, these)

    def join(self, place: int, lanes: np.ndarray) -> None:
        for i, (other, mask) in enumerate(self.groups):
            if other == place:
                self.groups[i] = (place, mask | lanes)
                return
        self.groups.append((place, lanes))
        self.groups.sort(key=lambda group: group[0])

    def wrote(self, where: slice) -> None:
        """The warp's threads have written these bytes of shared memory: async units see them after a proxy fence
        only."""
        self.machine.writes += 1
        self.block.stamps[where], self.block.writers[where] = self.machine.writes, self.index

    def check_fence(self, places: Any) -> None:
        """Before an async unit reads these bytes on this warp's behalf: their writer or this warp has fenced since."""
        stamps = self.block.stamps[places]
        fences = np.array([warp.fenced for warp in self.machine.warps if warp.block is self.block])
        seen = (stamps <= self.fenced) | (stamps <= fences[self.block.writers[places]])
        require(bool(seen.all()), "an async unit reads what threads wrote, and no proxy fence stands between")

    def signal(self) -> None:
        """Before other threads are told something: they may go on before this warp does."""
        require(not self.reads_tmem, "a signal after a tensor-memory access without fence::before_thread_sync")
        require(not self.new_barriers, "a signal after mbarrier.init without its fence")
        self.yields = self.machine.random.random() < 0.5

    def run(self, quantum: int) -> None:
        code, self.yields = self.machine.code, False
        for _ in range(quantum):
            if not self.groups or self.blocked or self.yields:
                return
            place, mask = self.groups[0]
            step = code[place]
            if step.guard:
                mask = mask & (self.registers[step.guard] != step.negated)
                if step.jump is None and not mask.any():
                    self.advance(place)
                    continue
            if step.jump is not None:
                self.goto(mask, step.jump, place)
            else:
                step.act(self, mask)
                if self.groups and self.groups[0][0] == place:
                    self.advance(place)

    def advance(self, place: int) -> None:
        _, lanes = self.groups[0]
        if len(self.groups) == 1:
            self.groups[0] = (place + 1, lanes)
        else:
            self.groups.pop(0)
            self.join(place + 1, lanes)


@dataclass
class Step:
    """One instruction: its guard, where it jumps to, or what it does to the lanes of a mask."""

    guard: str
    negated: bool
    jump: int | None
    act: Callable[[Warp, np.ndarray], None]


@dataclass
class Program:
    """A kernel's PTX, split up: instructions as (guard, opcode, operands), labels, parameters' names, threads of a
    block."""

    lines: list[tuple[str, str, list[str]]]
    labels: dict[str, int]
    parameters: list[str]
    threads: int


WAIT = re.compile(
    r"\{\s*\.reg \.pred\s+P1;\s*LAB_WAIT:\s*mbarrier\.try_wait\.parity\.shared\.b64 P1, (\[.*?\]), (%r\d+|\d), \d+;"
    r".*?DONE:\s*\}",
    re.DOTALL,
)


def parse(ptx: str) -> Program:
    """Read the one kernel of a PTX module; the endless loop around a barrier's try_wait becomes one instruction."""
    text = WAIT.sub(r"mbarrier.wait \1, \2;", re.sub(r"//[^\n]*", "", ptx))
    head, body = text.split(".reqntid", 1)
    lines: list[tuple[str, str, list[str]]] = []
    labels: dict[str, int] = {}
    for piece in body[body.index("{") :].split(";"):
        statement = piece.lstrip("{} \n\t").strip()
        while found := re.match(r"(\$?\w+):\s*", statement):
            labels[found[1]] = len(lines)
            statement = statement[found.end() :].lstrip("{} \n\t")
        statement = re.sub(r"^(\.pragma|\.reg|\.loc)\b.*", "", statement, flags=re.DOTALL)
        if statement:
            guard, rest = re.fullmatch(r"(@!?\S+\s+)?(.*)", statement, re.DOTALL).groups()  # type: ignore[union-attr]
            opcode, _, operands = rest.replace("\t", " ").partition(" ")
            lines.append(((guard or "").strip(), opcode, split_operands(operands)))
    parameters = re.findall(r"\.param [^,)]*?(\w+_param_\d+)", head)
    return Program(lines, labels, parameters, int(body[: body.index(",")]))


def split_operands(text: str) -> list[str]:
    """Operands of an instruction; commas within braces and brackets do not part them."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "{[") - (letter in "}]")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


@dataclass(eq=False)
class Arrival:
    """A signal on its way to another block."""

    warp: Warp
    block: Block
    barrier: Barrier
    count: int

    def __call__(self) -> None:
        left = self.block.done_warps == self.warp.machine.program.threads // 32
        require(not left, "a signal to a block that has left")
        self.barrier.arrive(self.count)


class Machine:
    """One cluster's run of one program."""

    def __init__(
        self, program: Program, code: list[Step], memory: Memory, parameters: dict[str, Any], cluster: int, seed: int
    ) -> None:
        self.program, self.code, self.memory, self.parameters = program, code, memory, parameters
        self.random = random.Random(seed)
        self.copies: list[Callable[[], None]] = []  # in flight, in no order
        self.cluster = cluster
        self.writes = 0  # of threads to shared memory
        self.favoured: int | None = None  # rank of a block whose warps run before the others' wherever they can
        self.blocks: list[Block] = []

    def launch(self, first_block: int, blocks: int, shared_bytes: int) -> None:
        self.grid = blocks
        self.blocks = [
            Block(rank, first_block + rank, np.full(shared_bytes, POISON, dtype=np.uint8))
            for rank in range(self.cluster)
        ]
        for block in self.blocks:
            block.stamps = np.zeros(shared_bytes, dtype=np.int64)
            block.writers = np.zeros(shared_bytes, dtype=np.int32)
        warps = [Warp(self, block, w) for block in self.blocks for w in range(self.program.threads // 32)]
        self.warps = list(warps)
        while warps or self.copies or any(block.products for block in self.blocks):
            self.turn(warps)
        for block in self.blocks:
            require(block.tmem_columns == 0, "tensor memory was not freed")
            for address, barrier in block.barriers.items():
                require(barrier.bytes == 0, f"{barrier.bytes} bytes still announced at barrier {address}")

    def turn(self, warps: list[Warp]) -> None:
        """Let one warp run for a while, or one copy or product finish."""
        ready = [warp for warp in warps if warp.blocked is None or warp.blocked()]
        if self.favoured is not None:
            ready = [warp for warp in ready if warp.block.rank == self.favoured] or ready
        queues = [block.products for block in self.blocks if block.products]
        require(bool(ready or self.copies or queues), f"deadlock with {len(warps)} warps waiting")
        choice = self.random.randrange(len(ready) + len(self.copies) + len(queues))
        event = self.copies[choice - len(ready)] if 0 <= choice - len(ready) < len(self.copies) else None
        if ready and isinstance(event, Arrival) and self.random.random() < 0.95:  # signals to another block are slow
            choice = self.random.randrange(len(ready))
        if choice < len(ready):
            warp = ready[choice]
            warp.blocked = None
            warp.run(self.random.choice((1, 30, 1000)))
            if not warp.groups:
                warps.remove(warp)
                self.leave(warp)
        elif choice < len(ready) + len(self.copies):
            self.copies.pop(choice - len(ready))()
        else:
            queues[choice - len(ready) - len(self.copies)].pop(0)()

    def leave(self, warp: Warp) -> None:
        block = warp.block
        block.done_warps += 1
        if block.done_warps == self.program.threads // 32:
            require(not block.in_flight, "a block leaves while a copy to it is on its way")
            require(not block.products, "a block leaves while its products run")

    def target(self, block: Block, address: int) -> tuple[Block, int]:
        """Block and window address behind an address of the cluster's shared memory; without a rank it is one's own."""
        rank, offset = address >> CLUSTER_SHIFT, address & ((1 << CLUSTER_SHIFT) - 1)
        return (self.blocks[rank - 1] if rank else block), offset

    def late_arrival(self, warp: Warp, block: Block, address: int, count: int) -> None:
        """Signal another block of the cluster; it gets there when it likes, at the latest at the sender's next
        release."""
        finish = Arrival(warp, block, block.barrier(address), count)
        self.copies.append(finish)

    def copy(self, block: Block, address: int, barrier: int, size: int, deliver: Callable[[slice], None]) -> None:
        """Start an asynchronous copy of `size` bytes to a block's shared memory."""
        where = block.at(address, size)
        block.shared[where] = POISON
        block.in_flight += 1
        bar = block.barrier(barrier)

        def finish() -> None:
            require(block.done_warps < self.program.threads // 32, "a copy arrives at a block that has left")
            block.stamps[where] = 0
            deliver(where)
            block.in_flight -= 1
            bar.complete(size)

        self.copies.append(finish)
