"""cpu backend: the host logic and the roundings of flashinfer_alphamoe, torch in place of the device kernels.

route -> GEMM1, which gathers the tokens' rows, SwiGLU of its float32 sums and quantization (FP8) -> GEMM2, 128 columns
of the intermediate at a time; each of these sums, weighted, becomes BF16 and is added to the BF16 output.
"""

from __future__ import annotations

import torch

from .common.checks import BLOCK, MoeCall
from .common.cpu_stages import Fp8Rows, grouped_gemm, lay_out, quantize, route, swiglu

TILE = 8  # rows: the kernel's tile of tokens of one expert


def run_cpu(call: MoeCall) -> None:
    """Write `call.output`; all tensors on the cpu."""
    pairs = route(call)
    layout = lay_out(pairs, TILE)
    tokens = Fp8Rows(call.hidden_states, call.hidden_states_scale)
    c8 = quantize(
        swiglu(grouped_gemm(tokens, call.gemm1_weights, call.gemm1_weights_scale, layout, layout.token.clamp(min=0)))
    )
    call.output.zero_()
    for block in range(call.intermediate // BLOCK):
        columns = slice(block * BLOCK, (block + 1) * BLOCK)
        part = Fp8Rows(c8.data[:, columns], c8.scale[block : block + 1])
        scale = call.gemm2_weights_scale[:, :, block : block + 1]
        rows = grouped_gemm(part, call.gemm2_weights[:, :, columns], scale, layout)
        call.output.index_add_(0, pairs.token, (rows[layout.row] * pairs.weight.unsqueeze(1)).to(torch.bfloat16))
