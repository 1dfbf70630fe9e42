"""cpu backend: the host logic and the roundings of FlashInfer's native path, which is the published one.

route (weights in BF16) -> groups padded to the token tile -> GEMM1, which gathers the tokens' rows itself and writes
FP8 -> SwiGLU of FP8 (FP8) -> GEMM2 (BF16) -> weighted sum in float32 -> BF16.
"""

from __future__ import annotations

import dataclasses

import torch

from .common.checks import LOCAL_EXPERTS, TOP_K, MoeCall
from .common.cpu_stages import Fp8Rows, combine, grouped_gemm, lay_out, quantize, route, swiglu

MIN_TILE, MAX_TILE = 8, 128  # tokens of a tile: the native path's ladder of powers of two


def run_cpu(call: MoeCall) -> None:
    """Write `call.output`; all tensors on the cpu."""
    pairs = route(call)
    pairs = dataclasses.replace(pairs, weight=pairs.weight.to(torch.bfloat16).float())
    layout = lay_out(pairs, token_tile(call.tokens))
    a = Fp8Rows(call.hidden_states, call.hidden_states_scale)
    h8 = quantize(grouped_gemm(a, call.gemm1_weights, call.gemm1_weights_scale, layout, gather=layout.token))
    c8 = quantize(swiglu(h8.dequantize()))
    rows = grouped_gemm(c8, call.gemm2_weights, call.gemm2_weights_scale, layout).to(torch.bfloat16)
    combine(rows, pairs, layout, call.output)


def token_tile(tokens: int) -> int:
    """The power of two at or above the mean rows of an expert if all pairs were local, within the ladder."""
    mean = max(1, tokens * TOP_K // LOCAL_EXPERTS)
    return min(max(1 << (mean - 1).bit_length(), MIN_TILE), MAX_TILE)
