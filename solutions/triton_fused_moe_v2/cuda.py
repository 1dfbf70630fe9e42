"""GPU backends: the grouped GEMM of sgl_kernel between Triton stages.

  route_tokens -> permute_rows -> GEMM1 (BF16) -> swiglu_rows (FP8) -> GEMM2 (BF16) -> combine_rows

Eight launches a call: four Triton kernels, and for each GEMM a kernel that fills its pointer tables and the GEMM. Rows
of an expert are contiguous and unpadded; the activation scales lie row by row (M, K/128), as sgl_kernel reads them.
The sm_100a path makes the same calls and has never been executed.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch

from .common.checks import BLOCK, LOCAL_EXPERTS, MissingPackage, MoeCall, require
from .common.triton_stages import Plan, combine, compile_stages, permute, plan_call, route, swiglu

ALIGN = 1  # rows: each expert has its own pointers
# sgl_kernel takes its small-M kernel, weights as the M operand, for `a` of up to SMALL_ROWS rows. It is handed a view
# of the buffer that makes it choose by T instead, the expected number of local pairs: on an H100 the large kernel wins
# from about T = 640 on, while the buffer, made for the bound of 8 T pairs, passes 2048 rows at T = 257.
SMALL_ROWS = 2048
SMALL_TOKENS = 640
WORKSPACE_BYTES = 1 << 20  # tensor maps of every SM and group: 128 bytes each, 4 an SM
SCALE_LAYOUT_INTS = 5  # int32 that sgl_kernel keeps of a group's scale layout


def run_cuda(call: MoeCall, backend: str) -> None:
    """Enqueue one call on the current stream; `backend` is 'sm_90a' or 'sm_100a'."""
    gemm = _load_gemm()
    plan = plan_call(call, ALIGN)
    hidden, inner = call.hidden, call.intermediate
    rows = min(plan.rows, SMALL_ROWS) if plan.tokens <= SMALL_TOKENS else plan.rows
    fp8, bf16, f32 = torch.float8_e4m3fn, torch.bfloat16, torch.float32
    for name, columns, dtype in (("a", hidden, fp8), ("h", 2 * inner, bf16), ("c", inner, fp8), ("out", hidden, bf16)):
        plan.buffer(name, (plan.rows, columns), dtype)  # room for every pair; what follows are views of the first rows
    a = plan.buffer("a", (rows, hidden), fp8)
    a_scale = plan.buffer("a_scale", (plan.rows, hidden // BLOCK), f32)
    h = plan.buffer("h", (rows, 2 * inner), bf16)
    c = plan.buffer("c", (rows, inner), fp8)
    c_scale = plan.buffer("c_scale", (plan.rows, inner // BLOCK), f32)
    out = plan.buffer("out", (rows, hidden), bf16)

    route(call, plan, problems=True)
    permute(call, plan, a, a_scale, layout="row")
    grouped_gemm(gemm, plan, 0, a, a_scale, call.gemm1_weights, call.gemm1_weights_scale, h)
    swiglu(plan, h, None, c, c_scale, layout="row")
    grouped_gemm(gemm, plan, 1, c, c_scale, call.gemm2_weights, call.gemm2_weights_scale, out)
    combine(plan, out, call.output)


def grouped_gemm(
    gemm: Any,
    plan: Plan,
    which: int,
    a: torch.Tensor,
    a_scale: torch.Tensor,
    weights: torch.Tensor,
    weights_scale: torch.Tensor,
    out: torch.Tensor,
) -> None:
    """out (M, N) bf16 = a (M, K) times weights (E, N, K) by expert; GEMM1 or GEMM2 (`which` 0 or 1).

    All arguments by position, in the order of the operator's schema: its Python wrapper has had the same one since
    sgl-kernel 0.3.21. `a` and `out` may be views of their first rows: the operator reads offsets and sizes from tables.
    """
    n, k = weights.shape[1:]
    tables = plan.cached(("tables", which, n, k), lambda: _tables(plan, which, n, k))
    gemm(
        out,
        *tables["pointers"],
        a,
        weights.transpose(1, 2),
        a_scale,
        weights_scale.transpose(1, 2),
        *tables["strides"],
        *tables["scale_layouts"],
        tables["problems"],
        tables["offsets"],
        tables["workspace"],
    )


def _tables(plan: Plan, which: int, n: int, k: int) -> dict[str, Any]:
    """The small tensors that the operator fills or reads, in the order of its schema."""
    pointers = ("a_ptrs", "b_ptrs", "out_ptrs", "a_scales_ptrs", "b_scales_ptrs")
    layout = (LOCAL_EXPERTS, SCALE_LAYOUT_INTS)
    return {
        "pointers": [plan.buffer(name, (LOCAL_EXPERTS,), torch.int64) for name in pointers],
        "strides": [_full(k, plan.device), _full(k, plan.device), _full(n, plan.device)],
        "scale_layouts": [plan.buffer(name, layout, torch.int32) for name in ("layout_sfa", "layout_sfb")],
        "problems": plan.problems[which],
        "offsets": plan.m_indptr[:LOCAL_EXPERTS],
        "workspace": plan.buffer("workspace", (WORKSPACE_BYTES,), torch.uint8),
    }


@functools.cache
def _full(value: int, device: torch.device) -> torch.Tensor:
    return torch.full((LOCAL_EXPERTS,), value, dtype=torch.int64, device=device)


@functools.cache
def _load_gemm() -> Any:
    package = require("sgl_kernel", "sglang-kernel")
    name = "fp8_blockwise_scaled_grouped_mm"
    if not hasattr(package, name):
        found = getattr(package, "__version__", "unknown")
        raise MissingPackage(f"sgl_kernel {found} has no {name}; install sglang-kernel==0.4.6 or sgl-kernel==0.3.21")
    return getattr(package, name)


def compile_kernels(arch: str, hidden: int = 7168, inner: int = 2048) -> Iterator[dict[str, Any]]:
    """Compile this solution's own kernels without a GPU; sgl_kernel ships its GEMMs compiled."""
    yield from compile_stages(arch, hidden, inner, ALIGN, problems=True, layout="row")
