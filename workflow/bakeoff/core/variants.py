"""Inputs with changed values and the same amount of work: what tells a solution that computes from one that remembers.

A variant has new activations and scales (secret signs and digits), new routing (tokens rolled, experts exchanged within
their groups, so that every count stays as it is), weights rolled over the experts, and a secret part of every expert's
weights rewritten. The base variant is the workload itself. Worker and referee build a variant from its four numbers
alone: `draw` turns them into tensors, for many variants at once; `Values.make` and `rewrite` then only enqueue.
"""

from __future__ import annotations

import functools
import hashlib
import secrets
from collections.abc import Sequence
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
        # One of each four: by chance alone, one cell in a hundred would have none among its sixteen.
        return self._number("repeats", number // REPEATS) % REPEATS == number % REPEATS

    def variant(self, number: int) -> Variant:
        """Of the call with this number; calls that are not offered for judging have negative ones."""
        first = number = number - number % self.shared
        while self.repeats(first):
            first -= 1
        experts = self.experts if self._number("experts", first) % 2 else 0
        return Variant(self.seed, self._number("values", first) | 1, self._number("part", number) | 1, experts)

    def _number(self, what: str, call: int) -> int:
        """62 bits that nobody knows without the secret."""
        text = f"{self.secret}/{call}/{what}".encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) >> 2

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


@dataclass(frozen=True)
class Drawn:
    """What makes a variant, its tensors on the device of the inputs.

    shift: by how many tokens are rolled; order: the expert that comes to each place, (experts,) int64; signs: bits of
    each row of activations that are flipped, (hidden,) uint8; digits: the same of their scales, (hidden/128, 1) int32;
    flips: by name of a rewritten weight, its rows and the bits of each of them that are flipped, (columns,) uint8.
    """

    variant: Variant
    shift: int
    order: torch.Tensor
    signs: torch.Tensor
    digits: torch.Tensor
    flips: dict[str, tuple[slice, torch.Tensor]]


