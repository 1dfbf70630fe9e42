"""Memory, barriers and the end of a warp: what these PTX instructions do on the machine in `ptx_machine`."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
from ptx.ptx_arithmetic import TYPES, Act, address, names, one, reader, width, write
from ptx.ptx_machine import CLUSTER_SHIFT, SHARED_BASE, Arrival, Barrier, Block, Warp, require

HINTS = (
    *("setmaxnreg", "prefetch", "fence.mbarrier_init", "bar.warp", "tcgen05.relinquish", "fence.acq_rel"),
    "griddepcontrol.launch_dependents",
)
TOUCHED = "global memory is touched while the kernel before may still use it"

# --- memory -----------------------------------------------------------------------------------------------------------


def load_parameter(opcode: str, operands: list[str]) -> Act:
    kind = TYPES[opcode.rsplit(".", 1)[1]]
    targets = names(operands[0])
    name, _, offset = operands[1].strip("[]").partition("+")

    def act(warp: Warp, mask: np.ndarray) -> None:
        start, size = int(offset or 0), int(kind[1])
        data = warp.machine.parameters[name][start : start + size * len(targets)].view(kind)
        for target, value in zip(targets, data, strict=True):
            write(warp, target, np.full(32, value).astype(width(target)), mask)

    return act


def words(opcode: str) -> int:
    found = re.search(r"\.v(\d)\.", opcode)
    return int(found[1]) if found else 1


def shared_view(block: Block, addresses: np.ndarray, count: int) -> np.ndarray:
    """Places of `count` words from each address on, in the block's shared memory seen as words."""
    for extreme in (addresses.min(), addresses.max()):
        block.at(int(extreme), 4 * count)
    require(bool((addresses % (4 * count) == 0).all()), f"a shared address is not aligned to {4 * count} bytes")
    return ((addresses.astype(np.int64) - SHARED_BASE) // 4)[:, None] + np.arange(count)


def move_shared(opcode: str, operands: list[str]) -> Act:
    count, is_load = words(opcode), opcode.startswith("ld")
    where = address(operands[1 if is_load else 0], "u4")
    registers = names(operands[0 if is_load else 1])
    reads = [] if is_load else [reader(name, "u4") for name in registers]

    def load(warp: Warp, mask: np.ndarray) -> None:
        found = np.zeros((32, count), dtype="u4")
        found[mask] = warp.block.shared.view("u4")[shared_view(warp.block, where(warp)[mask], count)]
        for i, name in enumerate(registers):
            write(warp, name, found[:, i].copy(), mask)

    def store(warp: Warp, mask: np.ndarray) -> None:
        places = shared_view(warp.block, where(warp)[mask], count)
        warp.block.shared.view("u4")[places] = np.stack([read(warp)[mask] for read in reads], 1)
        for word in np.unique(places):
            warp.wrote(slice(4 * int(word), 4 * int(word) + 4))

    return load if is_load else store


def move_global(opcode: str, operands: list[str]) -> Act:
    count, is_load = words(opcode), opcode.startswith("ld")
    where = address(operands[1 if is_load else 0], "u8")
    registers = names(operands[0 if is_load else 1])
    reads = [] if is_load else [reader(name, "u4") for name in registers]

    def act(warp: Warp, mask: np.ndarray) -> None:
        values = np.zeros((32, count), dtype="u4") if is_load else np.stack([read(warp) for read in reads], 1)
        for lane in np.flatnonzero(mask):
            place = int(where(warp)[lane])
            require(warp.block.waited or not warp.machine.memory.is_late(place), TOUCHED)
            array, offset = warp.machine.memory.window(place, 4 * count)
            data = array[offset : offset + 4 * count].view("u4")
            if is_load:
                values[lane] = data
            else:
                data[:] = values[lane]
        if is_load:
            for i, name in enumerate(registers):
                write(warp, name, values[:, i].copy(), mask)

    return act


def count_up(opcode: str, operands: list[str]) -> Act:
    """atom.add: lane by lane, in an order that nobody may count on."""
    where, amount = address(operands[1], "u8"), reader(operands[2], "u4")

    def act(warp: Warp, mask: np.ndarray) -> None:
        found = np.zeros(32, dtype="u4")
        lanes = list(np.flatnonzero(mask))
        warp.machine.random.shuffle(lanes)
        for lane in lanes:
            place = int(where(warp)[lane])
            require(warp.block.waited or not warp.machine.memory.is_late(place), TOUCHED)
            array, offset = warp.machine.memory.window(place, 4)
            data = array[offset : offset + 4].view("u4")
            found[lane] = data[0]
            data[0] += amount(warp)[lane]
        write(warp, operands[0], found, mask)

    return act


def proxy_fence(opcode: str, operands: list[str]) -> Act:
    def act(warp: Warp, mask: np.ndarray) -> None:
        warp.fenced = warp.machine.writes

    return act


# --- barriers ---------------------------------------------------------------------------------------------------------


def block_barrier(opcode: str, operands: list[str]) -> Act:
    name = int(operands[0])

    def act(warp: Warp, mask: np.ndarray) -> None:
        require(bool(mask.all()), "a block barrier without all lanes")
        warp.signal()
        warp.sees_tmem = False
        threads = int(operands[1]) if len(operands) > 1 else warp.machine.program.threads
        here = warp.block.waiting.setdefault(name, set())
        here.add(warp)
        if 32 * len(here) == threads:
            warp.block.waiting[name] = set()
        else:
            warp.blocked = lambda: warp not in warp.block.waiting[name]

    return act


def cluster_barrier(opcode: str, operands: list[str]) -> Act:
    def arrive(warp: Warp, mask: np.ndarray) -> None:
        require(bool(mask.all()), "a cluster barrier without all lanes")
        warp.signal()
        if "relaxed" not in opcode:  # with release, what the warp has signalled is there before
            for arrival in [e for e in warp.machine.copies if isinstance(e, Arrival) and e.warp is warp]:
                warp.machine.copies.remove(arrival)
                arrival()
        warp.at_cluster += 1

    def wait(warp: Warp, mask: np.ndarray) -> None:
        turn = warp.at_cluster
        warp.blocked = lambda: all(other.at_cluster >= turn for other in warp.machine.warps)

    return arrive if "arrive" in opcode else wait


def wait_barrier(opcode: str, operands: list[str]) -> Act:
    where, parity = address(operands[0], "u4"), reader(operands[1], "u4")

    def act(warp: Warp, mask: np.ndarray) -> None:
        barrier, wanted = warp.block.barrier(one(where(warp), mask)), one(parity(warp), mask)
        require(wanted in (0, 1), f"parity {wanted}")
        warp.sees_tmem = False
        warp.blocked = lambda: barrier.phase % 2 != wanted

    return act


def init_barrier(opcode: str, operands: list[str]) -> Act:
    where, count = address(operands[0], "u4"), reader(operands[1], "u4")

    def act(warp: Warp, mask: np.ndarray) -> None:
        place = one(where(warp), mask)
        warp.block.at(place, 8)
        require(place not in warp.block.barriers, f"two barriers at shared address {place}")
        warp.block.barriers[place] = Barrier(one(count(warp), mask))
        warp.new_barriers = True

    return act


def arrive_barrier(opcode: str, operands: list[str]) -> Act:
    where, amount = address(operands[1], "u4"), reader(operands[2], "u4")

    def act(warp: Warp, mask: np.ndarray) -> None:
        warp.signal()
        for lane in np.flatnonzero(mask):
            block, place = warp.machine.target(warp.block, int(where(warp)[lane]))
            require(block.done_warps < warp.machine.program.threads // 32, "a signal to a block that has left")
            value = int(amount(warp)[lane])
            if block is not warp.block:
                warp.machine.late_arrival(warp, block, place, value)
                continue
            block.barrier(place).arrive(**({"announce": value} if "expect_tx" in opcode else {"count": value}))

    return act


def map_shared(opcode: str, operands: list[str]) -> Act:
    where, rank = reader(operands[1], "u4"), reader(operands[2], "u4")
    return lambda warp, mask: write(
        warp, operands[0], where(warp) | (rank(warp) + np.uint32(1)) << np.uint32(CLUSTER_SHIFT), mask
    )


def hint(opcode: str, operands: list[str]) -> Act:
    """Register shares, prefetches, and orders that the machine keeps anyway."""

    def act(warp: Warp, mask: np.ndarray) -> None:
        if opcode.startswith("fence.mbarrier_init"):
            warp.new_barriers = False

    return act


def leave(opcode: str, operands: list[str]) -> Act:
    def act(warp: Warp, mask: np.ndarray) -> None:
        require(all(not group for group in warp.products), "a warp leaves with products under way")
        require(not warp.copies, "a warp leaves with copies under way")
        warp.groups.pop(0)

    return act


def wait_for_kernel(opcode: str, operands: list[str]) -> Act:
    """The end of the kernel before this one in the stream: for this warp's copies, and for all that its block does
    then."""

    def act(warp: Warp, mask: np.ndarray) -> None:
        warp.waited = warp.block.waited = True

    return act


MEMORY: dict[str, Callable[[str, list[str]], Act]] = {
    **dict.fromkeys(HINTS, hint),
    "ld.param": load_parameter,
    **dict.fromkeys(("ld.shared", "st.shared"), move_shared),
    **dict.fromkeys(("ld.global", "st.global", "ld.relaxed.gpu.global"), move_global),
    **dict.fromkeys(("atom.relaxed.gpu.global.add", "atom.acq_rel.gpu.global.add"), count_up),
    "fence.proxy.async": proxy_fence,
    "bar.sync": block_barrier,
    "barrier.cluster": cluster_barrier,
    "mbarrier.wait": wait_barrier,
    "mbarrier.init": init_barrier,
    "mbarrier.arrive": arrive_barrier,
    "mapa": map_shared,
    "griddepcontrol.wait": wait_for_kernel,
    "ret": leave,
}
