"""Inputs with changed values and the same amount of work: what tells a solution that computes from one that remembers.

A variant draws other activations, rolls the tokens' routing rows (so that every count stays as it is) and rolls the
weights over the experts. The base variant is the workload itself. Worker and referee build a variant from its three
numbers alone.
"""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from bakeoff.core.moe.geometry import Geometry

if TYPE_CHECKING:
    import torch

    from bakeoff.core.moe.values import Family
    from bakeoff.traces.store import Case

WEIGHTS = ("gemm1_weights", "gemm1_weights_scale", "gemm2_weights", "gemm2_weights_scale")


@dataclass(frozen=True)
class Variant:
    """seed: of the activations; tokens, experts: by how many rows the routing and the weights are rolled."""

    seed: int
    tokens: int = 0
    experts: int = 0

    @classmethod
    def secret(cls, tokens: int, experts: int) -> Variant:
        """A variant that nobody can know beforehand, for a workload of `tokens` tokens and a rank of `experts`
        experts."""
        return cls(
            secrets.randbelow(2**30) + 2**30,
            secrets.randbelow(max(1, tokens - 1)) + (tokens > 1),
            secrets.randbelow(experts - 1) + 1,
        )

    def document(self) -> dict[str, Any]:
        return asdict(self)


def activations(
    geometry: Geometry,
    case: Case,
    family: Family,
    variant: Variant,
    device: torch.device | str,
    routing: tuple[torch.Tensor, torch.Tensor],
) -> dict[str, torch.Tensor | int | float]:
    """A variant's inputs without the weights: routing_logits, routing_bias, hidden_states, its scale, offset and
    factor.

    routing: the case's own logits and bias (`moe.inputs.make_routing`), the same for all its variants; copied.
    """
    from bakeoff.core.moe.values import make_activations

    logits, bias = routing
    states, scale = make_activations(geometry, case, family, variant.seed, device)
    return {
        "routing_logits": logits.roll(variant.tokens, 0),
        "routing_bias": bias.clone(),
        "hidden_states": states,
        "hidden_states_scale": scale,
        "local_expert_offset": int(case.offset),
        "routed_scaling_factor": float(case.factor),
    }


def roll_weights(
    weights: dict[str, torch.Tensor], by: int, into: dict[str, torch.Tensor] | None = None
) -> dict[str, torch.Tensor]:
    """The weights with expert e's values at (e + by) modulo the number of experts; `into` receives them in place."""
    import torch

    rolled = {}
    for name in WEIGHTS:
        source = weights[name]
        # Bytes, because torch moves float8 on some devices only.
        moved = source.view(torch.uint8).roll(by, 0).view(source.dtype)
        if into is not None:
            into[name].view(torch.uint8).copy_(moved.view(torch.uint8))
            moved = into[name]
        rolled[name] = moved
    return rolled


def in_order(parts: dict[str, Any], weights: dict[str, torch.Tensor]) -> list[Any]:
    """All ten inputs in the definition's order."""
    everything = {**parts, **weights}
    return [everything[name] for name in INPUTS]


INPUTS = (
    "routing_logits",
    "routing_bias",
    "hidden_states",
    "hidden_states_scale",
    *WEIGHTS,
    "local_expert_offset",
    "routed_scaling_factor",
)
