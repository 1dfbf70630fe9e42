"""Registers, arithmetic and lanes: what these PTX instructions do to a warp of the machine in `ptx_machine`.

`ARITHMETIC` maps the start of an opcode to a function of (opcode, operands) that returns what it does to the lanes of a
mask. Registers are 32 lanes of raw bits. Memory and barriers stand in `ptx_memory`, asynchronous units in `ptx_units`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from ptx.ptx_machine import POISON, SHARED_BASE, Warp, require

Read = Callable[[Warp], np.ndarray]
Act = Callable[[Warp, np.ndarray], None]
TYPES = {
    **{
        f"{letter}{bits}": f"{kind}{bits // 8}"
        for letter, kind in zip("sub", "iuu", strict=True)
        for bits in (16, 32, 64)
    },
    **{"f32": "f4", "pred": "?", "b8": "u1"},
}


# --- registers --------------------------------------------------------------------------------------------------------


@functools.cache
def width(name: str) -> str:
    """Raw type of a register by its name."""
    for prefix, kind in (("%rd", "u8"), ("%rs", "u2"), ("%r", "u4"), ("%p", "?")):
        if name.startswith(prefix):
            return kind
    return {"lo": "u2", "hi": "u2", "p": "?"}[name]


SPECIAL: dict[str, Callable[[Warp], Any]] = {
    "%tid.x": lambda warp: warp.thread,
    "%laneid": lambda warp: np.arange(32),
    "%ctaid.x": lambda warp: np.full(32, warp.block.index),
    "%nctaid.x": lambda warp: np.full(32, warp.machine.grid),
    "%cluster_ctarank": lambda warp: np.full(32, warp.block.rank),
    "__dynamic_shmem__0": lambda warp: np.full(32, SHARED_BASE),
}


def reader(token: str, kind: str) -> Read:
    """Reads an operand as `kind`, a letter and the bytes of a NumPy type."""
    raw = kind if kind == "?" else f"u{kind[1]}"
    if token in SPECIAL:
        return lambda warp: SPECIAL[token](warp).astype(raw).view(kind)
    if token.startswith("%") or token in ("lo", "hi", "p"):
        unset = np.full(32, True) if kind == "?" else np.full(32 * int(kind[1]), POISON, dtype="u1").view(raw)
        return lambda warp: warp.registers.get(token, unset).astype(raw, copy=False).view(kind)
    if "_param_" in token:
        return lambda warp: np.full(32, list(warp.machine.parameters).index(token), dtype=raw)
    number = int(token[2:], 16) if token.startswith("0f") else int(token, 0)
    constant = np.full(32, bool(number)) if kind == "?" else np.full(32, number % 2 ** (8 * int(kind[1])), dtype=raw)
    return lambda warp: constant.view(kind)


def write(warp: Warp, name: str, value: np.ndarray, mask: np.ndarray) -> None:
    if name == "_":
        return
    kind = width(name)
    raw = value if kind == "?" else value.view(f"u{value.dtype.itemsize}").astype(kind, copy=False)
    old = warp.registers.get(name)
    warp.registers[name] = raw if mask.all() or old is None else np.where(mask, raw, old)


def one(values: np.ndarray, mask: np.ndarray) -> int:
    """The value that all lanes of the mask agree on."""
    chosen = values[mask]
    require(bool((chosen == chosen[0]).all()), "lanes disagree where one value is needed")
    return int(chosen[0])


def names(token: str) -> list[str]:
    return [part.strip() for part in token.strip("{}").split(",")]


def address(token: str, kind: str) -> Read:
    """Reads an address operand [register + offset]."""
    found = re.fullmatch(r"\[\s*([^+\s]+?)\s*(?:\+\s*(-?\d+))?\s*\]", token)
    assert found, token
    base, offset = reader(found[1], kind), int(found[2] or 0) % 2 ** (8 * int(kind[1]))
    return lambda warp: base(warp) + np.asarray(offset, dtype=kind)


def type_of(opcode: str) -> str:
    return TYPES[opcode.rsplit(".", 1)[1]]


# --- arithmetic -------------------------------------------------------------------------------------------------------


def wide(a: np.ndarray) -> np.ndarray:
    return a.astype(np.float64) if a.dtype.kind == "f" else a


def quotient(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Rounded toward zero; what a lane without a divisor computes does not matter."""
    divisor = np.where(b == 0, 1, b)
    return (np.abs(a) // np.abs(divisor) * np.sign(a) * np.sign(divisor)).astype(a.dtype)


def flushed(a: np.ndarray) -> np.ndarray:
    """What is too small for a normal float32 is zero."""
    return np.where(np.abs(a) < np.finfo("f4").tiny, 0 * a, a)


SIMPLE: dict[str, Callable[..., np.ndarray]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "mul.lo": lambda a, b: a * b,
    "mul.hi": lambda a, b: np.array([int(x) * int(y) >> 8 * a.itemsize for x, y in zip(a, b, strict=True)], a.dtype),
    "mad.lo": lambda a, b, c: a * b + c,
    "fma.rn": lambda a, b, c: (wide(a) * wide(b) + wide(c)).astype(a.dtype),
    "div": quotient,
    "min": np.minimum,
    "max": np.fmax,
    "abs": np.abs,
    "neg": np.negative,
    "div.rn": lambda a, b: (wide(a) / wide(b)).astype(a.dtype),
    "rem": lambda a, b: (a - quotient(a, b) * b).astype(a.dtype),
    "rcp.approx.ftz": lambda a: flushed(1.0 / wide(a)).astype(a.dtype),
    "ex2.approx.ftz": lambda a: flushed(np.exp2(wide(a))).astype(a.dtype),
    "rcp.rn": lambda a: (1.0 / wide(a)).astype(a.dtype),
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
    "not": lambda a: ~a,
    "mov": lambda a: a,
    "popc": lambda a: np.array([int(x).bit_count() for x in a], a.dtype),
    "prmt": lambda a, b, s: permute_bytes(a, b, s),
}
COMPARE = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}


