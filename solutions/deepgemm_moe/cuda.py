"""sm_90a backend: DeepGEMM's contiguous grouped GEMM between Triton stages.

  route_tokens -> permute_rows -> GEMM1 (BF16) -> swiglu_rows (FP8) -> GEMM2 (BF16) -> combine_rows

Six launches a call. Groups start at multiples of DeepGEMM's alignment (128 rows), and DeepGEMM reads from the device
where each group's true rows end (its psum layout): unlike the layout with an expert id for each row, its cost follows
the true rows, not the buffer's bound. Activation scales are block-major (K/128, M), which DeepGEMM takes as they are.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch
import triton

from .common.checks import BLOCK, LOCAL_EXPERTS, MissingPackage, MoeCall, require
from .common.triton_stages import Plan, combine, compile_stages, permute, plan_call, route, swiglu

ALIGN = 128  # rows


def run_cuda(call: MoeCall, backend: str) -> None:
    """Enqueue one call on the current stream; `backend` is 'sm_90a'."""
    package = _load()
    plan = plan_call(call, ALIGN)
    hidden, inner, rows = call.hidden, call.intermediate, plan.rows
    fp8, bf16, f32 = torch.float8_e4m3fn, torch.bfloat16, torch.float32
    a = plan.buffer("a", (rows, hidden), fp8)
    a_scale = plan.buffer("a_scale", (hidden // BLOCK, rows), f32)
    h = plan.buffer("h", (rows, 2 * inner), bf16)
    c = plan.buffer("c", (rows, inner), fp8)
    c_scale = plan.buffer("c_scale", (inner // BLOCK, rows), f32)
    out = plan.buffer("out", (rows, hidden), bf16)

    route(call, plan)
    permute(call, plan, a, a_scale)
    grouped_gemm(package, plan, a, a_scale, call.gemm1_weights, call.gemm1_weights_scale, h)
    swiglu(plan, h, None, c, c_scale)
    grouped_gemm(package, plan, c, c_scale, call.gemm2_weights, call.gemm2_weights_scale, out)
    combine(plan, out, call.output)


def grouped_gemm(
    package: Any,
    plan: Plan,
    a: torch.Tensor,
    a_scale: torch.Tensor,
    weights: torch.Tensor,
    weights_scale: torch.Tensor,
    out: torch.Tensor,
) -> None:
    """out (M, N) bf16 = a (M, K) times weights (E, N, K) by expert."""
    package.m_grouped_fp8_gemm_nt_contiguous(
        (a, a_scale.t()),
        (weights, weights_scale),
        out,
        plan.m_end,
        use_psum_layout=True,
        expected_m_for_psum_layout=expected_rows(plan.tokens),
    )


def expected_rows(tokens: int) -> int:
    """Rows of an expert to tune for: T local pairs over 32 experts, as a power of two so that few kernels are built."""
    return triton.next_power_of_2(max(1, tokens // LOCAL_EXPERTS))


@functools.cache
def _load() -> Any:
    package = require("deep_gemm", "sgl-deep-gemm")
    if not hasattr(package, "m_grouped_fp8_gemm_nt_contiguous"):
        raise MissingPackage("deep_gemm has no m_grouped_fp8_gemm_nt_contiguous; install sgl-deep-gemm==0.1.4")
    found = package.get_mk_alignment_for_contiguous_layout()
    if found != ALIGN:
        raise MissingPackage(f"deep_gemm aligns groups to {found} rows; expected {ALIGN}: install sgl-deep-gemm==0.1.4")
    return package


def compile_kernels(arch: str, hidden: int = 7168, inner: int = 2048) -> Iterator[dict[str, Any]]:
    """Compile this solution's own kernels without a GPU; DeepGEMM compiles its GEMMs where they run."""
    yield from compile_stages(arch, hidden, inner, ALIGN)
