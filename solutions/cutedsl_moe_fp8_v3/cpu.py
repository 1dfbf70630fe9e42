"""cpu backend: the host logic and the roundings of v3, torch in place of the device kernels.

route -> copy rows into groups that start at multiples of 128 -> GEMM1 (BF16) -> quantize -> SwiGLU of FP8 (FP8) ->
GEMM2 (BF16) -> weighted sum in float32 -> BF16.
"""

from __future__ import annotations

import torch

from .common.checks import MoeCall
from .common.cpu_stages import combine, grouped_gemm, lay_out, permute, quantize, route, swiglu

ALIGN = 128  # rows: the GEMM's M tile, so that no tile spans two experts


def run_cpu(call: MoeCall) -> None:
    """Write `call.output`; all tensors on the cpu."""
    pairs = route(call)
    layout = lay_out(pairs, ALIGN)
    a = permute(call, layout)
    h = grouped_gemm(a, call.gemm1_weights, call.gemm1_weights_scale, layout).to(torch.bfloat16)
    h8 = quantize(h)
    c8 = quantize(swiglu(h8.dequantize()))
    rows = grouped_gemm(c8, call.gemm2_weights, call.gemm2_weights_scale, layout).to(torch.bfloat16)
    combine(rows, pairs, layout, call.output)
