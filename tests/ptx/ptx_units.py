"""The asynchronous units of the machine in `ptx_machine`: Hopper's and Blackwell's matrix instructions, and
the way through a program.

Entry point: `run_cluster`. The matrix instructions decode the descriptors that the kernel built. An instruction that is
not known is an error, never skipped.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
from ptx.ptx_arithmetic import ARITHMETIC, Act, address, names, one, reader, write
from ptx.ptx_copies import COPIES, swizzled
from ptx.ptx_machine import (
    CLUSTER_SHIFT,
    E4M3,
    SHARED_BASE,
    Block,
    Machine,
    Memory,
    Program,
    Step,
    Warp,
    require,
)
from ptx.ptx_memory import MEMORY

MMA_K = 32
ROW = 128  # bytes of a row of an operand in shared memory


# --- matrix instructions ----------------------------------------------------------------------------------------------


def places_of(block: Block, descriptor: int, rows: int, chip: str) -> np.ndarray:
    """Places in the block's memory of the bytes (rows, 32) of a K-major operand that a shared-memory descriptor points
    at, swizzled by 128 bytes."""
    start, stride = (descriptor & 0x3FFF) << 4, (descriptor >> 32 & 0x3FFF) << 4
    swizzle = descriptor >> 62 & 3 if chip == "hopper" else descriptor >> 61 & 7
    require(swizzle == (1 if chip == "hopper" else 2), f"descriptor {descriptor:#x} does not say 128-byte swizzle")
    require(chip == "hopper" or descriptor >> 46 & 3 == 1, f"descriptor {descriptor:#x} has no Blackwell version")
    require(descriptor >> 49 & 7 == 0, f"descriptor {descriptor:#x} has a base offset")
    r, k = np.arange(rows)[:, None], np.arange(MMA_K)[None, :]
    places = swizzled(start + r // 8 * stride + r % 8 * ROW + k) - SHARED_BASE
    require(places.min() >= 0 and places.max() < len(block.shared), f"descriptor {descriptor:#x} leaves shared memory")
    return places


def operand(block: Block, descriptor: int, rows: int, chip: str) -> np.ndarray:
    """Bytes (rows, 32) of an operand."""
    return block.shared[places_of(block, descriptor, rows, chip)]


class Product:
    """One matrix instruction: X (m, 32) times the transpose of Y (n, 32). Its operands must not change until it is
    done."""

    def __init__(self, warp: Warp, x: int, y: int, m: int, n: int, chip: str) -> None:
        block = warp.block
        for descriptor, rows in ((x, m), (y, n)):
            warp.check_fence(places_of(block, descriptor, rows, chip))
        self.fetch = lambda: (operand(block, x, m, chip), operand(block, y, n, chip))
        self.x, self.y = self.fetch()

    def value(self) -> np.ndarray:
        x, y = self.fetch()
        require((x == self.x).all() and (y == self.y).all(), "a slot changed while a product read it")
        return E4M3[x].astype(np.float64) @ E4M3[y].astype(np.float64).T


def hopper_product(opcode: str, operands: list[str]) -> Act:
    found = re.search(r"\.m64n(\d+)k32\.f32\.e4m3\.e4m3$", opcode)
    require(found is not None and operands[4:] == ["1", "1"], f"{opcode} {operands[3:]}: a form that is not modelled")
    n, registers = int(found[1]), names(operands[0])  # type: ignore[index]
    x, y, adds = reader(operands[1], "u8"), reader(operands[2], "u8"), reader(operands[3], "?")
    lane, i = np.arange(32)[:, None], np.arange(n // 2)[None, :]
    row, column = lane // 4 + 8 * (i // 2 % 2), 8 * (i // 4) + 2 * (lane % 4) + i % 2

    def act(warp: Warp, mask: np.ndarray) -> None:
        require(bool(mask.all()) and warp.may_multiply, "wgmma without wgmma.fence")
        mine = slice(16 * (warp.index % 4), 16 * (warp.index % 4) + 16)
        product = Product(warp, one(x(warp), mask), one(y(warp), mask), 64, n, "hopper")
        add = bool(one(adds(warp), mask))
        under_way = any(warp.products)  # the group's first product takes its start from the registers
        if not under_way:
            start = np.stack([warp.registers.get(name, np.zeros(32, "u4")) for name in registers], 1).view("f4")
            warp.sums = start.astype(np.float64)
        for name in registers:
            write(warp, name, np.full(32, np.nan, dtype="f4"), mask)

        def finish() -> None:
            value = product.value()[mine][row, column]
            warp.sums = value + (warp.sums if add else 0)
            for j, name in enumerate(registers):
                write(warp, name, warp.sums[:, j].astype("f4"), mask)

        warp.products[-1].append(finish)

    return act


def hopper_order(opcode: str, operands: list[str]) -> Act:
    def act(warp: Warp, mask: np.ndarray) -> None:
        if "fence" in opcode:
            warp.may_multiply = True
        elif "commit" in opcode:
            warp.products.append([])
        else:
            warp.may_multiply = False
            while len(warp.products) - 1 > int(operands[0]):
                for finish in warp.products.pop(0):
                    finish()

    return act


def instruction_word(m: int, n: int) -> int:
    """Instruction descriptor of tcgen05.mma kind::f8f6f4 for float32 sums of e4m3, both operands K-major."""
    return 1 << 4 | n // 8 << 17 | m // 16 << 24


def blackwell_product(opcode: str, operands: list[str]) -> Act:
    require(opcode.startswith("tcgen05.mma.cta_group::1.kind::f8f6f4"), f"{opcode} is not modelled")
    to, x, y = address(operands[0], "u4"), reader(operands[1], "u8"), reader(operands[2], "u8")
    form, adds = reader(operands[3], "u4"), reader(operands[5], "?")
    off = [reader(name, "u4") for name in names(operands[4])]

    def act(warp: Warp, mask: np.ndarray) -> None:
        require(int(mask.sum()) == 1, "one thread issues a product")
        require(warp.sees_tmem, "a product that no fence::after_thread_sync orders after the last wait")
        block, bits, first = warp.block, one(form(warp), mask), one(to(warp), mask)
        m, n = (bits >> 24 & 31) * 16, (bits >> 17 & 63) * 8
        # float32 sums; both operands e4m3, K-major, not negated, not sparse; no lane switched off.
        require(bits == instruction_word(m, n) and m == 128, f"instruction descriptor {bits:#x}")
        require(not any(one(word(warp), mask) for word in off), "lanes of a product are switched off")
        columns = tmem_columns(block, first, n)
        product = Product(warp, one(x(warp), mask), one(y(warp), mask), m, n, "blackwell")
        add = bool(one(adds(warp), mask))
        if not add:
            block.tmem[:, columns] = np.nan

        def finish() -> None:
            value = product.value()
            block.tmem[:, columns] = value + (block.tmem[:, columns] if add else 0)

        block.products.append(finish)

    return act


def tmem_columns(block: Block, place: int, count: int) -> slice:
    """Columns of tensor memory from an address on, which must lie in what is allocated and start at lane 0."""
    start = place & 0xFFFF
    first = 512 - block.tmem_columns
    require(place >> 16 == 0 and first <= start and start + count <= 512, f"tensor memory {place:#x} is not allocated")
    return slice(start, start + count)


def blackwell_commit(opcode: str, operands: list[str]) -> Act:
    where = address(operands[0], "u4")
    everyone = reader(operands[1], "u2") if "multicast" in opcode else None

    def act(warp: Warp, mask: np.ndarray) -> None:
        machine, place = warp.machine, one(where(warp), mask) & ((1 << CLUSTER_SHIFT) - 1)
        ranks = one(everyone(warp), mask) if everyone else 1 << warp.block.rank

        def finish() -> None:
            for block in machine.blocks:
                if ranks >> block.rank & 1:
                    left = block.done_warps == machine.program.threads // 32
                    require(not left, "a signal to a block that has left")
                    block.barrier(place).arrive()

        warp.block.products.append(finish)

    return act


def tmem_load(opcode: str, operands: list[str]) -> Act:
    registers, where = names(operands[0]), address(operands[1], "u4")
    require(opcode == f"tcgen05.ld.sync.aligned.32x32b.x{len(registers)}.b32", f"{opcode} is not modelled")

    def act(warp: Warp, mask: np.ndarray) -> None:
        require(bool(mask.all()), "tcgen05.ld without all lanes")
        require(warp.sees_tmem, "a read of tensor memory that no fence::after_thread_sync orders after the last wait")
        place, quarter = one(where(warp), mask), 32 * (warp.index % 4)
        require(
            place >> 16 == quarter, f"warp {warp.index} reads lanes from {place >> 16} on; it reaches {quarter} only"
        )
        columns = tmem_columns(warp.block, place & 0xFFFF, len(registers))
        found = warp.block.tmem[quarter : quarter + 32, columns].copy()
        warp.reads_tmem = True
        for name in registers:
            write(warp, name, np.full(32, np.nan, dtype="f4"), mask)
        warp.loaded.append((registers, found))

    return act


def tmem_wait(opcode: str, operands: list[str]) -> Act:
    def act(warp: Warp, mask: np.ndarray) -> None:
        for registers, found in warp.loaded:
            for i, name in enumerate(registers):
                write(warp, name, found[:, i].copy(), mask)
        warp.loaded = []

    return act


def tmem_fence(opcode: str, operands: list[str]) -> Act:
    def act(warp: Warp, mask: np.ndarray) -> None:
        if "before" in opcode:
            warp.reads_tmem = False
        else:
            warp.sees_tmem = True

    return act


def tmem_allocate(opcode: str, operands: list[str]) -> Act:
    where, count = address(operands[0], "u4"), reader(operands[1], "u4")

    def act(warp: Warp, mask: np.ndarray) -> None:
        columns, block = one(count(warp), mask), warp.block
        require(bool(mask.all()) and columns in (32, 64, 128, 256, 512), f"{columns} columns of tensor memory")
        require(block.tmem_columns == 0, "tensor memory was allocated twice")
        block.tmem_columns = columns
        place = block.at(one(where(warp), mask), 4)
        block.shared[place].view("u4")[:] = 512 - columns  # no kernel may count on where its columns start

    return act


def tmem_free(opcode: str, operands: list[str]) -> Act:
    where, count = reader(operands[0], "u4"), reader(operands[1], "u4")

    def act(warp: Warp, mask: np.ndarray) -> None:
        freed = one(where(warp), mask), one(count(warp), mask)
        held = warp.block.tmem_columns
        require(freed == (512 - held, held), f"frees (address, columns) {freed} of tensor memory, holds {held} columns")
        warp.block.tmem_columns = 0

    return act


INSTRUCTIONS: dict[str, Callable[[str, list[str]], Act]] = {
    **COPIES,
    "wgmma.mma_async": hopper_product,
    "wgmma.": hopper_order,
    "tcgen05.mma": blackwell_product,
    "tcgen05.commit": blackwell_commit,
    "tcgen05.ld": tmem_load,
    "tcgen05.wait::ld": tmem_wait,
    "tcgen05.fence": tmem_fence,
    "tcgen05.alloc": tmem_allocate,
    "tcgen05.dealloc": tmem_free,
    **MEMORY,
    **ARITHMETIC,
}


def translate(line: tuple[str, str, list[str]], program: Program) -> Step:
    """The step of a parsed line."""
    guard, opcode, operands = line
    negated, name = guard.startswith("@!"), guard.lstrip("@!")
    if opcode.startswith("bra"):
        return Step(name, negated, program.labels[operands[0]], lambda warp, mask: None)
    make = next((make for prefix, make in INSTRUCTIONS.items() if opcode.startswith(prefix)), None)
    if make is None:
        raise ValueError(f"an instruction that this machine does not have: {opcode} {', '.join(operands)}")
    return Step(name, negated, None, make(opcode, operands))


def run_cluster(
    program: Program,
    memory: Memory,
    parameters: dict[str, Any],
    *,
    first: int,
    grid: int,
    cluster: int,
    shared: int,
    seed: int,
    favoured: int | None = None,
) -> None:
    """Run the cluster whose first block is number `first` of `grid` blocks to its end, in one random order.

    Raises Fault where the machine objects. parameters: by name, in order; a TensorMap, or the bytes of a value.
    favoured: rank of a block that runs ahead of the others wherever it can.
    """
    code = [translate(line, program) for line in program.lines]
    machine = Machine(program, code, memory, parameters, cluster, seed)
    machine.favoured = favoured
    machine.launch(first, grid, shared)
