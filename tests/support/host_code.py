"""What the host code of a compiled CuTeDSL function puts into its tensor maps, without a GPU.

Entry point: `tensor_maps`. CuTeDSL encodes the 128 bytes of a map by arithmetic in its host code, which is read here as
it was compiled (LLVM dialect of MLIR) and calculated up to the first branch, where all maps are ready. An instruction
that is not known is an error where a map depends on it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MASK = (1 << 64) - 1
WORDS = 16  # of 8 bytes: a tensor map
BINARY: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "udiv": lambda a, b: a // b,
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "shl": lambda a, b: a << b,
    "lshr": lambda a, b: a >> b,
}
COMPARE: dict[str, Callable[[int, int], bool]] = {"uge": lambda a, b: a >= b, "eq": lambda a, b: a == b}


def tensor_maps(module: str, arguments: list[tuple[int, tuple[int, ...]]]) -> list[bytes]:
    """The maps that one call makes, in the order in which they are made.

    Args:
        module: text of the compiled module, whose function `cutlass___call__...` launches one kernel.
        arguments: of each tensor argument its address and its sizes, outermost first; all row-major and compact.
    """
    (body,) = re.findall(r"llvm\.func @cutlass___call__[^\n]*\{\n(.*?)\n *llvm\.br ", module, re.DOTALL)
    values: dict[str, Any] = {f"%arg{number}": _tensor(*one) for number, one in enumerate(arguments)}
    maps: dict[str, list[int]] = {}
    places: dict[str, tuple[str, int]] = {}
    for line in body.splitlines():
        if found := re.match(r" *(%\d+) = llvm\.alloca %\d+ x i64 .*alignment = 64", line):
            maps[found[1]] = [0] * WORDS
        elif found := re.match(r" *(%\d+) = llvm\.getelementptr (%\d+)\[0, (\d+)\].*array<16 x i64>", line):
            places[found[1]] = found[2], int(found[3])
        elif found := re.match(r" *llvm\.store (%\w+), (%\d+) : i64,", line):
            if found[2] in places:
                which, word = places[found[2]]
                maps[which][word] = values[found[1]] & MASK
        elif found := re.match(r" *(%\d+) = (.*)", line):
            values[found[1]] = _value(found[2], values)
    return [b"".join(word.to_bytes(8, "little") for word in made) for made in maps.values()]


def _tensor(address: int, sizes: tuple[int, ...]) -> Any:
    """A tensor argument as the compiled code holds it: pointer, ((sizes), strides but the innermost)."""
    strides: list[int] = []
    for size in reversed(sizes[1:]):
        strides.insert(0, size * (strides[0] if strides else 1))
    return address, (sizes, tuple(strides) if len(strides) > 1 else (strides or [()])[0])


def _value(text: str, values: dict[str, Any]) -> Any:
    """The result of an instruction; None of one that is not modelled."""
    if found := re.match(r"llvm\.mlir\.constant\((-?\d+|true|false)\b", text):
        return {"true": 1, "false": 0}.get(found[1]) if found[1] in ("true", "false") else int(found[1])
    if found := re.match(r"llvm\.extractvalue (%\w+)\[([\d, ]+)\]", text):
        value = values.get(found[1])
        for step in map(int, found[2].split(",")):
            value = None if value is None else value[step]
        return value
    if found := re.match(r"llvm\.(?:sext|zext|ptrtoint) (%\w+)", text):
        return values.get(found[1])
    if (found := re.match(r"llvm\.(\w+) (%\w+), (%\w+) : i\d+$", text.strip())) and found[1] in BINARY:
        return BINARY[found[1]](values[found[2]], values[found[3]]) & MASK
    if found := re.match(r'llvm\.icmp "(\w+)" (%\w+), (%\w+)', text):
        return int(COMPARE[found[1]](values[found[2]], values[found[3]]))
    return None


def shared_bytes_of(module: str) -> int:
    """Dynamic shared memory of the one launch of a module."""
    ((place, _),) = re.findall(
        r"(%\d+) = llvm\.getelementptr (%\d+)\[0, 2\] .*array<3 x i32>, array<3 x i32>, i64", module
    )
    (value,) = re.findall(rf"llvm\.store (%\d+), {place} : i64", module)
    (number,) = re.findall(
        rf"{value} = llvm\.mlir\.constant\((\d+) : i64\)", module.split("@cutlass___call__", 1)[1].split("llvm.func")[0]
    )
    return int(number)


# --- the grouped GEMMs ------------------------------------------------------------------------------------------------

EXPERTS, ROWS, N, K = 32, 1024, 4096, 7168
TOKENS, WEIGHTS = 0x7F00_0000_0000, 0x7F20_0000_0000  # where the operands are said to lie


def arguments(form: Any) -> list[tuple[int, tuple[int, ...]]]:
    """Tensor arguments of a grouped GEMM at the full width."""
    return [
        (TOKENS, (ROWS, K)),
        (0x7F10_0000_0000, (K // 128, ROWS)),
        (WEIGHTS, (EXPERTS, N, K)),
        (0x7F30_0000_0000, (EXPERTS, N // 128, K // 128)),
        (0x7F40_0000_0000, (ROWS, N)),
        (0x7F50_0000_0000, (N // 128 if form.fp8_out else 1, ROWS)),
        (0x7F60_0000_0000, (EXPERTS + 1,)),
        (0x7F70_0000_0000, (EXPERTS,)),
    ]


@dataclass(frozen=True)
class Map:
    """A tensor map of bytes: address, sizes and the box from the innermost dimension on, strides but the innermost."""

    address: int
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    box: tuple[int, ...]


def expected_maps(form: Any) -> list[Map]:
    """X and Y, and both again in the parts that the blocks of a cluster load for each other."""
    tokens = TOKENS, (K, ROWS), (K,)
    weights = WEIGHTS, (K, N, EXPERTS), (K, N * K)
    x, y = (weights, tokens) if form.swapped else (tokens, weights)
    return [
        Map(*operand, (128, rows // part, *(1,) * (len(operand[1]) - 2)))
        for part in (1, form.cluster)
        for operand, rows in ((x, 128), (y, form.tile_y))
    ]


def decoded(data: bytes) -> Map:
    """A map's fields as Hopper has them: address, strides / 16, sizes - 1, box - 1."""
    word = functools.partial(int.from_bytes, byteorder="little")
    rank = (data[8] >> 4) + 1
    strides = tuple(word(data[12 + 4 * i : 16 + 4 * i]) << 4 for i in range(rank - 1))
    sizes = tuple(word(data[32 + 4 * i : 36 + 4 * i]) + 1 for i in range(rank))
    return Map(word(data[:8]), sizes, strides, tuple(data[55 + i] + 1 for i in range(rank)))
