"""The Triton kernel that brings GEMM1's weights into the order of FlashInfer's fused kernel, its launch, and its build.

The order: eight rows of the gate, then the eight rows of "up" that belong to them, and so on; scales of the 128-row
blocks alternate in the same way. The definition has all rows of "up" first.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch
import triton
import triton.language as tl

from .common.checks import BLOCK as ROWS_OF_A_SCALE
from .common.checks import LOCAL_EXPERTS
from .common.triton_launch import compile_kernel, launch
from .common.triton_stages import Plan

BLOCK = tl.constexpr(128)  # rows of a program's tile, which all share a block of scales in the result
TURN = tl.constexpr(8)  # rows of the gate, then as many of "up"
WORDS = tl.constexpr(128)  # int32 of a program's tile: 512 bytes, four columns of scales


@triton.jit
def interleave_gate(w, w_scale, m_count, mixed, mixed_scale, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """w: (32, ROWS = 2I, COLUMNS = H / 4) int32, rows I: are the gate; mixed: the same rows in the kernel's order.

    w_scale, mixed_scale: (32, 2I/128, H/128) f32. One program for 128 rows and 128 words of an expert with rows.
    """
    expert = tl.program_id(2)
    if tl.load(m_count + expert) > 0:
        to = tl.program_id(0)
        row = to * BLOCK + tl.arange(0, BLOCK)
        is_gate = row % (2 * TURN) < TURN
        source = row // (2 * TURN) * TURN + row % TURN + tl.where(is_gate, ROWS // 2, 0)
        word = tl.program_id(1) * WORDS + tl.arange(0, WORDS)
        base = expert.to(tl.int64) * (ROWS * COLUMNS)
        data = tl.load(w + base + source[:, None] * COLUMNS + word[None, :], eviction_policy="evict_first")
        tl.store(mixed + base + row[:, None] * COLUMNS + word[None, :], data)
        blocks: tl.constexpr = COLUMNS // (BLOCK // 4)
        column = tl.program_id(1) * (WORDS // (BLOCK // 4)) + tl.arange(0, WORDS // (BLOCK // 4))
        source_block = to // 2 + tl.where(to % 2 == 0, ROWS // BLOCK // 2, 0)
        scales = expert * (ROWS // BLOCK * blocks)
        tl.store(
            mixed_scale + scales + to * blocks + column, tl.load(w_scale + scales + source_block * blocks + column)
        )


def interleave(plan: Plan, weights: torch.Tensor, scale: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """weights (32, 2I, H) e4m3 and scale (32, 2I/128, H/128) f32 in the kernel's order, of the experts with rows.

    H must be a multiple of 512.
    """
    _, rows, hidden = weights.shape
    mixed = plan.buffer("mixed", weights.shape, weights.dtype)
    mixed_scale = plan.buffer("mixed_scale", scale.shape, scale.dtype)
    grid = (rows // ROWS_OF_A_SCALE, hidden // (4 * WORDS.value), LOCAL_EXPERTS)
    arguments = (weights.view(torch.int32), scale, plan.m_count, mixed.view(torch.int32), mixed_scale)
    launch(interleave_gate, plan, grid, arguments, _constants(rows, hidden))
    return mixed, mixed_scale


@functools.cache
def _constants(rows: int, hidden: int) -> dict[str, Any]:
    return {"ROWS": rows, "COLUMNS": hidden // 4, "num_warps": 8}


# Types of the run-time arguments, in order. Pointers are multiples of 16 bytes.
TYPES = {"interleave_gate": "*i32 *fp32 *i32 *i32 *fp32"}


def compile_weights(arch: str, hidden: int, inner: int) -> Iterator[dict[str, Any]]:
    """Compile the kernel of this module without a GPU; see `compile_kernels` in solutions/README.md."""
    yield compile_kernel(arch, interleave_gate, TYPES["interleave_gate"], _constants(2 * inner, hidden), "other")
