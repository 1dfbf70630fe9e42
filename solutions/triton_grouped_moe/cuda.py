"""sm_90a backend: Triton kernels alone; GEMM1 gathers its rows, so that no copy of the tokens is made.

  route_tokens -> index_rows -> GEMM1 (BF16) -> swiglu_rows (FP8) -> GEMM2 (BF16) -> combine_rows

Six launches a call; all but the first start before the end of the one before them, and wait where they need its
results. Rows of an expert are contiguous and unpadded. All activation scales are block-major.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from .common.checks import BLOCK, MoeCall
from .common.triton_gemm import compile_gemms, index, multiply
from .common.triton_stages import combine, compile_stages, plan_call, route, swiglu

ALIGN = 1  # rows: a tile may start anywhere, and writes the rows of its expert only


def run_cuda(call: MoeCall, backend: str) -> None:
    """Enqueue one call on the current stream; `backend` is 'sm_90a'."""
    plan = plan_call(call, ALIGN, overlap=True)
    hidden, inner, rows = call.hidden, call.intermediate, plan.rows
    fp8, bf16, f32 = torch.float8_e4m3fn, torch.bfloat16, torch.float32
    ids = plan.buffer("ids", (rows,), torch.int32)
    h = plan.buffer("h", (rows, 2 * inner), bf16)
    c = plan.buffer("c", (rows, inner), fp8)
    c_scale = plan.buffer("c_scale", (inner // BLOCK, rows), f32)
    out = plan.buffer("out", (rows, hidden), bf16)

    route(call, plan)
    index(plan, ids)
    x, x_scale = call.hidden_states, call.hidden_states_scale
    multiply(plan, 0, x, x_scale, call.gemm1_weights, call.gemm1_weights_scale, h, ids)
    swiglu(plan, h, None, c, c_scale)
    multiply(plan, 1, c, c_scale, call.gemm2_weights, call.gemm2_weights_scale, out)
    combine(plan, out, call.output)


def compile_kernels(arch: str, hidden: int = 7168, inner: int = 2048) -> Iterator[dict[str, Any]]:
    """Compile every kernel without a GPU."""
    own = compile_stages(arch, hidden, inner, ALIGN, overlap=True)
    yield from (kernel for kernel in own if not kernel["name"].startswith("permute_rows"))
    yield from compile_gemms(arch, hidden, inner, overlap=True)