def permute_bytes(a: np.ndarray, b: np.ndarray, selector: np.ndarray) -> np.ndarray:
    data = np.stack([a, b], 1).view(np.uint8)
    picks = (selector[:, None] >> np.arange(0, 16, 4, dtype=np.uint32)) & 7
    return np.take_along_axis(data, picks.astype(np.int64), 1).copy().view(np.uint32)[:, 0]


def simple(opcode: str, operands: list[str]) -> Act:
    """d = f(a, b, ...), all of one type."""
    if operands[0].startswith("{") or operands[-1].startswith("{"):
        return repack(opcode, operands)
    function, kind = SIMPLE[opcode.rsplit(".", 1)[0]], type_of(opcode)
    reads = [reader(token, kind) for token in operands[1:]]
    return lambda warp, mask: write(warp, operands[0], function(*(read(warp) for read in reads)), mask)


def repack(opcode: str, operands: list[str]) -> Act:
    """mov between one wide register and several narrow ones, the lowest first."""
    kind, (target, source) = type_of(opcode), operands
    parts = names(target if target.startswith("{") else source)
    piece = f"u{int(kind[1]) // len(parts)}"
    if target.startswith("{"):
        whole = reader(source, kind)

        def split(warp: Warp, mask: np.ndarray) -> None:
            values = np.ascontiguousarray(whole(warp)).view(piece).reshape(32, -1)
            for i, name in enumerate(parts):
                write(warp, name, values[:, i].copy(), mask)

        return split
    reads = [reader(name, piece) for name in parts]
    return lambda warp, mask: write(
        warp, target, np.stack([read(warp) for read in reads], 1).copy().view(kind)[:, 0], mask
    )


def two_at_once(opcode: str, operands: list[str]) -> Act:
    """fma.rn.f32x2."""
    reads = [reader(token, "u8") for token in operands[1:]]

    def act(warp: Warp, mask: np.ndarray) -> None:
        a, b, c = (wide(np.ascontiguousarray(read(warp)).view("f4")) for read in reads)
        write(warp, operands[0], (a * b + c).astype("f4").view("u8"), mask)

    return act


def shift(opcode: str, operands: list[str]) -> Act:
    """The amount is 32-bit whatever is shifted; all amounts here are below the width."""
    kind = type_of(opcode)
    value, amount, left = reader(operands[1], kind), reader(operands[2], "u4"), opcode.startswith("shl")

    def act(warp: Warp, mask: np.ndarray) -> None:
        v, by = value(warp), amount(warp)
        by = by.astype(v.dtype)
        write(warp, operands[0], v << by if left else v >> by, mask)

    return act


def product_wide(opcode: str, operands: list[str]) -> Act:
    """mul.wide: twice as wide as its factors."""
    kind = type_of(opcode)
    a, b = (reader(token, kind) for token in operands[1:])
    result = f"{kind[0]}{2 * int(kind[1])}"
    return lambda warp, mask: write(warp, operands[0], a(warp).astype(result) * b(warp).astype(result), mask)


