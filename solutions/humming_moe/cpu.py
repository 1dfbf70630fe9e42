"""cpu backend: the host logic and the roundings of humming_moe, torch in place of the device kernels.

route -> GEMM1 (BF16) -> SwiGLU and quantization (FP8) -> GEMM2 (BF16) -> weighted sum in float32 -> BF16, with the rows
read through an index up to INDEXED_TOKENS tokens, and copied into groups above.
"""

from __future__ import annotations

import torch

from .common.checks import MoeCall
from .common.cpu_stages import Fp8Rows, combine, grouped_gemm, lay_out, permute, quantize, route, swiglu
from .forms import is_indexed

ALIGN = 1  # rows: both forms take groups of any size


def run_cpu(call: MoeCall) -> None:
    """Write `call.output`; all tensors on the cpu."""
    pairs = route(call)
    layout = lay_out(pairs, ALIGN)
    first = (call.gemm1_weights, call.gemm1_weights_scale)
    if is_indexed(call.tokens):
        x = Fp8Rows(call.hidden_states, call.hidden_states_scale)
        h = grouped_gemm(x, *first, layout, gather=layout.token).to(torch.bfloat16)
    else:
        h = grouped_gemm(permute(call, layout), *first, layout).to(torch.bfloat16)
    c8 = quantize(swiglu(h.float()))
    rows = grouped_gemm(c8, call.gemm2_weights, call.gemm2_weights_scale, layout).to(torch.bfloat16)
    combine(rows, pairs, layout, call.output)
