"""Small geometries and cases, and an independent implementation of the layer in plain Python and float64."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from bakeoff.core.moe.geometry import Geometry
from bakeoff.core.moe.values import Steering

NARROW = Geometry(hidden=512, intermediate=256)
TINY = Geometry(hidden=256, intermediate=128)
BLOCK = 128


@dataclass(frozen=True)
class SmallCase:
    """The least that the input generator asks of a workload."""

    seq_len: int
    offset: int = 0
    factor: float = 2.5
    seed: int | None = 0
    routing: Steering | None = None


def constant_inputs(geometry: Geometry, logits: torch.Tensor, bias: torch.Tensor, offset: int, seed: int = 0) -> dict:
    """Inputs with a given routing and random values (from torch's generator: nothing here is pinned)."""
    g = torch.Generator().manual_seed(seed)
    made: dict = {"routing_logits": logits, "routing_bias": bias}
    for name, shape in list(geometry.shapes(len(logits)).items())[2:]:
        values = torch.randn(shape, generator=g)
        made[name] = values if name.endswith("scale") else values.clamp(-2, 2).to(torch.float8_e4m3fn)
    return made | {"local_expert_offset": offset, "routed_scaling_factor": 2.5}


def random_routing(tokens: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(tokens, 256, generator=g), torch.randn(256, generator=g).mul_(0.01).add_(5).to(torch.bfloat16)


def plain_choice(scores: list[float], biased: list[float]) -> list[int]:
    """The eight experts of one token, best first: lists and sorts, ties by the lowest id."""
    groups = [biased[32 * g : 32 * g + 32] for g in range(8)]
    value = [np.float32(sum(np.float32(v) for v in sorted(group)[-2:])) for group in groups]
    kept = sorted(range(8), key=lambda g: (-value[g], g))[:4]
    candidates = [e for e in range(256) if e // 32 in kept]
    return sorted(candidates, key=lambda e: (-biased[e], e))[:8]


def plain_route(logits: torch.Tensor, bias: torch.Tensor, factor: float) -> tuple[list[list[int]], list[list[float]]]:
    """ids and weights, token by token; scores and their sums in float32, as the definition says."""
    ids, weights = [], []
    offsets = bias.float().numpy()
    for row in logits.tolist():
        scores = np.array([1 / (1 + math.exp(-x)) for x in row]).astype(np.float32)
        chosen = plain_choice(scores.tolist(), (scores + offsets).tolist())
        picked = [float(scores[e]) for e in chosen]
        ids.append(chosen)
        weights.append([p / (sum(picked) + 1e-20) * factor for p in picked])
    return ids, weights


def plain_forward(inputs: dict) -> np.ndarray:
    """Output (T, H) in float64, one token and one expert at a time."""
    ids, weights = plain_route(inputs["routing_logits"], inputs["routing_bias"], inputs["routed_scaling_factor"])
    x = _double(inputs["hidden_states"]) * np.repeat(_double(inputs["hidden_states_scale"]).T, BLOCK, axis=1)
    w1, w2 = (
        _double(inputs[name]) * _double(inputs[f"{name}_scale"]).repeat(BLOCK, axis=1).repeat(BLOCK, axis=2)
        for name in ("gemm1_weights", "gemm2_weights")
    )
    inner, offset = w2.shape[2], inputs["local_expert_offset"]
    output = np.zeros(x.shape)
    for token, (chosen, weight) in enumerate(zip(ids, weights, strict=True)):
        for e, factor in zip(chosen, weight, strict=True):
            if offset <= e < offset + len(w1):
                h = w1[e - offset] @ x[token]
                up, gate = h[:inner], h[inner:]
                output[token] += factor * (w2[e - offset] @ (up * gate / (1 + np.exp(-gate))))
    return output


def _double(tensor: torch.Tensor) -> np.ndarray:
    return tensor.double().numpy() if tensor.dtype != torch.float8_e4m3fn else tensor.float().double().numpy()