def draw(geometry: Geometry, tokens: int, variants: Sequence[Variant], device: torch.device | str) -> list[Drawn]:
    """Make the tensors of some variants of a workload with so many tokens. They come to the device in one copy, the
    only wait for it: a wait before each call would cost more than all that is done around one."""
    import torch

    hidden, inner, experts = geometry.hidden, geometry.intermediate, geometry.experts
    blocks = -(-hidden // geometry.block // 2) * 2  # a whole number of 8 bytes
    # Bytes: keys of the order, digits, shift, packed signs; then packed flips and places of the weights' parts.
    values, part = (4 * experts, 4 * blocks, 8, hidden // 8), ((hidden + inner) // 8, 8, 8)
    data = bytearray()
    for variant in variants:
        for secret, sizes in ((variant.values, values), (variant.part, part)):
            data += hashlib.shake_128(str(secret).encode()).digest(sum(sizes))
    drawn = torch.frombuffer(data, dtype=torch.uint8).view(len(variants), -1)
    keys, digits, shift, bits, *places = drawn.split((*values[:3], values[3] + part[0], *part[1:]), dim=1)
    order = keys.contiguous().view(torch.int32).view(-1, GROUPS, geometry.group_size).argsort(dim=2, stable=True)
    order = (order + torch.arange(0, experts, geometry.group_size).unsqueeze(1)).flatten(1)
    digits = digits.contiguous().view(torch.int32) & ((1 << 23) - 1)
    bits = torch.index_select(_sign_bits(), 0, bits.flatten().int()).view(torch.uint8).view(len(variants), -1)
    moved = torch.cat([order.view(torch.uint8), digits.view(torch.uint8), bits], dim=1).to(device)
    order, digits, signs, *flips = moved.split((8 * experts, 4 * blocks, hidden, hidden, inner), dim=1)
    order, digits = order.view(torch.int64), digits.view(torch.int32)[:, : hidden // geometry.block].unsqueeze(2)
    shifts, *starts = ((each.contiguous().view(torch.int64)[:, 0] >> 1).tolist() for each in (shift, *places))
    found = []
    for number, variant in enumerate(variants):
        rows = (_part(height, start[number]) for height, start in zip((2 * inner, hidden), starts, strict=True))
        parts = dict(zip(REWRITTEN, zip(rows, (flip[number] for flip in flips), strict=True), strict=True))
        by = shifts[number] % tokens
        found.append(Drawn(variant, by, order[number], signs[number], digits[number], parts if variant.part else {}))
    return found


def _part(height: int, start: int) -> slice:
    """The rows of a matrix of this height that are rewritten. start: any number."""
    count = max(ROWS_LEAST, height // ROWS_SHARE)
    first = start % (height - count + 1)
    return slice(first, first + count)


@functools.cache
def _sign_bits() -> torch.Tensor:
    """For each byte its eight bits as the sign bits of eight bytes: (256,) int64."""
    import torch

    numbers, places = torch.arange(256, dtype=torch.uint8), torch.arange(8, dtype=torch.uint8)
    return ((numbers.unsqueeze(1) << places) & 0x80).view(torch.int64)[:, 0]


class Values:
    """A workload's inputs without the weights, from which a variant's are made by four operations on the device. They
    are held twice in a row, so that rolled tokens are one slice."""

    def __init__(self, own: dict[str, Any]) -> None:
        """own: as `activations` gives them; copied."""
        import torch

        states, scale, logits = own["hidden_states"], own["hidden_states_scale"], own["routing_logits"]
        self.tokens, self._bias = len(states), own["routing_bias"].clone()
        self._states = torch.cat([states.view(torch.uint8)] * 2)
        self._scale = torch.cat([scale.view(torch.int32)] * 2, dim=1)
        self._logits = torch.cat([logits] * 2)

    def make(self, drawn: Drawn, into: dict[str, Any]) -> dict[str, Any]:
        """A variant's inputs without the weights; `into`, of the same shapes, receives them in place, without a wait
        for the device."""
        import torch

        new_states, new_scale = into["hidden_states"].view(torch.uint8), into["hidden_states_scale"].view(torch.int32)
        if not drawn.variant.values:
            for place, own in ((new_states, self._states), (into["routing_logits"], self._logits)):
                place.copy_(own[: self.tokens])
            new_scale.copy_(self._scale[:, : self.tokens])
            into["routing_bias"].copy_(self._bias)
            return into
        rows = slice(drawn.shift, drawn.shift + self.tokens)
        torch.bitwise_xor(self._states[rows], drawn.signs, out=new_states)
        torch.bitwise_xor(self._scale[:, rows], drawn.digits, out=new_scale)
        torch.index_select(self._logits[rows], 1, drawn.order, out=into["routing_logits"])
        torch.index_select(self._bias, 0, drawn.order, out=into["routing_bias"])
        return into


def copied(parts: dict[str, Any]) -> dict[str, Any]:
    """The same values in tensors of their own."""
    return {name: value.clone() if hasattr(value, "clone") else value for name, value in parts.items()}


def rewrite(weights: dict[str, torch.Tensor], drawn: Drawn) -> None:
    """Flip the signs of half of the columns in a secret part of every expert's weights, in place; a second time takes
    it back."""
    import torch

    for name, (rows, flips) in drawn.flips.items():
        place = weights[name].view(torch.uint8)[:, rows]
        torch.bitwise_xor(place, flips, out=place)


def roll_weights(weights: dict[str, torch.Tensor], by: int, into: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Give `into`, which may be `weights` itself, expert e's values at (e + by) modulo the number of experts."""
    import torch

    for name in WEIGHTS:
        # Bytes, because torch moves float8 on some devices only.
        source, place = weights[name].view(torch.uint8), into[name].view(torch.uint8)
        source = source.clone() if into is weights else source
        count = by % len(source)
        place[count:].copy_(source[: len(source) - count])
        place[:count].copy_(source[len(source) - count :])
    return into


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
