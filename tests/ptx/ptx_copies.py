"""Copies of the machine in `ptx_machine` that go on by themselves: in bulk, by tensor map,
by `cp.async` and `st.async`.

Entry point: `COPIES`, an instruction's beginning -> what makes its step. A copy poisons its target until it arrives.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ptx.ptx_arithmetic import Act, address, names, one, reader
from ptx.ptx_machine import (
    POISON,
    SHARED_BASE,
    Block,
    TensorMap,
    Warp,
    require,
)
from ptx.ptx_memory import TOUCHED


def swizzled(addresses: np.ndarray) -> np.ndarray:
    """The 128-byte swizzle: bits 4 to 6 of an address are exchanged by its bits 7 to 9."""
    return addresses ^ ((addresses >> 7 & 7) << 4)


def bulk_copy(opcode: str, operands: list[str]) -> Act:
    target, source = address(operands[0], "u4"), address(operands[1], "u8")
    size, barrier = reader(operands[2], "u4"), address(operands[3], "u4")

    def act(warp: Warp, mask: np.ndarray) -> None:
        count, start = one(size(warp), mask), one(source(warp), mask)
        to, bar = one(target(warp), mask), one(barrier(warp), mask)
        require(count % 16 == start % 16 == to % 16 == 0, "a bulk copy that is not a multiple of 16 bytes")
        require(warp.waited or not warp.machine.memory.is_late(start), TOUCHED)
        array, offset = warp.machine.memory.window(start, count)

        def deliver(where: slice) -> None:
            warp.block.shared[where] = array[offset : offset + count]

        warp.machine.copy(warp.block, to, bar, count, deliver)

    return act


def copy_async(opcode: str, operands: list[str]) -> Act:
    """cp.async: a copy of 4 or 16 bytes by each lane, of which the source gives the first ones and zeros the rest.

    The lanes' copies finish together at some time. They count as writes of the threads: no unit sees them unfenced.
    """
    target, source, size = address(operands[0], "u4"), address(operands[1], "u8"), int(operands[2])
    used = reader(operands[3], "u4")

    def act(warp: Warp, mask: np.ndarray) -> None:
        machine, block, moves = warp.machine, warp.block, []
        for lane in np.flatnonzero(mask):
            where, count, start = (
                block.at(int(target(warp)[lane]), size),
                int(used(warp)[lane]),
                int(source(warp)[lane]),
            )
            require(count <= size, f"cp.async of {size} bytes uses {count}")
            require(start % size == 0, "a source of cp.async that is not aligned")
            require(count == 0 or warp.waited or not machine.memory.is_late(start), TOUCHED)
            data = np.zeros(size, dtype=np.uint8)
            if count:
                array, offset = machine.memory.window(start, count)
                data[:count] = array[offset : offset + count]
            block.shared[where] = POISON
            moves.append((where, data))

        def finish() -> None:
            for where, data in moves:
                block.shared[where] = data
                warp.wrote(where)
            warp.copies.remove(finish)

        warp.copies.append(finish)
        machine.copies.append(finish)

    return act


def copies_arrive(opcode: str, operands: list[str]) -> Act:
    """cp.async.mbarrier.arrive.noinc: each lane arrives once all its copies so far are done."""
    where = address(operands[0], "u4")

    def act(warp: Warp, mask: np.ndarray) -> None:
        machine, barrier = warp.machine, warp.block.barrier(one(where(warp), mask))
        before, count = list(warp.copies), int(mask.sum())

        def finish() -> None:
            for copy in [copy for copy in before if copy in warp.copies]:
                machine.copies.remove(copy)
                copy()
            barrier.arrive(count)

        machine.copies.append(finish)

    return act


def store_async(opcode: str, operands: list[str]) -> Act:
    """st.async: words of each lane to shared memory of the cluster, whose barrier there counts their bytes."""
    target, barrier = address(operands[0], "u4"), address(operands[2], "u4")
    reads = [reader(name, "u4") for name in names(operands[1])]

    def act(warp: Warp, mask: np.ndarray) -> None:
        machine, values = warp.machine, np.stack([read(warp) for read in reads], 1)
        for lane in np.flatnonzero(mask):
            block, to = machine.target(warp.block, int(target(warp)[lane]))
            there, bar = machine.target(warp.block, int(barrier(warp)[lane]))
            require(block is there, "st.async with data and barrier in two blocks")
            data = values[lane].copy().view("u1")

            def deliver(where: slice, block: Block = block, data: np.ndarray = data) -> None:
                block.shared[where] = data

            machine.copy(block, to, bar, data.size, deliver)

    return act


def tensor_copy(opcode: str, operands: list[str]) -> Act:
    target, barrier = address(operands[0], "u4"), address(operands[2], "u4")
    map_name, _, coordinates = operands[1].strip("[]").partition(",")
    which, places = reader(map_name, "u8"), [reader(name, "i4") for name in names(coordinates.strip())]
    everyone = reader(operands[3], "u2") if "multicast" in opcode else None

    def act(warp: Warp, mask: np.ndarray) -> None:
        machine = warp.machine
        tensor = list(machine.parameters.values())[one(which(warp), mask)]
        require(isinstance(tensor, TensorMap), "a tensor copy without a descriptor")
        require(warp.waited or not tensor.late, TOUCHED)
        box = tensor.box([one(place(warp), mask) for place in places]).copy().ravel()
        to, bar = one(target(warp), mask), one(barrier(warp), mask)
        require(to % 1024 == 0, "a swizzled box must start at a multiple of 1024 bytes")
        mask_of_blocks = one(everyone(warp), mask) if everyone else 1 << warp.block.rank
        for block in machine.blocks:
            if mask_of_blocks >> block.rank & 1:
                machine.copy(block, to, bar, box.size, deliver_box(block, to, box))

    return act


def deliver_box(block: Block, to: int, box: np.ndarray) -> Callable[[slice], None]:
    def deliver(where: slice) -> None:
        block.shared[swizzled(to + np.arange(box.size)) - SHARED_BASE] = box

    return deliver


COPIES: dict[str, Callable[[str, list[str]], Act]] = {
    "cp.async.bulk.shared::cluster.global": bulk_copy,
    "cp.async.cg": copy_async,
    "cp.async.ca": copy_async,
    "cp.async.mbarrier.arrive.noinc": copies_arrive,
    "cp.async.bulk.tensor": tensor_copy,
    "st.async": store_async,
}
