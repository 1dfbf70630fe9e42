"""cpu backend: the host logic and the roundings of triton_grouped_moe, torch in place of the device kernels.

route -> index the rows of each expert's group, without padding -> GEMM1 gathers its rows (BF16) -> SwiGLU and
quantization (FP8) -> GEMM2 (BF16) -> weighted sum in float32 -> BF16.
"""

from __future__ import annotations

import torch

from .common.checks import MoeCall
from .common.cpu_stages import Fp8Rows, combine, grouped_gemm, lay_out, quantize, route, swiglu

ALIGN = 1  # rows: a tile may start anywhere, and writes the rows of its expert only


def run_cpu(call: MoeCall) -> None:
    """Write `call.output`; all tensors on the cpu."""
    pairs = route(call)
    layout = lay_out(pairs, ALIGN)
    x = Fp8Rows(call.hidden_states, call.hidden_states_scale)
    h = grouped_gemm(x, call.gemm1_weights, call.gemm1_weights_scale, layout, gather=layout.token).to(torch.bfloat16)
    c8 = quantize(swiglu(h.float()))
    rows = grouped_gemm(c8, call.gemm2_weights, call.gemm2_weights_scale, layout).to(torch.bfloat16)
    combine(rows, pairs, layout, call.output)
