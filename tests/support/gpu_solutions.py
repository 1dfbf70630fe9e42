"""Solutions on the GPU of this host: their inputs at the full width, and their entry points."""

from __future__ import annotations

import dataclasses
from functools import cache

import pytest
import torch
from bakeoff.core.moe.geometry import Geometry
from bakeoff.core.moe.inputs import make_inputs, make_weights
from bakeoff.core.moe.routing import local_pairs, route
from bakeoff.core.moe.values import Steering
from support.solution_support import module_of, spec_of

FULL = Geometry(7168, 2048)
CAPABILITY = torch.cuda.get_device_capability() if torch.cuda.is_available() else None
BACKEND = {(9, 0): "sm_90a", (10, 0): "sm_100a"}.get(CAPABILITY)


@dataclasses.dataclass(frozen=True)
class Case:
    seq_len: int
    offset: int
    seed: int | None  # of the routing; None takes the first typical one
    factor: float = 2.5
    routing: Steering | None = None


@cache
def weights(family: str):
    return make_weights(FULL, family, 0, "cuda")


def inputs_of(tokens: int, family: str = "fib", seed: int | None = None):
    return make_inputs(FULL, Case(tokens, 32, seed), family, seed or 0, "cuda", weights=weights(family))


def active_of(inputs) -> torch.Tensor:
    arguments = (inputs["routing_logits"], inputs["routing_bias"], inputs["routed_scaling_factor"])
    pairs = local_pairs(route(*arguments, FULL), inputs["local_expert_offset"], FULL)
    active = torch.zeros(len(inputs["routing_logits"]), dtype=torch.bool, device="cuda")
    active[pairs.token] = True
    return active


def entry(name: str):
    """The solution's `run`, after a first call; skips where it has no backend or a package is missing."""
    if BACKEND not in spec_of(name).backends:
        pytest.skip(f"{name} has no {BACKEND} backend")
    run = module_of(name, "solution").run
    inputs = inputs_of(8)
    try:
        run(*inputs.values(), poisoned(inputs))
    except module_of(name, "common.checks").MissingPackage as missing:
        pytest.skip(str(missing))
    return run


def poisoned(inputs) -> torch.Tensor:
    return torch.full_like(inputs["hidden_states"], float("nan"), dtype=torch.bfloat16)
