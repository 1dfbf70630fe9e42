"""cpu backend: the host logic and the roundings of deepgemm_moe, torch in place of the device kernels.

route -> copy rows into groups that start at multiples of 128, each row marked with its expert -> GEMM1 (BF16) ->
SwiGLU and quantization (FP8) -> GEMM2 (BF16) -> weighted sum in float32 -> BF16.
"""

from __future__ import annotations

import torch

from .common.checks import MoeCall
from .common.cpu_stages import combine, grouped_gemm, lay_out, permute, quantize, route, swiglu

ALIGN = 128  # rows: DeepGEMM's contiguous layout reads one expert id per block of this many


def run_cpu(call: MoeCall) -> None:
    """Write `call.output`; all tensors on the cpu."""
    pairs = route(call)
    layout = lay_out(pairs, ALIGN)
    a = permute(call, layout)
    h = grouped_gemm(a, call.gemm1_weights, call.gemm1_weights_scale, layout).to(torch.bfloat16)
    c8 = quantize(swiglu(h.float()))
    rows = grouped_gemm(c8, call.gemm2_weights, call.gemm2_weights_scale, layout).to(torch.bfloat16)
    combine(rows, pairs, layout, call.output)
