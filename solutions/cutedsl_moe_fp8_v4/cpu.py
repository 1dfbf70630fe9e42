"""cpu backend: the host logic and the roundings of v4, torch in place of the device kernels.

route -> GEMM1, whose loads gather the tokens' rows, SwiGLU of its float32 sums and quantization (FP8) -> GEMM2 (BF16)
->
weighted sum in float32 -> BF16.
"""

from __future__ import annotations

import torch

from .common.checks import MoeCall
from .common.cpu_stages import Fp8Rows, combine, grouped_gemm, lay_out, quantize, route, swiglu

ALIGN = 128  # rows: the token tile, so that no tile spans two experts


def run_cpu(call: MoeCall) -> None:
    """Write `call.output`; all tensors on the cpu."""
    pairs = route(call)
    layout = lay_out(pairs, ALIGN)
    tokens = Fp8Rows(call.hidden_states, call.hidden_states_scale)
    h = grouped_gemm(tokens, call.gemm1_weights, call.gemm1_weights_scale, layout, layout.token.clamp(min=0))
    c8 = quantize(swiglu(h))
    rows = grouped_gemm(c8, call.gemm2_weights, call.gemm2_weights_scale, layout).to(torch.bfloat16)
    combine(rows, pairs, layout, call.output)
