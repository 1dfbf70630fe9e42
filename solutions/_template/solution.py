"""Entry point: checks the arguments, picks the backend for the tensors' device, calls it."""

from __future__ import annotations

import torch

from .common.checks import check_call, pick_backend
from .cpu import run_cpu

BACKENDS = ("cpu",)


def run(
    routing_logits: torch.Tensor,
    routing_bias: torch.Tensor,
    hidden_states: torch.Tensor,
    hidden_states_scale: torch.Tensor,
    gemm1_weights: torch.Tensor,
    gemm1_weights_scale: torch.Tensor,
    gemm2_weights: torch.Tensor,
    gemm2_weights_scale: torch.Tensor,
    local_expert_offset: int,
    routed_scaling_factor: float,
    output: torch.Tensor,
) -> None:
    """Write the layer's result for this rank's 32 experts to `output` (T, H) bf16; shapes as in solutions/README.md.

    Raises TypeError, ValueError or UnsupportedDevice before any work.
    """
    call = check_call(
        routing_logits,
        routing_bias,
        hidden_states,
        hidden_states_scale,
        gemm1_weights,
        gemm1_weights_scale,
        gemm2_weights,
        gemm2_weights_scale,
        local_expert_offset,
        routed_scaling_factor,
        output,
    )
    pick_backend(call.device, BACKENDS)
    run_cpu(call)
