"""The layer around the CuTeDSL grouped GEMMs, as v3 and v3.2 run it: they differ in who quantizes GEMM1's result.

  route_tokens -> permute_rows -> GEMM1 -> [quantize_rows] -> swiglu_rows (FP8) -> GEMM2 (BF16) -> combine_rows

Every step is one kernel on the current stream, and no row count reaches the host. Entry points: `run_layer`,
`compile_layer`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch

from . import triton_stages as stages
from .checks import BLOCK, LOCAL_EXPERTS, MoeCall
from .cute_gemm import GroupedGemm, check_sizes, compile_forms, overlaps

HIDDEN, INNER = 7168, 2048  # sizes that the ahead-of-time build compiles the Triton stages for


def run_layer(call: MoeCall, backend: str, fp8_epilogue: bool) -> None:
    """Enqueue one call; backend is sm_90a or sm_100a. Writes call.output (T, H) bf16.

    With `fp8_epilogue` GEMM1 writes e4m3 and its scales itself; else it writes bf16, and a kernel of its own quantizes
    that.

    Raises ValueError for an H or an I that does not fit the GEMMs' tiles, and MissingPackage, before any launch.
    """
    gemm1, gemm2 = _gemms(backend, fp8_epilogue)
    plan = stages.plan_call(call, align=BLOCK, overlap=overlaps(call.tokens))
    hidden, inner = call.hidden, call.intermediate
    key = ("layer", hidden, inner, fp8_epilogue)
    at = plan.cached(key, lambda: _buffers(plan, hidden, inner, fp8_epilogue))

    stages.route(call, plan)
    stages.permute(call, plan, at.a_words, at.a_scale)
    w1, w1_scale = call.gemm1_weights, call.gemm1_weights_scale
    if fp8_epilogue:
        gemm1(at.a, at.a_scale, w1, w1_scale, at.h_bytes, at.h_scale, plan.m_indptr, plan.m_count, call.tokens)
    else:
        gemm1(at.a, at.a_scale, w1, w1_scale, at.wide, None, plan.m_indptr, plan.m_count, call.tokens)
        stages.quantize(plan, at.wide, at.h, at.h_scale)
    stages.swiglu(plan, at.h, at.h_scale, at.c, at.c_scale)
    w2, w2_scale = call.gemm2_weights, call.gemm2_weights_scale
    gemm2(at.c_bytes, at.c_scale, w2, w2_scale, at.o, None, plan.m_indptr, plan.m_count, call.tokens)
    stages.combine(plan, at.o, call.output)


def _buffers(plan: stages.Plan, hidden: int, inner: int, fp8_epilogue: bool) -> SimpleNamespace:
    """The scratch tensors of a plan's calls, in the views that the kernels take: making one takes as long as a launch.

    Raises ValueError for sizes that do not fit the GEMMs' tiles.
    """
    rows = plan.rows
    for columns, depth in ((2 * inner, hidden), (hidden, inner)):
        check_sizes(LOCAL_EXPERTS, columns, depth, rows)
    byte, fp8, bf16, f32 = torch.uint8, torch.float8_e4m3fn, torch.bfloat16, torch.float32
    a = plan.buffer("a", (rows, hidden), byte)
    h = plan.buffer("h", (rows, 2 * inner), byte)
    c = plan.buffer("c", (rows, inner), byte)
    return SimpleNamespace(
        a=a,
        a_words=a.view(torch.int32),
        a_scale=plan.buffer("a_scale", (hidden // BLOCK, rows), f32),
        wide=None if fp8_epilogue else plan.buffer("wide", (rows, 2 * inner), bf16),
        h_bytes=h,
        h=h.view(fp8),
        h_scale=plan.buffer("h_scale", (2 * inner // BLOCK, rows), f32),
        c_bytes=c,
        c=c.view(fp8),
        c_scale=plan.buffer("c_scale", (inner // BLOCK, rows), f32),
        o=plan.buffer("o", (rows, hidden), bf16),
    )


def compile_layer(arch: str, fp8_epilogue: bool) -> Iterator[dict[str, Any]]:
    """Compile every kernel for sm_90a or sm_100a without a GPU; see solutions/README.md."""
    for overlap in (False, True):
        own = {"quantize": not fp8_epilogue, "fp8_input": True, "overlap": overlap}
        yield from stages.compile_stages(arch, HIDDEN, INNER, BLOCK, **own)
    yield from compile_forms("gemm1", arch, fp8_out=fp8_epilogue)
    yield from compile_forms("gemm2", arch, fp8_out=False)


@functools.cache
def _gemms(arch: str, fp8_epilogue: bool) -> tuple[GroupedGemm, GroupedGemm]:
    return GroupedGemm("gemm1", arch, fp8_out=fp8_epilogue), GroupedGemm("gemm2", arch, fp8_out=False)
