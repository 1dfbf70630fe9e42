"""A grouped GEMM for block-scaled FP8 in Triton, which gathers its rows through an index; kernels and host side.

Entry points: `index_rows` writes the token of each row, `grouped_gemm` multiplies, both enqueue one kernel on the
current stream; `compile_gemms` builds all of them without a GPU. Rows are grouped by expert without padding, as
`triton_stages.plan_call` lays them out with align=1.

A program computes output tiles of BM rows and BN columns, one after the other: the kernel is persistent, and its
programs find the expert of a tile from the row counts, which never leave the device. The tiles of one column of an
expert follow each other, so that its weights are read from memory once. Where experts have few rows the weights are the
M side of the matrix instruction (`SWAP`), whose least M is 64. A form's other numbers are those that took least time on
an H200 (docs/kernels.md).

Letters: T tokens, M rows of the grouped layout, N columns of the result, K the dimension that is summed.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait
from triton.tools.tensor_descriptor import TensorDescriptor

from .checks import LOCAL_EXPERTS, TOP_K
from .triton_kernels import BLOCK as K_TILE
from .triton_kernels import LOCAL, RANK_BITS, RANK_MASK, SLOTS
from .triton_launch import compile_kernel, launch, warm
from .triton_stages import Plan

INDEX_CODES = 256  # codes of an indexing program


@dataclass(frozen=True)
class Form:
    """One tile shape of the GEMM, and how it is run."""

    rows: int  # of a tile
    columns: int  # of a tile
    swap: bool  # the weights are the M side of the matrix instruction
    stages: int  # tiles of K in flight
    warps: int
    blocks: int  # programs for each multiprocessor

    tma: bool  # weights come by the bulk copy engine, through a descriptor


SMALL = Form(16, 64, swap=True, stages=6, warps=4, blocks=2, tma=False)
NARROW = Form(16, 128, swap=True, stages=4, warps=4, blocks=2, tma=False)
MIDDLE = Form(64, 128, swap=False, stages=4, warps=4, blocks=2, tma=False)
LARGE = Form(64, 128, swap=False, stages=4, warps=4, blocks=2, tma=True)
SHALLOW = Form(64, 128, swap=False, stages=3, warps=4, blocks=2, tma=True)
# Largest T of each pair of forms, those of GEMM1 and GEMM2.
FORMS: tuple[tuple[int, Form, Form], ...] = (
    (48, SMALL, SMALL),
    (300, NARROW, NARROW),
    (1100, MIDDLE, MIDDLE),
    (6000, LARGE, LARGE),
    (1 << 30, SHALLOW, LARGE),
)


def pick_form(tokens: int, which: int) -> Form:
    """Form of GEMM1 or GEMM2 (`which` 0 or 1) for a call with this T."""
    return next(forms[which] for largest, *forms in FORMS if tokens <= largest)


@triton.jit(do_not_specialize=["codes"])
def index_rows(code, m_indptr, ids, codes, CODES: tl.constexpr, OVERLAP: tl.constexpr = False):
    """ids (M,) int32: the token of each row, from code (T, 8) int32; `codes` is 8 T."""
    if OVERLAP:
        gdc_wait()
        gdc_launch_dependents()
    at = tl.program_id(0) * CODES + tl.arange(0, CODES)
    pair = tl.load(code + at, mask=at < codes, other=-1)
    local = pair >= 0
    start = tl.load(m_indptr + (pair >> RANK_BITS), mask=local, other=0)
    tl.store(ids + start + (pair & RANK_MASK), at // SLOTS, mask=local)


@triton.jit(do_not_specialize=["scale_stride"])
def grouped_gemm(
    x,
    x_scale,
    w,
    w_scale,
    out,
    ids,
    m_indptr,
    m_count,
    scale_stride,
    N: tl.constexpr,
    K: tl.constexpr,
    GATHER: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    SWAP: tl.constexpr,
    STAGES: tl.constexpr,
    TMA: tl.constexpr,
    OVERLAP: tl.constexpr = False,
):
    """out (M, N) bf16 = rows of x times w (32, N, K) e4m3 by expert.

    x: e4m3 rows of K, row `ids[m]` for row m where GATHER is set, else row m; x_scale: (K/128, rows of x) f32, its rows
    `scale_stride` apart; w: a pointer, or where TMA is set a descriptor of (32 N, K) with boxes of BN rows; w_scale:
    (32, N/128, K/128) f32. Sums of 128 products are scaled and added in f32.
    """
    if OVERLAP:
        gdc_launch_dependents()
        gdc_wait()
    lane = tl.arange(0, LOCAL)
    count = tl.load(m_count + lane)
    start = tl.load(m_indptr + lane)
    tiles = (count + BM - 1) // BM
    upto = tl.cumsum(tiles, axis=0)
    depth = tl.arange(0, K_TILE)
    for job in range(tl.program_id(0), tl.sum(tiles, axis=0) * (N // BN), tl.num_programs(0)):
        expert = tl.sum((upto * (N // BN) <= job).to(tl.int32), axis=0)
        mine = lane == expert
        tiles_here = tl.sum(tl.where(mine, tiles, 0), axis=0)
        job_here = job - (tl.sum(tl.where(mine, upto, 0), axis=0) - tiles_here) * (N // BN)
        row = job_here % tiles_here * BM + tl.arange(0, BM)
        column = job_here // tiles_here * BN + tl.arange(0, BN)
        inside = row < tl.sum(tl.where(mine, count, 0), axis=0)
        place = tl.sum(tl.where(mine, start, 0), axis=0) + row
        source = tl.load(ids + place, mask=inside, other=0) if GATHER else place
        a_at = x + source.to(tl.int64)[:, None] * K + depth[None, :]
        a_scale_at = x_scale + source
        w_row = expert * N + job_here // tiles_here * BN
        w_scale_at = w_scale + w_row // K_TILE * (K // K_TILE)
        if not TMA:
            w_at = w + (w_row + tl.arange(0, BN)).to(tl.int64)[:, None] * K + depth[None, :]
        total = tl.zeros((BN, BM) if SWAP else (BM, BN), tl.float32)
        for step in tl.range(0, K // K_TILE, num_stages=STAGES):
            a = tl.load(a_at, mask=inside[:, None], other=0.0)
            if TMA:
                b = w.load([w_row, step * K_TILE])
            else:
                b = tl.load(w_at)
                w_at += K_TILE
            scale = tl.load(a_scale_at, mask=inside, other=0.0) * tl.load(w_scale_at + step)
            if SWAP:
                total += tl.dot(b, a.T) * scale[None, :]
            else:
                total += tl.dot(a, b.T) * scale[:, None]
            a_at += K_TILE
            a_scale_at += scale_stride
        if SWAP:
            at = out + place.to(tl.int64)[None, :] * N + column[:, None]
            tl.store(at, total.to(tl.bfloat16), mask=inside[None, :])
        else:
            at = out + place.to(tl.int64)[:, None] * N + column[None, :]
            tl.store(at, total.to(tl.bfloat16), mask=inside[:, None])


def index(plan: Plan, ids: torch.Tensor) -> None:
    """Fill ids (M,) int32 with the token of each row, from the routing."""
    codes = plan.tokens * TOP_K
    grid = (triton.cdiv(codes, INDEX_CODES), 1, 1)
    launch(index_rows, plan, grid, (plan.code, plan.m_indptr, ids, codes), _index_constants(plan.overlap))


def multiply(
    plan: Plan,
    which: int,
    x: torch.Tensor,
    x_scale: torch.Tensor,
    weights: torch.Tensor,
    weights_scale: torch.Tensor,
    out: torch.Tensor,
    ids: torch.Tensor | None = None,
) -> None:
    """out (M, N) bf16 = rows of x times weights (32, N, K) by expert; GEMM1 or GEMM2 (`which` 0 or 1).

    x: (M, K) e4m3, or with `ids` (M,) any number of rows; x_scale: (K/128, rows of x) f32, block-major. The first call
    compiles the forms of all T.
    """
    _, n, k = weights.shape
    form = pick_form(plan.tokens, which)
    groups = (plan.m_count if ids is None else ids, plan.m_indptr, plan.m_count)  # counts: not read without `ids`
    arguments = (x, x_scale, weights, weights_scale, out, *groups, x_scale.shape[1])
    gather = ids is not None
    _warm_forms(plan, which, arguments, n, k, gather)
    arguments = _with_descriptor(arguments, form)
    programs = min(_most_tiles(plan.tokens, form, n), form.blocks * _processors(plan.device.index or 0))
    launch(grouped_gemm, plan, (programs, 1, 1), arguments, _gemm_constants(n, k, gather, form, plan.overlap))


def _with_descriptor(arguments: tuple[Any, ...], form: Form) -> tuple[Any, ...]:
    """Return the arguments as this form takes them; each call makes its own descriptor, since that holds an address."""
    if not form.tma:
        return arguments
    x, x_scale, weights, *others = arguments
    rows = weights.view(-1, weights.shape[2])
    return x, x_scale, TensorDescriptor.from_tensor(rows, [form.columns, K_TILE.value]), *others


def _most_tiles(tokens: int, form: Form, n: int) -> int:
    """Most tiles that T tokens can need: 8 rows each, and every expert with rows has a last tile that is not full."""
    pairs = tokens * TOP_K
    return min(pairs, pairs // form.rows + LOCAL_EXPERTS) * (n // form.columns)


def _warm_forms(plan: Plan, which: int, arguments: tuple[Any, ...], n: int, k: int, gather: bool) -> None:
    """Compile every form of a GEMM before its first launch, so that no later T has to."""
    key = (plan.device.index, which, n, k)
    if key not in _warm:
        for form in _all_forms(which):
            constants = _gemm_constants(n, k, gather, form, plan.overlap)
            warm(grouped_gemm, plan, _with_descriptor(arguments, form), constants)
        _warm.add(key)


_warm: set[tuple[int | None, int, int, int]] = set()


@functools.cache
def _processors(device: int) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count


def _all_forms(which: int) -> list[Form]:
    """The forms of GEMM1 or GEMM2, each once."""
    return list(dict.fromkeys(forms[which] for _, *forms in FORMS))


@functools.cache
def _index_constants(overlap: bool) -> dict[str, Any]:
    return {"CODES": INDEX_CODES, "OVERLAP": overlap, "num_warps": 4}


@functools.cache
def _gemm_constants(n: int, k: int, gather: bool, form: Form, overlap: bool) -> dict[str, Any]:
    shape = {"N": n, "K": k, "GATHER": gather, "BM": form.rows, "BN": form.columns, "SWAP": form.swap}
    return {**shape, "STAGES": form.stages, "TMA": form.tma, "OVERLAP": overlap, "num_warps": form.warps}


# Types of the run-time arguments, in order. Pointers are multiples of 16 bytes (checks.ALIGNMENT).
TYPES = {"index_rows": "*i32 *i32 *i32 i32", "grouped_gemm": "*fp8e4nv *fp32 *fp8e4nv *fp32 *bf16 *i32 *i32 *i32 i32"}


def compile_gemms(arch: str, hidden: int, inner: int, overlap: bool) -> Iterator[dict[str, Any]]:
    """Compile every kernel of this module for 'sm_90a' without a GPU; see `compile_kernels` in solutions/README.md."""
    yield compile_kernel(arch, index_rows, TYPES["index_rows"], _index_constants(overlap), "permute")
    for which, (n, k) in enumerate(((2 * inner, hidden), (hidden, inner))):
        for form in _all_forms(which):
            constants = _gemm_constants(n, k, which == 0, form, overlap)
            stage = f"gemm{which + 1}"
            tile = f"{'swapped' if form.swap else 'plain'}{form.rows}x{form.columns}x{form.stages}"
            suffix = f"_{stage}_{tile}{'_tma' if form.tma else ''}"
            yield compile_kernel(arch, grouped_gemm, _types(form), constants, stage, suffix, "wgmma")


def _types(form: Form) -> str:
    types = TYPES["grouped_gemm"].split()
    if form.tma:
        types[2] = f"tensordesc<fp8e4nv[{form.columns},{K_TILE.value}]>"
    return " ".join(types)
