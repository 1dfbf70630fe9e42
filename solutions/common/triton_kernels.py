"""Device code of the stages around the grouped GEMMs, in Triton. `triton_stages` launches it; nothing else should.

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

RANK_BITS = tl.constexpr(26)
RANK_MASK = tl.constexpr((1 << 26) - 1)
SLOTS = tl.constexpr(8)  # most local pairs of a token: its top 8
LOCAL = tl.constexpr(32)
GROUPS = tl.constexpr(8)
EXPERTS = tl.constexpr(256)
KEPT_GROUPS = tl.constexpr(4)
BLOCK = tl.constexpr(128)
FP8_MAX = tl.constexpr(448.0)
LOWEST = tl.constexpr(-(1 << 31))
BLOCK_MAJOR = tl.constexpr(0)  # scales (K/128, M)
ROW_MAJOR = tl.constexpr(1)  # scales (M, K/128)
GROUPED = tl.constexpr(2)  # scales (K/128, group's rows) for each group, one group after the other
ZERO_COLUMNS = tl.constexpr(1024)  # columns that a warp sets to zero at a time
COUNTER_STRIDE = tl.constexpr(32)  # int32: one 128-byte line a counter, so that atomics spread over the L2 slices


@triton.jit(do_not_specialize=["first_expert", "factor"])
def route_tokens(
    logits,
    bias,
    code,
    weight,
    counters,
    m_indptr,
    m_count,
    m_end,
    problems,
    output,
    first_expert,
    factor,
    COLUMNS: tl.constexpr,
    ALIGN: tl.constexpr,
    N1: tl.constexpr,
    K1: tl.constexpr,
    N2: tl.constexpr,
    K2: tl.constexpr,
    PROBLEMS: tl.constexpr,
):
    """Choose one token's experts and rank its local pairs; the last program lays out the expert groups. One warp.

    A token without a local pair gets its zero row of output (T, H = COLUMNS) bf16 here: choosing is bound by arithmetic,
    so that these stores cost less than they would in `combine_rows`, which is bound by memory.

    logits: (T, 256) f32; bias: (256,) bf16. Ties go to the lowest group and the lowest expert. A pair's rank is the
    order of arrival at its expert's counter, so rows may swap places between runs; no row's content depends on its place.
    The last program to finish turns the counts into m_indptr (33,), m_count (32,) and m_end (32,) int32, first row,
    true rows and end of the true rows of each group, and where PROBLEMS is set into problems (2, 32, 3) int32, the
    (rows, N, K) of both GEMMs; it leaves all counters zero for the next call.
    """
    token = tl.program_id(0)
    expert = tl.arange(0, EXPERTS)
    x = tl.load(logits + token.to(tl.int64) * EXPERTS + expert)
    # Off by 1.5e-7 at most, a third of the last bit of score + bias near 5: no choice that is not a near-tie changes.
    score = 1.0 / (1.0 + tl.exp(-x))
    choice = tl.reshape(score + tl.load(bias + expert).to(tl.float32), (GROUPS, LOCAL))
    kept = _kept_groups(choice)
    mine = tl.arange(0, GROUPS) == first_expert // LOCAL
    slot = tl.arange(0, SLOTS)
    pairs = token.to(tl.int64) * SLOTS
    found = tl.sum((kept & mine).to(tl.int32), axis=0)
    if found > 0:  # the rank's experts are one group: a token that drops it has no local pair
        chosen = _top_experts(choice, kept)
        taken = tl.where(chosen, tl.reshape(score, (GROUPS, LOCAL)), 0.0)
        total = tl.sum(tl.sum(taken, axis=1), axis=0)
        local = tl.sum(tl.where(mine[:, None], chosen.to(tl.int32), 0), axis=0)  # (32,), 1 where chosen
        share = tl.sum(tl.where(mine[:, None], taken, 0.0), axis=0) * (factor / (total + 1e-20))
        lane = tl.arange(0, LOCAL)
        rank = tl.atomic_add(counters + lane * COUNTER_STRIDE, 1, mask=local > 0)
        place = pairs + tl.cumsum(local, axis=0) - 1
        tl.store(code + place, (lane << RANK_BITS) | rank, mask=local > 0)
        tl.store(weight + place, share, mask=local > 0)
        found = tl.sum(local, axis=0)
    tl.store(code + pairs + slot, -1, mask=slot >= found)
    if found == 0:
        _zero_row(output, token, COLUMNS)
    _lay_out_groups(counters, m_indptr, m_count, m_end, problems, ALIGN, N1, K1, N2, K2, PROBLEMS)


@triton.jit(do_not_specialize=["first_expert"])
def route_pairs(
    ids,
    values,
    code,
    weight,
    counters,
    m_indptr,
    m_count,
    m_end,
    problems,
    output,
    first_expert,
    COLUMNS: tl.constexpr,
    ALIGN: tl.constexpr,
):
    """`route_tokens` for a choice that stands already: ids (T, 8) int32, values (T, 8) f32, normalised and scaled."""
    slot = tl.arange(0, SLOTS)
    pairs = tl.program_id(0).to(tl.int64) * SLOTS
    expert = tl.load(ids + pairs + slot) - first_expert
    mine = (expert >= 0) & (expert < LOCAL)
    rank = tl.atomic_add(counters + expert * COUNTER_STRIDE, 1, mask=mine)
    local = mine.to(tl.int32)
    place = pairs + tl.cumsum(local, axis=0) - 1
    tl.store(code + place, (expert << RANK_BITS) | rank, mask=mine)
    tl.store(weight + place, tl.load(values + pairs + slot), mask=mine)
    found = tl.sum(local, axis=0)
    tl.store(code + pairs + slot, -1, mask=slot >= found)
    if found == 0:
        _zero_row(output, tl.program_id(0), COLUMNS)
    _lay_out_groups(counters, m_indptr, m_count, m_end, problems, ALIGN, 0, 0, 0, 0, False)


@triton.jit
def _zero_row(output, token, COLUMNS: tl.constexpr):
    column = tl.arange(0, ZERO_COLUMNS)
    zero = tl.zeros((ZERO_COLUMNS,), tl.bfloat16)
    row = output + token.to(tl.int64) * COLUMNS
    for start in tl.static_range(0, COLUMNS, ZERO_COLUMNS):
        tl.store(row + start + column, zero, mask=start + column < COLUMNS, eviction_policy="evict_first")


@triton.jit
def _kept_groups(choice):
    """choice: (8, 32) f32. Returns (8,) bool: the four groups with the largest sum of their two best experts."""
    first, where = tl.max(choice, axis=1, return_indices=True, return_indices_tie_break_left=True)
    lane = tl.arange(0, LOCAL)[None, :]
    second = tl.max(tl.where(lane == where[:, None], float("-inf"), choice), axis=1)
    total = first + second
    group = tl.arange(0, GROUPS)
    mine, other = total[:, None], total[None, :]
    before = (other > mine) | ((other == mine) & (group[None, :] < group[:, None]))
    return tl.sum(before.to(tl.int32), axis=1) < KEPT_GROUPS


@triton.jit
def _top_experts(choice, kept):
    """choice: (8, 32) f32; kept: (8,) bool. Returns (8, 32) bool: the 8 best experts of the kept groups.

    Works on integers in the order of the floats, because a warp reduces those in one instruction.
    """
    bits = choice.to(tl.int32, bitcast=True)
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    key = tl.reshape(tl.where(kept[:, None], ordered, LOWEST), (EXPERTS,))
    expert = tl.arange(0, EXPERTS)
    for _ in tl.static_range(SLOTS):
        best = tl.min(tl.where(key == tl.max(key, axis=0), expert, EXPERTS), axis=0)
        key = tl.where(expert == best, LOWEST, key)
    return (tl.reshape(key, (GROUPS, LOCAL)) == LOWEST) & kept[:, None]


@triton.jit
def _lay_out_groups(
    counters,
    m_indptr,
    m_count,
    m_end,
    problems,
    ALIGN: tl.constexpr,
    N1: tl.constexpr,
    K1: tl.constexpr,
    N2: tl.constexpr,
    K2: tl.constexpr,
    PROBLEMS: tl.constexpr,
):
    """Take a ticket; the program with the last one has seen all counts, and lays out the groups."""
    tl.debug_barrier()  # every thread's counting must come before this program's ticket
    ticket = tl.atomic_add(counters + LOCAL * COUNTER_STRIDE, 1, sem="acq_rel", scope="gpu")
    if ticket == tl.num_programs(0) - 1:
        lane = tl.arange(0, LOCAL)
        count = tl.load(counters + lane * COUNTER_STRIDE, volatile=True)  # written by atomics: never from L1
        padded = (count + ALIGN - 1) // ALIGN * ALIGN
        after = tl.cumsum(padded, axis=0)
        tl.store(m_indptr + 1 + lane, after)
        tl.store(m_indptr, 0)
        tl.store(m_count + lane, count)
        tl.store(m_end + lane, after - padded + count)
        if PROBLEMS:
            for gemm in tl.static_range(2):
                at = problems + (gemm * LOCAL + lane) * 3
                tl.store(at, count)
                tl.store(at + 1, tl.zeros_like(count) + (N2 if gemm else N1))
                tl.store(at + 2, tl.zeros_like(count) + (K2 if gemm else K1))
        tl.debug_barrier()  # all threads have read the counts
        tl.store(counters + lane * COUNTER_STRIDE, 0)
        tl.store(counters + LOCAL * COUNTER_STRIDE, 0)


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
):
    """Copy one token's row and scales to the row of each of its local pairs.

    x: (T, H) and a: (M, H) e4m3, seen as H/4 = WORDS int32; x_scale: (H/128, T) f32; a_scale: f32, as LAYOUT says.
    `rows` is M.
    """
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
def _quantize(y):
    """y: (blocks, 128) f32. Returns e4m3 data and the scales (blocks,) f32, amax / 448 (tiny where all are zero)."""
    scale = tl.maximum(tl.max(tl.abs(y), axis=1), 1e-30) / FP8_MAX
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
):
    """Quantize true rows of h (M, N) bf16 to out (M, N) e4m3 and out_scale (N/128, M) f32; N = 128 * BLOCKS."""
    upto, gap, total = _true_rows(m_indptr, m_count)
    block = tl.arange(0, BLOCKS_BLOCK)
    column = block[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]
    for step in range(tl.program_id(0), total, tl.num_programs(0)):
        index = total - 1 - step  # the GEMM wrote the last rows last: they are still in the L2 cache
        row = (index + tl.sum(tl.where(upto <= index, gap, 0), axis=0)).to(tl.int64)
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
):
    """silu(gate) * up of the true rows, quantized.

    h: (M, 2I) bf16, or e4m3 with h_scale (2I/128, M) f32 where FP8_INPUT is set; the gate is the second half.
    out: (M, I) e4m3; out_scale: f32, as LAYOUT says; I = 128 * BLOCKS.
    """
    upto, gap, total = _true_rows(m_indptr, m_count)
    block = tl.arange(0, BLOCKS_BLOCK)
    column = block[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]
    inside = block[:, None] < BLOCKS
    for step in range(tl.program_id(0), total, tl.num_programs(0)):
        index = total - 1 - step  # the GEMM wrote the last rows last: they are still in the L2 cache
        row = (index + tl.sum(tl.where(upto <= index, gap, 0), axis=0)).to(tl.int64)
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
def combine_rows(rows, code, weight, m_indptr, output, COLUMNS: tl.constexpr, CHUNK: tl.constexpr):
    """output (T, H = COLUMNS) bf16 = sum in f32 over a token's pairs of weight * its row of rows (M, H) bf16.

    Pairs are added in the order of their codes, two loads in flight at a time. Tokens without pairs are left alone:
    their rows are zero already. All is read and written once, so nothing should stay in the L2 cache.
    """
    token = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * CHUNK + tl.arange(0, CHUNK)
    inside = column < COLUMNS
    if tl.load(code + token * SLOTS) >= 0:
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
