"""Tokens whose routing a correct float32 implementation may decide either way, and what else they may come out as.

`Ambiguity.of` returns None where no token is ambiguous (always so for synthetic routing). The alternatives of a token
are computed only when a judge asks for them.
"""

from collections.abc import Iterator
from itertools import combinations, islice

import torch

from bakeoff.core.moe import routing
from bakeoff.core.moe.emulate import DequantizedWeights, Emulator, Inputs, Weights, _tensor
from bakeoff.core.moe.geometry import Geometry
from bakeoff.core.moe.reference import choice_scores
from bakeoff.schema.gates import EXACT, Rounding

# Ties are between two or three experts in practice; a token with more admissible selections is held to the first ones.
SELECTION_LIMIT = 64


class Ambiguity:
    """The ambiguous tokens of one workload. `flags`: (T,) bool."""

    def __init__(
        self,
        geometry: Geometry,
        inputs: Inputs,
        flags: torch.Tensor,
        rounding: Rounding = EXACT,
        weights: Weights | None = None,
    ) -> None:
        self.geometry, self.inputs, self.flags, self.rounding = geometry, inputs, flags, rounding
        self._weights: Weights = DequantizedWeights(inputs) if weights is None else weights

    @classmethod
    def of(
        cls,
        geometry: Geometry,
        inputs: Inputs,
        routed: routing.Routing,
        rounding: Rounding = EXACT,
        weights: Weights | None = None,
    ) -> "Ambiguity | None":
        """The ambiguous tokens of a routing, or None. rounding: of the solution that is judged."""
        if not bool(routed.ambiguous.any()):
            return None
        return cls(geometry, inputs, routed.ambiguous, rounding, weights)

    def rows(self, token: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The token's output row under each admissible selection: exact, and rounded as declared, each (n, H)
        bfloat16."""
        selections = self.selections(token)
        offset, local = int(self.inputs["local_expert_offset"]), self.geometry.local_experts
        # One pair for every local expert that any selection names; a selection is then a vector of weights over them.
        experts = sorted({e - offset for ids, _ in selections for e in ids if 0 <= e - offset < local})
        mix = torch.zeros(len(selections), len(experts), device=self.flags.device)
        for n, (ids, weights) in enumerate(selections):
            for expert, weight in zip(ids, weights, strict=True):
                if expert - offset in experts:
                    mix[n, experts.index(expert - offset)] = weight
        emulator = Emulator(self.geometry, self.inputs, self._weights, self._pairs(token, experts))
        exact, rounded = ((mix @ emulator.rows(how)).to(torch.bfloat16) for how in (EXACT, self.rounding))
        return exact, rounded

    def _pairs(self, token: int, experts: list[int]) -> routing.Pairs:
        device = self.flags.device
        return routing.Pairs(
            torch.full((len(experts),), token, device=device),
            torch.tensor(experts, dtype=torch.int64, device=device),
            torch.ones(len(experts), device=device),
        )

    def selections(self, token: int) -> list[tuple[list[int], list[float]]]:
        """Admissible (global expert ids, weights) of a token: no rejected score beats a chosen one by more than the
        gap."""
        logits = _tensor(self.inputs, "routing_logits")[token : token + 1]
        scores, biased = choice_scores(logits, _tensor(self.inputs, "routing_bias"))
        groups = biased.view(self.geometry.groups, self.geometry.group_size)
        group_scores = groups.topk(2, dim=1).values.sum(dim=1)
        return list(islice(self._admissible(scores[0].cpu(), groups.cpu(), group_scores.tolist()), SELECTION_LIMIT))

    def _admissible(
        self, scores: torch.Tensor, groups: torch.Tensor, group_scores: list[float]
    ) -> Iterator[tuple[list[int], list[float]]]:
        factor, seen = float(self.inputs["routed_scaling_factor"]), set()
        for kept in _close_choices(group_scores, self.geometry.top_groups):
            candidates = [g * self.geometry.group_size + i for g in kept for i in range(self.geometry.group_size)]
            values = groups[list(kept)].flatten().tolist()
            for picked in _close_choices(values, self.geometry.top_k):
                ids = tuple(candidates[i] for i in picked)
                if ids not in seen:
                    seen.add(ids)
                    weight = scores[list(ids)]
                    yield list(ids), (weight / (weight.sum() + 1e-20) * factor).tolist()


def _close_choices(values: list[float], count: int) -> Iterator[tuple[int, ...]]:
    """Index sets of `count` values such that no value left out exceeds a chosen one by more than AMBIGUOUS_GAP."""
    order = sorted(range(len(values)), key=lambda i: (-values[i], i))
    last_in, first_out = values[order[count - 1]], values[order[count]]
    gap = routing.AMBIGUOUS_GAP
    certain = [i for i in order[:count] if values[i] > first_out + gap]
    open_ = [i for i in order if i not in certain and values[i] >= last_in - gap]
    for extra in combinations(open_, count - len(certain)):
        left_out = max((values[i] for i in open_ if i not in extra), default=float("-inf"))
        if left_out - min(values[i] for i in (*certain, *extra)) <= gap:
            yield tuple(sorted((*certain, *extra)))
