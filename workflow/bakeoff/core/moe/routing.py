"""DeepSeek-V3 routing: who goes where, which choices are too close to call, and how much work that is for this rank."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from bakeoff.core.moe.geometry import Geometry
from bakeoff.core.moe.reference import choice_scores, keep_groups, largest

if TYPE_CHECKING:
    from bakeoff.traces.models import RoutingStats

# Scores that differ by no more than this may be ordered either way by a correct float32 implementation.
AMBIGUOUS_GAP = 2e-6


@dataclass(frozen=True)
class Routing:
    """The chosen experts of T tokens."""

    ids: torch.Tensor  # (T, 8) int64, global
    weights: torch.Tensor  # (T, 8) float32, normalised and multiplied by the factor
    ambiguous: torch.Tensor  # (T,) bool, the last chosen and the first dropped group or expert are within AMBIGUOUS_GAP


@dataclass(frozen=True)
class Pairs:
    """The (token, local expert) pairs, ordered by expert and then by token."""

    token: torch.Tensor  # (P,) int64
    expert: torch.Tensor  # (P,) int64, local id
    weight: torch.Tensor  # (P,) float32

    @cached_property
    def spans(self) -> list[tuple[int, slice]]:
        """(local expert, its rows) for every expert that has tokens."""
        experts, counts = torch.unique_consecutive(self.expert, return_counts=True)
        stops = counts.cumsum(0)
        rows = zip((stops - counts).tolist(), stops.tolist(), strict=True)
        return [(expert, slice(*span)) for expert, span in zip(experts.tolist(), rows, strict=True)]


def route(logits: torch.Tensor, bias: torch.Tensor, factor: float, geometry: Geometry) -> Routing:
    """logits: (T, 256) float32; bias: (256,) bfloat16. The reference's choice, and whether each was close."""
    _check_sizes(logits, geometry)
    scores, biased = choice_scores(logits, bias)
    group_score, candidates = keep_groups(biased)
    # One more than are chosen: whether that was close. Which of equal ones come first, topk does not promise.
    experts, ranked = candidates.topk(geometry.top_k + 1, dim=1)
    ids, tied = ranked[:, :-1].contiguous(), (experts[:, 1:] == experts[:, :-1]).any(dim=1)
    ids[tied] = largest(candidates[tied], geometry.top_k)
    weights = scores.gather(1, ids)
    weights = weights / (weights.sum(dim=1, keepdim=True) + 1e-20) * factor
    groups = group_score.topk(geometry.top_groups + 1, dim=1).values
    ambiguous = (groups[:, -2] - groups[:, -1] <= AMBIGUOUS_GAP) | (experts[:, -2] - experts[:, -1] <= AMBIGUOUS_GAP)
    return Routing(ids, weights, ambiguous)


def local_pairs(routing: Routing, offset: int, geometry: Geometry) -> Pairs:
    """The pairs whose expert lives on the rank that starts at global expert `offset`."""
    local = routing.ids - offset
    token, k = ((local >= 0) & (local < geometry.local_experts)).nonzero(as_tuple=True)
    expert = local[token, k]
    order = expert.argsort(stable=True)
    token, k, expert = token[order], k[order], expert[order]
    return Pairs(token, expert, routing.weights[token, k])


def active_tokens(pairs: Pairs, tokens: int) -> torch.Tensor:
    """Which of `tokens` tokens have a local expert, (tokens,) bool."""
    active = torch.zeros(tokens, dtype=torch.bool, device=pairs.token.device)
    active[pairs.token] = True
    return active


def stats(routing: Routing, offset: int, geometry: Geometry) -> "RoutingStats":
    """Local pairs, active tokens and active experts of the rank that starts at `offset`."""
    from bakeoff.traces.models import RoutingStats

    pairs = local_pairs(routing, offset, geometry)
    return RoutingStats(
        local_pairs=len(pairs.token),
        active_tokens=int(active_tokens(pairs, len(routing.ids)).sum()),
        active_experts=len(pairs.spans),
    )


def _check_sizes(logits: torch.Tensor, geometry: Geometry) -> None:
    """The reference fixes these sizes in its text, so another geometry cannot be routed."""
    found = (logits.shape[1], geometry.groups, geometry.top_groups, geometry.top_k)
    if found != (geometry.experts, 8, 4, 8):
        raise ValueError(
            f"(logit columns, groups, kept groups, top k) is {found}; expected {(geometry.experts, 8, 4, 8)}"
        )
