"""Triton kernels around grouped GEMMs that read rows through an index and write a row for each pair; their launches.

A pair is token * 8 + slot, as in plan.code (T, 8); its row in the matrices of 8 T rows is its number, so no row moves.
Entry points, each enqueues one kernel on the current stream after `triton_stages.route` with align=1:

  index(call, plan, tile, ...)       # pairs by expert, each group padded to whole tiles, and scales row by row
  swiglu(plan, ...)                  # h (8 T, 2I) bf16 -> c (8 T, I) e4m3 and scales, of the pairs that exist
  combine(plan, rows, output)        # rows (8 T, H) bf16 -> output (T, H) bf16
  flatten(plan, weights, ...)        # weights in the order in which a kernel without a swizzle reads them

The number of rows of a tile is an argument of `index`, so that one compilation serves all tiles.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch
import triton
import triton.language as tl

from .checks import BLOCK as COLUMNS_OF_A_SCALE
from .checks import LOCAL_EXPERTS, TOP_K, MoeCall
from .triton_kernels import BLOCK, LOCAL, RANK_BITS, RANK_MASK, SLOTS, _quantize
from .triton_launch import compile_kernel, launch
from .triton_stages import Plan, _row_programs

COMBINE_CHUNK = 1024  # columns of a combining program
FILL = tl.constexpr(256)  # entries that a program fills at a time
FLAT_COLUMNS = tl.constexpr(16)  # groups of 16 bytes in a flattening program's tile: 256 bytes of 128 rows


@triton.jit
def _tile_starts(m_count, tile):
    """Returns per expert its rows padded to whole tiles and the end of its padded group."""
    count = tl.load(m_count + tl.arange(0, LOCAL))
    padded = (count + tile - 1) // tile * tile
    return padded, tl.cumsum(padded, axis=0)


@triton.jit(do_not_specialize=["tokens", "tile"])
def index_pairs(
    code,
    m_count,
    x_scale,
    ids,
    experts,
    padded_rows,
    row_scale,
    tokens,
    tile,
    BLOCKS: tl.constexpr,
    BLOCKS_BLOCK: tl.constexpr,
):
    """One program for each token, then one for each expert.

    ids: the pair of each row of the padded groups, 8 T in the padding; experts: one for each tile; padded_rows (1,):
    their end; row_scale (T, H/128) f32: the scales of x_scale (H/128, T), of the tokens that have pairs.
    """
    program = tl.program_id(0)
    padded, end = _tile_starts(m_count, tile)
    lane = tl.arange(0, LOCAL)
    if program < tokens:
        slot = tl.arange(0, SLOTS)
        pair = tl.load(code + program.to(tl.int64) * SLOTS + slot)
        local = pair >= 0
        if tl.max(pair, axis=0) >= 0:
            is_mine = (pair >> RANK_BITS)[:, None] == lane[None, :]
            start = tl.sum(tl.where(is_mine, (end - padded)[None, :], 0), axis=1)
            tl.store(ids + start + (pair & RANK_MASK), program * SLOTS + slot, mask=local)
            block = tl.arange(0, BLOCKS_BLOCK)
            scale = tl.load(x_scale + block.to(tl.int64) * tokens + program, mask=block < BLOCKS)
            tl.store(row_scale + program.to(tl.int64) * BLOCKS + block, scale, mask=block < BLOCKS)
    else:
        mine = lane == program - tokens
        last = tl.sum(tl.where(mine, end, 0), axis=0)
        first = last - tl.sum(tl.where(mine, padded, 0), axis=0)
        entry = tl.arange(0, FILL)
        for row in range(first + tl.load(m_count + program - tokens), last, FILL):
            tl.store(ids + row + entry, tl.zeros_like(entry) + tokens * SLOTS, mask=row + entry < last)
        for at in range(first // tile, last // tile, FILL):
            tl.store(experts + at + entry, tl.zeros_like(entry) + (program - tokens), mask=at + entry < last // tile)
        if program == tokens + LOCAL - 1:
            tl.store(padded_rows, last)


@triton.jit(do_not_specialize=["pairs"])
def swiglu_pairs(h, out, out_scale, ids, padded_rows, pairs, BLOCKS: tl.constexpr, BLOCKS_BLOCK: tl.constexpr):
    """silu(gate) * up of the pairs in ids, quantized.

    h: (pairs, 2I) bf16, the gate is the second half; out: (pairs, I) e4m3; out_scale: (pairs, I/128) f32;
    I = 128 * BLOCKS.
    """
    block = tl.arange(0, BLOCKS_BLOCK)
    column = block[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]
    inside = block[:, None] < BLOCKS
    for row in range(tl.program_id(0), tl.load(padded_rows), tl.num_programs(0)):
        pair = tl.load(ids + row).to(tl.int64)
        if pair < pairs:
            at = pair * (2 * BLOCKS * BLOCK) + column
            up = tl.load(h + at, mask=inside, other=0.0, eviction_policy="evict_first").to(tl.float32)
            gate_at = at + BLOCKS * BLOCK
            gate = tl.load(h + gate_at, mask=inside, other=0.0, eviction_policy="evict_first").to(tl.float32)
            data, scale = _quantize(gate / (1.0 + tl.exp(-gate)) * up)
            tl.store(out + pair * (BLOCKS * BLOCK) + column, data, mask=inside)
            tl.store(out_scale + pair * BLOCKS + block, scale, mask=block < BLOCKS)


@triton.jit
def combine_pairs(rows, code, weight, output, COLUMNS: tl.constexpr, CHUNK: tl.constexpr):
    """output (T, H = COLUMNS) bf16 = sum in f32, in the order of the codes, of weight * rows (8 T, H) bf16.

    Tokens without pairs are left alone: the routing has written their rows.
    """
    token = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * CHUNK + tl.arange(0, CHUNK)
    inside = column < COLUMNS
    if tl.load(code + token * SLOTS) >= 0:
        total = tl.zeros((CHUNK,), tl.float32)
        for slot in tl.static_range(SLOTS):
            pair = token * SLOTS + slot
            exists = tl.load(code + pair) >= 0
            y = tl.load(rows + pair * COLUMNS + column, mask=inside & exists, other=0.0, eviction_policy="evict_first")
            total += tl.load(weight + pair, mask=exists, other=0.0) * y.to(tl.float32)
        tl.store(output + token * COLUMNS + column, total.to(tl.bfloat16), mask=inside)


@triton.jit
def flatten_weights(w, w_scale, m_count, flat, flat_scale, N: tl.constexpr, K: tl.constexpr):
    """Weights of the experts that have rows, (N, K) bytes -> (K/16, N, 16); scales (N/128, K/128) -> (K/128, N/128).

    w and flat: seen as int32, K/4 of them in a row. One program for 128 rows and 16 * FLAT_COLUMNS bytes of K.
    """
    expert = tl.program_id(2)
    if tl.load(m_count + expert) > 0:
        word = tl.arange(0, 4)
        row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        group = tl.program_id(1) * FLAT_COLUMNS + tl.arange(0, FLAT_COLUMNS)
        base = expert.to(tl.int64) * (N * (K // 4))
        at = row[:, None, None] * (K // 4) + group[None, :, None] * 4 + word[None, None, :]
        data = tl.load(w + base + at, eviction_policy="evict_first")
        at = group[:, None, None] * (N * 4) + row[None, :, None] * 4 + word[None, None, :]
        tl.store(flat + base + at, data.trans(1, 0, 2))
        block = tl.program_id(1) * (FLAT_COLUMNS * 16 // BLOCK) + tl.arange(0, FLAT_COLUMNS * 16 // BLOCK)
        scales = expert * (N // BLOCK * (K // BLOCK))
        scale = tl.load(w_scale + scales + tl.program_id(0) * (K // BLOCK) + block)
        tl.store(flat_scale + scales + block * (N // BLOCK) + tl.program_id(0), scale)


def index(
    call: MoeCall,
    plan: Plan,
    tile: int,
    ids: torch.Tensor,
    experts: torch.Tensor,
    padded_rows: torch.Tensor,
    row_scale: torch.Tensor,
) -> None:
    """Fill ids (8 T + 32 (tile - 1),), experts (T + 32,), padded_rows (1,), all int32, and row_scale (T, H/128) f32."""
    outputs = (ids, experts, padded_rows, row_scale)
    arguments = (plan.code, plan.m_count, call.hidden_states_scale, *outputs, plan.tokens, tile)
    launch(index_pairs, plan, (plan.tokens + LOCAL_EXPERTS, 1, 1), arguments, _index_constants(call.hidden))


def swiglu(
    plan: Plan,
    h: torch.Tensor,
    out: torch.Tensor,
    out_scale: torch.Tensor,
    ids: torch.Tensor,
    padded_rows: torch.Tensor,
) -> None:
    """h (8 T, 2I) bf16 -> silu(gate) * up, quantized: out (8 T, I) e4m3, out_scale (8 T, I/128) f32."""
    pairs = plan.tokens * TOP_K
    launch(
        swiglu_pairs,
        plan,
        (_row_programs(plan), 1, 1),
        (h, out, out_scale, ids, padded_rows, pairs),
        _swiglu_constants(out.shape[1]),
    )


def combine(plan: Plan, rows: torch.Tensor, output: torch.Tensor) -> None:
    """rows (8 T, H) bf16 -> the rows of output (T, H) bf16 whose tokens have a local expert."""
    hidden = output.shape[1]
    grid = (plan.tokens, triton.cdiv(hidden, COMBINE_CHUNK), 1)
    launch(combine_pairs, plan, grid, (rows, plan.code, plan.weight, output), _combine_constants(hidden))


def flatten(
    plan: Plan, weights: torch.Tensor, weights_scale: torch.Tensor, flat: torch.Tensor, flat_scale: torch.Tensor
) -> None:
    """weights (32, N, K) e4m3 -> flat (32, N, K/4) int32 in the order (K/16, N, 16 bytes), of the experts with rows.

    weights_scale (32, N/128, K/128) -> flat_scale (32, K/128, N/128) f32.
    """
    _, n, k = weights.shape
    grid = (n // COLUMNS_OF_A_SCALE, k // (16 * FLAT_COLUMNS.value), LOCAL_EXPERTS)
    arguments = (weights.view(torch.int32), weights_scale, plan.m_count, flat, flat_scale)
    launch(flatten_weights, plan, grid, arguments, _flatten_constants(n, k))


@functools.cache
def _index_constants(hidden: int) -> dict[str, Any]:
    blocks = hidden // COLUMNS_OF_A_SCALE
    return {"BLOCKS": blocks, "BLOCKS_BLOCK": triton.next_power_of_2(blocks), "num_warps": 1}


@functools.cache
def _swiglu_constants(inner: int) -> dict[str, Any]:
    return {**_index_constants(inner), "num_warps": 4}


@functools.cache
def _combine_constants(hidden: int) -> dict[str, Any]:
    return {"COLUMNS": hidden, "CHUNK": COMBINE_CHUNK, "num_warps": 4}


@functools.cache
def _flatten_constants(n: int, k: int) -> dict[str, Any]:
    return {"N": n, "K": k, "num_warps": 4}


# Types of the run-time arguments, in order. Pointers are multiples of 16 bytes (checks.ALIGNMENT).
TYPES = {
    "index_pairs": "*i32 *i32 *fp32 *i32 *i32 *i32 *fp32 i32 i32",
    "swiglu_pairs": "*bf16 *fp8e4nv *fp32 *i32 *i32 i32",
    "combine_pairs": "*bf16 *i32 *fp32 *bf16",
    "flatten_weights": "*i32 *fp32 *i32 *i32 *fp32",
}


def compile_index(arch: str, hidden: int) -> Iterator[dict[str, Any]]:
    """Compile the kernel of `index` alone."""
    yield compile_kernel(arch, index_pairs, TYPES["index_pairs"], _index_constants(hidden), "permute")


def compile_pairs(arch: str, hidden: int, inner: int) -> Iterator[dict[str, Any]]:
    """Compile every kernel of this module without a GPU; see `compile_kernels` in solutions/README.md."""
    yield from compile_index(arch, hidden)
    wanted = (
        (swiglu_pairs, "activation_quant", _swiglu_constants(inner)),
        (combine_pairs, "combine", _combine_constants(hidden)),
        (flatten_weights, "other", _flatten_constants(2 * inner, hidden)),
        (flatten_weights, "other", _flatten_constants(hidden, inner)),
    )
    for kernel, stage, constants in wanted:
        suffix = f"_{constants['N']}x{constants['K']}" if "N" in constants else ""
        yield compile_kernel(arch, kernel, TYPES[kernel.__name__], constants, stage, suffix)
