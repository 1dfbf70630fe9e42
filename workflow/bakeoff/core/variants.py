"""Inputs with changed values and the same amount of work: what tells a solution that computes from one that remembers.

A variant has new activations and scales (secret signs and digits), new routing (tokens rolled, experts exchanged within
their groups, so that every count stays as it is), weights rolled over the experts, and a secret part of every expert's
weights rewritten. The base variant is the workload itself. Worker and referee build a variant from its four numbers
alone.
"""

from __future__ import annotations

import random
import secrets
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from bakeoff.core.moe.geometry import Geometry

if TYPE_CHECKING:
    import torch

    from bakeoff.core.moe.values import Family
    from bakeoff.traces.store import Case

WEIGHTS = ("gemm1_weights", "gemm1_weights_scale", "gemm2_weights", "gemm2_weights_scale")
REWRITTEN = ("gemm1_weights", "gemm2_weights")
ROWS_SHARE, ROWS_LEAST = 64, 8  # of an expert's rows that are rewritten: one in so many, at least so many
REPEATS = 4  # one timed call in so many has the values of the call before, and another part of the weights rewritten
GROUPS = Geometry.groups


@dataclass(frozen=True)
class Variant:
    """seed: of the workload's own values; values: secret of activations and routing; part: secret of the weights' part
    that is rewritten; experts: by how many the weights are rolled. 0: as the workload has them."""

    seed: int
    values: int = 0
    part: int = 0
    experts: int = 0

    @classmethod
    def secret(cls, seed: int, experts: int) -> Variant:
        """A variant that nobody can know beforehand, for a rank of `experts` experts."""
        return cls(seed, _secret(), _secret(), secrets.randbelow(experts - 1) + 1)

    def rewritten(self) -> Variant:
        """The same with another part of the weights rewritten: who knows inputs by a few values is wrong there."""
        return replace(self, part=_secret())

    def document(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Draws:
    """The variants of a cell's timed calls, each of them new. secret: what they are drawn from; experts: by how many
    the second set of weights is rolled, 0 if there is none; shared: how many calls in a row have the same variant."""

    seed: int
    secret: int
    experts: int
    shared: int = 1

    @classmethod
    def new(cls, seed: int, experts: int, rolled: bool = True, shared: int = 1) -> Draws:
        """experts: of a rank; rolled: whether there is a second set of weights."""
        return cls(seed, _secret(), secrets.randbelow(experts - 1) + 1 if rolled else 0, shared)

    def repeats(self, number: int) -> bool:
        """Whether a call has the values of the one before it, with another part of the weights rewritten."""
        if self.shared > 1 or number <= 0:
            return False
        return random.Random(f"{self.secret}/{number}/repeats").randrange(REPEATS) == 0

    def variant(self, number: int) -> Variant:
        """Of the call with this number; calls that are not offered for judging have negative ones."""
        first = number = number - number % self.shared
        while self.repeats(first):
            first -= 1
        values, part = random.Random(f"{self.secret}/{first}"), random.Random(f"{self.secret}/{number}/part")
        drawn = Variant(self.seed, values.getrandbits(62) | 1, 0, values.choice((0, self.experts)))
        return replace(drawn, part=part.getrandbits(62) | 1)

    def document(self) -> dict[str, Any]:
        return asdict(self)


def _secret() -> int:
    return secrets.randbits(62) | 1


def activations(
    geometry: Geometry,
    case: Case,
    family: Family,
    seed: int,
    device: torch.device | str,
    routing: tuple[torch.Tensor, torch.Tensor],
) -> dict[str, torch.Tensor | int | float]:
    """A workload's own inputs without the weights: routing_logits, routing_bias, hidden_states, its scale, offset and
    factor.

    routing: the case's own logits and bias (`moe.inputs.make_routing`); copied.
    """
    from bakeoff.core.moe.values import make_activations

    logits, bias = routing
    states, scale = make_activations(geometry, case, family, seed, device)
    return {
        "routing_logits": logits.clone(),
        "routing_bias": bias.clone(),
        "hidden_states": states,
        "hidden_states_scale": scale,
        "local_expert_offset": int(case.offset),
        "routed_scaling_factor": float(case.factor),
    }


def new_values(own: dict[str, Any], variant: Variant, into: dict[str, Any] | None = None) -> dict[str, Any]:
    """A variant's inputs without the weights. own: the workload's, as `activations` gives them; `into`, of the same
    shapes, receives them in place, without a wait for the device."""
    import torch

    if into is None:
        into = {name: value.clone() if isinstance(value, torch.Tensor) else value for name, value in own.items()}
    if not variant.values:
        for name, value in own.items():
            if isinstance(value, torch.Tensor):
                into[name].copy_(value)
        return into
    states, scale, logits = own["hidden_states"], own["hidden_states_scale"], own["routing_logits"]
    (tokens, hidden), device = states.shape, states.device
    chance = torch.Generator().manual_seed(variant.values)
    shift = int(torch.randint(tokens, (), generator=chance))
    signs = (torch.randint(2, (hidden,), generator=chance, dtype=torch.uint8) << 7).to(device)
    digits = torch.randint(1 << 23, (len(scale), 1), generator=chance, dtype=torch.int32).to(device)
    size = logits.shape[1] // GROUPS
    order = torch.cat([torch.randperm(size, generator=chance) + group * size for group in range(GROUPS)]).to(device)
    new_states, new_scale = into["hidden_states"].view(torch.uint8), into["hidden_states_scale"].view(torch.int32)
    for start, end, to in ((shift, tokens, 0), (0, shift, tokens - shift)):  # tokens rolled by `shift`
        rows, columns = slice(start, end), slice(to, to + end - start)
        if start < end:
            torch.bitwise_xor(states.view(torch.uint8)[rows], signs, out=new_states[columns])
            torch.bitwise_xor(scale.view(torch.int32)[:, rows], digits, out=new_scale[:, columns])
            torch.index_select(logits[rows], 1, order, out=into["routing_logits"][columns])
    torch.index_select(own["routing_bias"], 0, order, out=into["routing_bias"])
    return into


def rewrite(weights: dict[str, torch.Tensor], part: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Give a secret part of every expert's weights another expert's values, in place; returns what `restore` takes."""
    import torch

    chance, undo = torch.Generator().manual_seed(part), []
    for name in REWRITTEN:
        data = weights[name].view(torch.uint8)
        rows = data.shape[1]
        count = max(ROWS_LEAST, rows // ROWS_SHARE)
        to, source = torch.randint(rows - count + 1, (2,), generator=chance).tolist()
        place = data[:, to : to + count]
        undo.append((place, place.clone()))
        place.copy_(data[:, source : source + count].flip(0))
    return undo


def restore(undo: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Take back what `rewrite` did."""
    for place, before in undo:
        place.copy_(before)


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