def compare(opcode: str, operands: list[str]) -> Act:
    function, kind = COMPARE[opcode.split(".")[1]], type_of(opcode)
    a, b = (reader(token, kind) for token in operands[1:])
    return lambda warp, mask: write(warp, operands[0], function(a(warp), b(warp)), mask)


def choose(opcode: str, operands: list[str]) -> Act:
    a, b = (reader(token, type_of(opcode)) for token in operands[1:3])
    condition = reader(operands[3], "?")
    return lambda warp, mask: write(warp, operands[0], np.where(condition(warp), a(warp), b(warp)), mask)


def convert(opcode: str, operands: list[str]) -> Act:
    if "bf16x2" in opcode or "e4m3x2" in opcode:
        to, raw = (torch.bfloat16, torch.uint16) if "bf16x2" in opcode else (torch.float8_e4m3fn, torch.uint8)
        high, low = (reader(token, "f4") for token in operands[1:])

        def round_pair(warp: Warp, mask: np.ndarray) -> None:
            pair = torch.from_numpy(np.stack([low(warp), high(warp)], 1).astype("f4"))
            pair = pair.clamp(-448, 448) if to is torch.float8_e4m3fn else pair
            write(warp, operands[0], pair.to(to).view(raw).numpy().copy().view(width(operands[0]))[:, 0], mask)

        return round_pair
    _, target, source = opcode.split(".")
    if "s8" in (target, source):  # an 8-bit value in a wider register, with its sign
        whole = reader(operands[1], "u2" if operands[1].startswith("%rs") else "u4")
        kind = "i2" if operands[0].startswith("%rs") else "i4"
        return lambda warp, mask: write(warp, operands[0], whole(warp).astype("i1").astype(kind), mask)
    read = reader(operands[1], TYPES[source])
    return lambda warp, mask: write(warp, operands[0], read(warp).astype(TYPES[target]), mask)


def same_address(opcode: str, operands: list[str]) -> Act:
    """cvta: one address space for all; a shared address without a rank is one's own block's."""
    read = reader(operands[1], "u8")
    return lambda warp, mask: write(warp, operands[0], read(warp), mask)


# --- lanes of a warp --------------------------------------------------------------------------------------------------


def shuffle(opcode: str, operands: list[str]) -> Act:
    value, by, mode = reader(operands[1], "u4"), reader(operands[2], "u4"), opcode.split(".")[2]
    lane = np.arange(32)

    def act(warp: Warp, mask: np.ndarray) -> None:
        require(bool(mask.all()), "a shuffle without all lanes")
        step = by(warp).astype(np.int64)
        source = {"idx": step % 32, "bfly": lane ^ step, "up": np.where(lane >= step, lane - step, lane)}[mode]
        write(warp, operands[0], value(warp)[source], mask)

    return act


def reduce_lanes(opcode: str, operands: list[str]) -> Act:
    """redux.sync: the same value in every lane."""
    function = {"max": np.maximum, "or": np.bitwise_or}[opcode.split(".")[2]]
    read = reader(operands[1], "i4" if opcode.endswith("s32") else "u4")

    def act(warp: Warp, mask: np.ndarray) -> None:
        require(bool(mask.all()), "a reduction without all lanes")
        write(warp, operands[0], np.full(32, function.reduce(read(warp))), mask)

    return act


def ballot(opcode: str, operands: list[str]) -> Act:
    condition = reader(operands[1], "?")

    def act(warp: Warp, mask: np.ndarray) -> None:
        require(bool(mask.all()), "a vote without all lanes")
        bits = int((condition(warp).astype(np.uint64) << np.arange(32, dtype=np.uint64)).sum())
        write(warp, operands[0], np.full(32, bits, dtype="u4"), mask)

    return act


def elect(opcode: str, operands: list[str]) -> Act:
    _, predicate = operands[0].split("|")

    def act(warp: Warp, mask: np.ndarray) -> None:
        require(bool(mask.all()), "an election without all lanes")
        write(warp, predicate, np.arange(32) == 0, mask)

    return act


ARITHMETIC: dict[str, Callable[[str, list[str]], Act]] = {
    "setp": compare,
    "selp": choose,
    "shl": shift,
    "shr": shift,
    "fma.rn.f32x2": two_at_once,
    "mul.wide": product_wide,
    "cvt.": convert,
    "cvta": same_address,
    "shfl": shuffle,
    "redux": reduce_lanes,
    "vote": ballot,
    "elect": elect,
    **{f"{name}.": simple for name in sorted(SIMPLE, key=len, reverse=True)},
}
