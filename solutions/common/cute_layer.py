"""The layer around the CuTeDSL grouped GEMMs, as v3 and v3.2 run it: they differ in who quantizes GEMM1's result.

  route_tokens -> permute_rows -> GEMM1 -> [quantize_rows] -> swiglu_rows (FP8) -> GEMM2 (BF16) -> combine_rows

Every step is one kernel on the current stream, and no row count reaches the host. Entry points: `run_layer`,
`compile_layer`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch

from . import triton_stages as stages
from .checks import BLOCK, MoeCall
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
    rows, hidden, inner = plan.rows, call.hidden, call.intermediate
    for weights in (call.gemm1_weights, call.gemm2_weights):
        experts, columns, depth = weights.shape
        check_sizes(experts, columns, depth, rows)
    fp8, bf16, f32 = torch.float8_e4m3fn, torch.bfloat16, torch.float32
    groups = (plan.m_indptr, plan.m_count)
    a = plan.buffer("a", (rows, hidden), fp8)
    a_scale = plan.buffer("a_scale", (hidden // BLOCK, rows), f32)
    h = plan.buffer("h", (rows, 2 * inner), fp8)
    h_scale = plan.buffer("h_scale", (2 * inner // BLOCK, rows), f32)
    c = plan.buffer("c", (rows, inner), fp8)
    c_scale = plan.buffer("c_scale", (inner // BLOCK, rows), f32)
    o = plan.buffer("o", (rows, hidden), bf16)

    stages.route(call, plan)
    stages.permute(call, plan, a, a_scale)
    if fp8_epilogue:
        gemm1(a, a_scale, call.gemm1_weights, call.gemm1_weights_scale, h, h_scale, *groups, call.tokens)
    else:
        wide = plan.buffer("wide", (rows, 2 * inner), bf16)
        gemm1(a, a_scale, call.gemm1_weights, call.gemm1_weights_scale, wide, None, *groups, call.tokens)
        stages.quantize(plan, wide, h, h_scale)
    stages.swiglu(plan, h, h_scale, c, c_scale)
    gemm2(c, c_scale, call.gemm2_weights, call.gemm2_weights_scale, o, None, *groups, call.tokens)
    stages.combine(plan, o, call.output)


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
