"""cpu backend: the host logic and the roundings of the kernels, torch in their place.

route -> permute rows into groups by expert -> GEMM1 (BF16) -> SwiGLU and quantization (FP8) -> GEMM2 (BF16) ->
weighted sum in float32 -> BF16. Where the kernels round elsewhere, round there too, and say so in solution.yaml.
"""

from __future__ import annotations

import torch

from .common.checks import MoeCall
from .common.cpu_stages import combine, grouped_gemm, lay_out, permute, quantize, route, swiglu

ALIGN = 1  # rows: where an expert's group may start; 128 if the kernels pad each group to a whole tile


def run_cpu(call: MoeCall) -> None:
    """Write `call.output`; all tensors on the cpu."""
    pairs = route(call)
    layout = lay_out(pairs, ALIGN)
    a = permute(call, layout)
    h = grouped_gemm(a, call.gemm1_weights, call.gemm1_weights_scale, layout).to(torch.bfloat16)
    c = quantize(swiglu(h.float()))
    rows = grouped_gemm(c, call.gemm2_weights, call.gemm2_weights_scale, layout).to(torch.bfloat16)
    combine(rows, pairs, layout, call.output)
