"""Device code of the row stages around the grouped GEMMs, in Triton: permute, quantize, SwiGLU, combine.

`triton_stages` launches it, after the routing of `triton_routing`.

Rows of the grouped matrices: expert e (0..31, local) owns rows m_indptr[e] .. m_indptr[e] + m_count[e]; what lies
between that end and m_indptr[e + 1] is padding, which no kernel here reads or writes.

Integers that follow T are not specialized on their value: one compilation serves every T.

A token has at most 8 local pairs. `code` (T, 8) int32 holds them in ascending expert order, then -1:
code = expert << RANK_BITS | rank, the pair's row is m_indptr[expert] + rank. `weight` (T, 8) f32 goes with it.

Letters: T tokens, H hidden and I intermediate columns, M rows of the grouped layout.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

RANK_BITS = tl.constexpr(26)
RANK_MASK = tl.constexpr((1 << 26) - 1)
SLOTS = tl.constexpr(8)  # most local pairs of a token: its top 8
LOCAL = tl.constexpr(32)
BLOCK = tl.constexpr(128)
FP8_INVERSE_MAX = tl.constexpr(1.0 / 448.0)
FP8_ZERO = tl.constexpr(1e-30)  # a block whose largest magnitude is below this is quantized as zeros, with scale 1
ROW_MAJOR = tl.constexpr(1)  # scales (M, K/128)
GROUPED = tl.constexpr(2)  # scales (K/128, group's rows) for each group, one group after the other


@triton.jit
def _scale_place(row, start, end, rows, BLOCKS: tl.constexpr, LAYOUT: tl.constexpr):
    """Returns where the first scale of `row` stands, and the distance to its next; its group owns start .. end."""
    if LAYOUT == ROW_MAJOR:
        return row * BLOCKS, tl.zeros_like(row) + 1
    if LAYOUT == GROUPED:
        return start * BLOCKS + (row - start), end - start
    return row, tl.zeros_like(row) + rows


@triton.jit(do_not_specialize=["tokens", "rows"])
def permute_rows(
    x,
    x_scale,
    code,
    m_indptr,
    a,
    a_scale,
    tokens,
    rows,
    WORDS: tl.constexpr,
    WORDS_BLOCK: tl.constexpr,
    BLOCKS: tl.constexpr,
    BLOCKS_BLOCK: tl.constexpr,
    LAYOUT: tl.constexpr,
    OVERLAP: tl.constexpr = False,
):
    """Copy one token's row and scales to the row of each of its local pairs.

    x: (T, H) and a: (M, H) e4m3, seen as H/4 = WORDS int32; x_scale: (H/128, T) f32; a_scale: f32, as LAYOUT says.
    `rows` is M.
    """
    if OVERLAP:
        gdc_wait()
        gdc_launch_dependents()  # in this order: whatever starts from here on may rely on the routing
    token = tl.program_id(0).to(tl.int64)
    if tl.load(code + token * SLOTS) >= 0:
        word = tl.arange(0, WORDS_BLOCK)
        block = tl.arange(0, BLOCKS_BLOCK)
        data = tl.load(x + token * WORDS + word, mask=word < WORDS, eviction_policy="evict_first")
        scale = tl.load(x_scale + block * tokens + token, mask=block < BLOCKS)
        for slot in range(SLOTS):
            pair = tl.load(code + token * SLOTS + slot)
            if pair >= 0:
                expert = pair >> RANK_BITS
                start = tl.load(m_indptr + expert).to(tl.int64)
                row = start + (pair & RANK_MASK)
                tl.store(a + row * WORDS + word, data, mask=word < WORDS)
                end = tl.load(m_indptr + expert + 1).to(tl.int64)
                first, step = _scale_place(row, start, end, rows, BLOCKS, LAYOUT)
                tl.store(a_scale + first + block * step, scale, mask=block < BLOCKS)


@triton.jit
def _true_rows(m_indptr, m_count):
    """Returns per expert the true rows up to and with it and the padding after its group, and the true rows in all."""
    lane = tl.arange(0, LOCAL)
    count = tl.load(m_count + lane)
    gap = tl.load(m_indptr + 1 + lane) - tl.load(m_indptr + lane) - count
    return tl.cumsum(count, axis=0), gap, tl.sum(count, axis=0)


@triton.jit
def _row_of(index, upto, gap):
    """Row of the index-th true row."""
    return (index + tl.sum(tl.where(upto <= index, gap, 0), axis=0)).to(tl.int64)


@triton.jit
def _quantize(y):
    """y: (blocks, 128) f32. Returns e4m3 data and the scales (blocks,) f32: amax * (1 / 448), 1 for a block of
    zeros."""
    amax = tl.max(tl.abs(y), axis=1)
    scale = tl.where(amax < FP8_ZERO, 1.0, amax * FP8_INVERSE_MAX)
    return (y * (1.0 / scale)[:, None]).to(tl.float8e4nv), scale


@triton.jit(do_not_specialize=["rows"])
def quantize_rows(
    h,
    out,
    out_scale,
    m_indptr,
    m_count,
    rows,
    BLOCKS: tl.constexpr,
    BLOCKS_BLOCK: tl.constexpr,
    OVERLAP: tl.constexpr = False,
):
    """Quantize true rows of h (M, N) bf16 to out (M, N) e4m3 and out_scale (N/128, M) f32; N = 128 * BLOCKS."""
    if OVERLAP:
        gdc_launch_dependents()
        gdc_wait()
    upto, gap, total = _true_rows(m_indptr, m_count)
    block = tl.arange(0, BLOCKS_BLOCK)
    column = block[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]
    for step in range(tl.program_id(0), total, tl.num_programs(0)):
        index = total - 1 - step  # the GEMM wrote the last rows last: they are still in the L2 cache
        row = _row_of(index, upto, gap)
        at = row * (BLOCKS * BLOCK) + column
        y = tl.load(h + at, mask=block[:, None] < BLOCKS, other=0.0, eviction_policy="evict_first").to(tl.float32)
        data, scale = _quantize(y)
        tl.store(out + at, data, mask=block[:, None] < BLOCKS)
        tl.store(out_scale + block.to(tl.int64) * rows + row, scale, mask=block < BLOCKS)


@triton.jit(do_not_specialize=["rows"])
def swiglu_rows(
    h,
    h_scale,
    out,
    out_scale,
    m_indptr,
    m_count,
    rows,
    BLOCKS: tl.constexpr,
    BLOCKS_BLOCK: tl.constexpr,
    FP8_INPUT: tl.constexpr,
    LAYOUT: tl.constexpr,
    OVERLAP: tl.constexpr = False,
):
    """silu(gate) * up of the true rows, quantized.

    h: (M, 2I) bf16, or e4m3 with h_scale (2I/128, M) f32 where FP8_INPUT is set; the gate is the second half.
    out: (M, I) e4m3; out_scale: f32, as LAYOUT says; I = 128 * BLOCKS.
    """
    if OVERLAP:
        gdc_launch_dependents()
        gdc_wait()
    upto, gap, total = _true_rows(m_indptr, m_count)
    block = tl.arange(0, BLOCKS_BLOCK)
    column = block[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]
    inside = block[:, None] < BLOCKS
    for step in range(tl.program_id(0), total, tl.num_programs(0)):
        index = total - 1 - step  # the GEMM wrote the last rows last: they are still in the L2 cache
        row = _row_of(index, upto, gap)
        at = row * (2 * BLOCKS * BLOCK) + column
        up = tl.load(h + at, mask=inside, other=0.0, eviction_policy="evict_first").to(tl.float32)
        gate = tl.load(h + at + BLOCKS * BLOCK, mask=inside, other=0.0, eviction_policy="evict_first").to(tl.float32)
        if FP8_INPUT:
            scale_at = h_scale + block.to(tl.int64) * rows + row
            up *= tl.load(scale_at, mask=block < BLOCKS, other=0.0)[:, None]
            gate *= tl.load(scale_at + BLOCKS * rows.to(tl.int64), mask=block < BLOCKS, other=0.0)[:, None]
        data, scale = _quantize(gate / (1.0 + tl.exp(-gate)) * up)
        tl.store(out + row * (BLOCKS * BLOCK) + column, data, mask=inside)
        expert = tl.sum((upto <= index).to(tl.int32), axis=0)
        start = tl.load(m_indptr + expert).to(tl.int64)
        end = tl.load(m_indptr + expert + 1).to(tl.int64)
        first, step = _scale_place(row, start, end, rows, BLOCKS, LAYOUT)
        tl.store(out_scale + first + block * step, scale, mask=block < BLOCKS)


@triton.jit
def combine_rows(
    rows,
    code,
    weight,
    m_indptr,
    output,
    COLUMNS: tl.constexpr,
    CHUNK: tl.constexpr,
    OVERLAP: tl.constexpr = False,
):
    """output (T, H = COLUMNS) bf16 = sum in f32 over a token's pairs of weight * its row of rows (M, H) bf16.

    Pairs are added in the order of their codes, two loads in flight at a time. Tokens without pairs are left alone:
    their rows are zero already. All is read and written once, so nothing should stay in the L2 cache.
    """
    token = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * CHUNK + tl.arange(0, CHUNK)
    inside = column < COLUMNS
    # The routing has ended long ago, but this kernel has not waited for it: past the L1 cache.
    active = tl.load(code + token * SLOTS, volatile=True) >= 0
    if OVERLAP:
        gdc_wait()  # all programs: when this kernel has ended, so has the GEMM
    if active:
        total = tl.zeros((CHUNK,), tl.float32)
        for slot in tl.static_range(0, SLOTS, 2):
            pair = tl.load(code + token * SLOTS + slot)
            if pair >= 0:
                next_pair = tl.load(code + token * SLOTS + slot + 1)
                more = next_pair >= 0
                next_pair = tl.where(more, next_pair, 0)
                row = (tl.load(m_indptr + (pair >> RANK_BITS)) + (pair & RANK_MASK)).to(tl.int64)
                next_row = (tl.load(m_indptr + (next_pair >> RANK_BITS)) + (next_pair & RANK_MASK)).to(tl.int64)
                y = tl.load(rows + row * COLUMNS + column, mask=inside, other=0.0, eviction_policy="evict_first")
                at = rows + next_row * COLUMNS + column
                next_y = tl.load(at, mask=inside & more, other=0.0, eviction_policy="evict_first")
                total += tl.load(weight + token * SLOTS + slot) * y.to(tl.float32)
                total += tl.load(weight + token * SLOTS + slot + 1, mask=more, other=0.0) * next_y.to(tl.float32)
        at = output + token * COLUMNS + column
        tl.store(at, total.to(tl.bfloat16), mask=inside, eviction_policy="evict_first")
