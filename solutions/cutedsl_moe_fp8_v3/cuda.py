"""GPU backends of v3: GEMM1 writes bfloat16, a kernel of its own quantizes it, and SwiGLU reads that.

Every step is one kernel on the current stream, and no row count reaches the host. Entry points: `run_cuda`,
`compile_kernels`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch

from .common import triton_stages as stages
from .common.checks import BLOCK, MoeCall
from .common.cute_gemm import GroupedGemm, check_sizes, compile_forms

HIDDEN, INNER = 7168, 2048  # sizes that the ahead-of-time build compiles the Triton stages for


def run_cuda(call: MoeCall, backend: str) -> None:
    """Enqueue one call; backend is sm_90a or sm_100a. Writes call.output (T, H) bf16.

    Raises ValueError for an H that is no multiple of 256, and MissingPackage, before any launch.
    """
    gemms = _gemms(backend)
    plan = stages.plan_call(call, align=BLOCK)
    rows, hidden, inner = plan.rows, call.hidden, call.intermediate
    for weights in (call.gemm1_weights, call.gemm2_weights):
        check_sizes(*weights.shape, rows)
    fp8, f32 = torch.float8_e4m3fn, torch.float32
    groups = (plan.m_indptr, plan.m_count)

    stages.route(call, plan)
    a = plan.buffer("a", (rows, hidden), fp8)
    a_scale = plan.buffer("a_scale", (hidden // BLOCK, rows), f32)
    stages.permute(call, plan, a, a_scale)

    wide = plan.buffer("wide", (rows, 2 * inner), torch.bfloat16)
    gemms[0](a, a_scale, call.gemm1_weights, call.gemm1_weights_scale, wide, None, *groups, call.tokens)
    h = plan.buffer("h", (rows, 2 * inner), fp8)
    h_scale = plan.buffer("h_scale", (2 * inner // BLOCK, rows), f32)
    stages.quantize(plan, wide, h, h_scale)

    c = plan.buffer("c", (rows, inner), fp8)
    c_scale = plan.buffer("c_scale", (inner // BLOCK, rows), f32)
    stages.swiglu(plan, h, h_scale, c, c_scale)

    o = plan.buffer("o", (rows, hidden), torch.bfloat16)
    gemms[1](c, c_scale, call.gemm2_weights, call.gemm2_weights_scale, o, None, *groups, call.tokens)
    stages.combine(plan, o, call.output)


def compile_kernels(arch: str) -> Iterator[dict[str, Any]]:
    """Compile every kernel for sm_90a or sm_100a without a GPU; see solutions/README.md."""
    yield from stages.compile_stages(arch, HIDDEN, INNER, BLOCK, quantize=True, fp8_input=True)
    yield from compile_forms("gemm1", arch, fp8_out=False)
    yield from compile_forms("gemm2", arch, fp8_out=False)


@functools.cache
def _gemms(arch: str) -> tuple[GroupedGemm, GroupedGemm]:
    return GroupedGemm("gemm1", arch, fp8_out=False), GroupedGemm("gemm2", arch, fp8_out=False)
