"""sm_100a backend: FlashInfer's `alphamoe_fp8_block_scale_aligned_moe` behind Triton stages. Never executed on a chip.

  route_tokens -> index_pairs -> interleave_gate -> zeros -> one kernel: both GEMMs, SwiGLU, FP8 and the weighted sum

The function takes what this definition has (float32 scales of 128 columns and of 128 x 128 weights) and comes without
cubins: its source is compiled at the first call. Three things are its own: tokens' pairs sorted by expert in tiles of
eight, gate and "up" rows of GEMM1's weights in turns, and an output that it adds to.

A server brings the weights into that order once, when it loads a model; here they arrive as the definition has them,
and nothing that derives from a call's inputs may outlive the call, so each call converts those of the experts that have
rows. A profile shows that time as stage "other", and the one kernel as gemm1. Sums reach the output in any order, as
BF16, so that the last bits differ from call to call.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from .common import triton_pairs as pairs
from .common import triton_stages as stages
from .common.checks import BLOCK, LOCAL_EXPERTS, TOP_K, MissingPackage, MoeCall, require
from .common.triton_stages import Plan
from .weights import compile_weights, interleave

ALIGN = 1  # rows: groups of any size
TILE = 8  # rows of the routing plan's blocks, the fewest that the kernel takes
VERSION = "0.7.4"
NAME = "alphamoe_fp8_block_scale_aligned_moe"


def run_cuda(call: MoeCall, backend: str) -> None:
    """Enqueue one call on the current stream; `backend` is 'sm_100a'."""
    fused = _load()
    plan = stages.plan_call(call, ALIGN)
    stages.route(call, plan)
    call.output.zero_()
    fused(**fused_arguments(call, plan))


def fused_arguments(call: MoeCall, plan: Plan) -> dict[str, Any]:
    """The arguments of the function, each by its name in flashinfer-python 0.7.4; enqueues the kernels that make them.

    sorted_token_ids: pairs (token * 8 + place) by expert, 8 T in the padding of each tile of eight; expert_ids: one a
    tile; num_tokens_post_padded (1,): their end. The weights hold the factor already.
    """
    tiles = call.tokens + LOCAL_EXPERTS  # at least: an expert pads one tile at most
    ids = plan.buffer("ids", (TILE * tiles,), torch.int32)
    experts = plan.buffer("experts", (tiles,), torch.int32)
    end = plan.buffer("padded_rows", (1,), torch.int32)
    x_scale = plan.buffer("x_scale", (call.tokens, call.hidden // BLOCK), torch.float32)
    pairs.index(call, plan, TILE, ids, experts, end, x_scale)
    weights, scale = interleave(plan, call.gemm1_weights, call.gemm1_weights_scale)
    return {
        "hidden_states": call.hidden_states,
        "hidden_states_scale": x_scale,
        "gemm1_weights": weights,
        "gemm1_weights_scale": scale,
        "gemm2_weights": call.gemm2_weights,
        "gemm2_weights_scale": call.gemm2_weights_scale,
        "sorted_token_ids": ids,
        "expert_ids": experts,
        "num_tokens_post_padded": end,
        "topk_weights": plan.weight,
        "top_k": TOP_K,
        "block_m": TILE,
        "routed_scaling_factor": 1.0,
        "out": call.output,
    }


@functools.cache
def _load() -> Any:
    """The function, of a FlashInfer that stands beside the one of the other solutions, or of the only one.

    Raises MissingPackage where it is absent or takes other arguments.
    """
    beside = Path(torch.__file__).parents[1] / f"flashinfer-python-{VERSION}"
    if beside.is_dir() and str(beside) not in sys.path:
        sys.path.insert(0, str(beside))
    package = require("flashinfer.fused_moe", "flashinfer-python", VERSION)
    if not hasattr(package, NAME):
        raise MissingPackage(f"flashinfer.fused_moe has no {NAME}; install flashinfer-python=={VERSION}")
    function = getattr(package, NAME)
    try:
        inspect.signature(function).bind(**dict.fromkeys(ARGUMENTS))
    except TypeError as error:
        raise MissingPackage(f"{NAME}: {error}; install flashinfer-python=={VERSION}") from error
    return function


ARGUMENTS = (
    *("hidden_states", "hidden_states_scale", "gemm1_weights", "gemm1_weights_scale"),
    *("gemm2_weights", "gemm2_weights_scale", "sorted_token_ids", "expert_ids", "num_tokens_post_padded"),
    *("topk_weights", "top_k", "block_m", "routed_scaling_factor", "out"),
)


def compile_kernels(arch: str, hidden: int = 7168, inner: int = 2048) -> Iterator[dict[str, Any]]:
    """Compile this solution's own kernels without a GPU; FlashInfer compiles its kernel where it runs."""
    yield next(stages.compile_stages(arch, hidden, inner, ALIGN))  # the first is the routing
    yield from pairs.compile_index(arch, hidden)
    yield from compile_weights(arch, hidden, inner)
