"""Device code of the routing, in Triton: choose the local experts, rank the pairs, lay out the expert groups.

`triton_stages` launches it. What it leaves behind (code, weight, m_indptr, m_count) is described in `triton_kernels`.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents

from .triton_kernels import LOCAL, RANK_BITS, SLOTS

GROUPS = tl.constexpr(8)
EXPERTS = tl.constexpr(256)
KEPT_GROUPS = tl.constexpr(4)
LOWEST = tl.constexpr(-(1 << 31))
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
    OVERLAP: tl.constexpr = False,
):
    """Choose one token's experts and rank its local pairs; the last program lays out the expert groups. One warp.

    A token without a local pair gets its zero row of output (T, H = COLUMNS) bf16 here: choosing is bound by
    arithmetic, so that these stores cost less than they would in `combine_rows`, which is bound by memory.

    logits: (T, 256) f32; bias: (256,) bf16. Ties go to the lowest group and the lowest expert. A pair's rank is the
    order of arrival at its expert's counter, so rows may swap places between runs; no row's content depends on its
    place. The last program to finish turns the counts into m_indptr (33,), m_count (32,) and m_end (32,) int32, first
    row, true rows and end of the true rows of each group, and where PROBLEMS is set into problems (2, 32, 3) int32, the
    (rows, N, K) of both GEMMs; it leaves all counters zero for the next call.
    """
    if OVERLAP:
        gdc_launch_dependents()
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
    lane = tl.arange(0, LOCAL)
    local = tl.zeros((LOCAL,), tl.int32)  # 1 where chosen
    share = tl.zeros((LOCAL,), tl.float32)
    rank = local
    if tl.sum((kept & mine).to(tl.int32), axis=0) > 0:  # the rank's experts are one group: few tokens keep it
        chosen = _top_experts(choice, kept)
        taken = tl.where(chosen, tl.reshape(score, (GROUPS, LOCAL)), 0.0)
        total = tl.sum(tl.sum(taken, axis=1), axis=0)
        local = tl.sum(tl.where(mine[:, None], chosen.to(tl.int32), 0), axis=0)
        share = tl.sum(tl.where(mine[:, None], taken, 0.0), axis=0) * (factor / (total + 1e-20))
        rank = tl.atomic_add(counters + lane * COUNTER_STRIDE, 1, mask=local > 0)
    # The ticket waits for what the program has written so far: before the stores, that is nothing but the counts.
    _lay_out_groups(counters, m_indptr, m_count, m_end, problems, ALIGN, N1, K1, N2, K2, PROBLEMS)
    place = pairs + tl.cumsum(local, axis=0) - 1
    found = tl.sum(local, axis=0)
    tl.store(code + place, (lane << RANK_BITS) | rank, mask=local > 0)
    tl.store(weight + place, share, mask=local > 0)
    tl.store(code + pairs + slot, -1, mask=slot >= found)
    if found == 0:
        _zero_row(output, token, COLUMNS)


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
    _lay_out_groups(counters, m_indptr, m_count, m_end, problems, ALIGN, 0, 0, 0, 0, False)
    local = mine.to(tl.int32)
    place = pairs + tl.cumsum(local, axis=0) - 1
    tl.store(code + place, (expert << RANK_BITS) | rank, mask=mine)
    tl.store(weight + place, tl.load(values + pairs + slot), mask=mine)
    found = tl.sum(local, axis=0)
    tl.store(code + pairs + slot, -1, mask=slot >= found)
    if found == 0:
        _zero_row(output, tl.program_id(0), COLUMNS)


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
