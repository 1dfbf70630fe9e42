"""Plausible wrong solutions: what an honest one would compute with one mistake in it.

`MUTANTS` lists them; each makes its output from a `Honest` solution's intermediate results, so that a mistake late in
the pipeline costs little. Nothing here judges.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch

from bakeoff.core.moe.emulate import DequantizedWeights, Emulator, Inputs, cast, swiglu
from bakeoff.core.moe.geometry import Geometry
from bakeoff.core.moe.reference import choice_scores, keep_groups, largest
from bakeoff.core.moe.routing import Pairs, Routing, active_tokens, local_pairs, route
from bakeoff.core.moe.values import Tensors
from bakeoff.schema.gates import Rounding

TILE = 128  # rows that a grouped GEMM works on at once


class Mutant(NamedTuple):
    """One mistake. make: its output (T, H) bfloat16, from the honest solution."""

    name: str
    mistake: str
    make: "Callable[[Honest], torch.Tensor]"
    must_die: bool = True  # False: measured only


@dataclass
class Shared:
    """What all workloads of one family share: the weights, right and wrong."""

    weights: DequantizedWeights
    w2_scale_transposed: DequantizedWeights

    @classmethod
    def of(cls, weights: Tensors, keep: bool | None = None) -> "Shared":
        """keep: whether dequantized weights are held on to (`DequantizedWeights`)."""
        transposed = weights | {"gemm2_weights_scale": transposed_w2_scale(weights["gemm2_weights_scale"])}
        return cls(DequantizedWeights(weights, keep), DequantizedWeights(transposed, keep))


class Honest:
    """An honest solution with declared roundings on one workload, with its intermediate results."""

    def __init__(
        self, geometry: Geometry, inputs: Inputs, routing: Routing, rounding: Rounding, shared: Shared
    ) -> None:
        self.geometry, self.inputs, self.routing = geometry, inputs, routing
        self.rounding, self.shared = rounding, shared
        self.offset, self.factor = int(inputs["local_expert_offset"]), float(inputs["routed_scaling_factor"])
        self.pairs = local_pairs(routing, self.offset, geometry)
        self.emulator = Emulator(geometry, inputs, shared.weights, self.pairs)
        self.active = active_tokens(self.pairs, self.emulator.tokens)

    @cached_property
    def gemm1_output(self) -> torch.Tensor:
        """What SwiGLU reads, (P, 2I) float32."""
        return cast(self.emulator.gemm1(), self.rounding.gemm1_output)

    @cached_property
    def intermediate(self) -> torch.Tensor:
        """What GEMM2 reads, (P, I) float32."""
        return cast(swiglu(self.gemm1_output), self.rounding.intermediate)

    @cached_property
    def rows(self) -> torch.Tensor:
        """What the combine reads, (P, H) float32."""
        return self.emulator.gemm2(self.intermediate, self.rounding)

    @cached_property
    def output(self) -> torch.Tensor:
        """The right output, (T, H) bfloat16."""
        return self.emulator.combine(self.rows)

    @cached_property
    def scores(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Sigmoid scores without and with the bias, (T, 256) each."""
        return choice_scores(self.tensor("routing_logits"), self.tensor("routing_bias"))

    def tensor(self, name: str) -> torch.Tensor:
        """A tensor input."""
        value = self.inputs[name]
        assert isinstance(value, torch.Tensor)
        return value

    def normalised(self, weights: torch.Tensor) -> torch.Tensor:
        """weights: (T, k). Divided by their sum and multiplied by the factor."""
        return weights / (weights.sum(dim=1, keepdim=True) + 1e-20) * self.factor

    def combined(self, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Output for a choice of experts that is part of the honest one: only the combine differs."""
        pairs = local_pairs(Routing(ids, weights, self.routing.ambiguous), self.offset, self.geometry)
        tokens = self.emulator.tokens
        # Both lists are sorted by (expert, token), so a pair is found by bisection.
        found = torch.searchsorted(self.pairs.expert * tokens + self.pairs.token, pairs.expert * tokens + pairs.token)
        return self.emulator.combine(self.rows[found], pairs)

    def without(self, dropped: torch.Tensor) -> torch.Tensor:
        """Output without some pairs. dropped: (P,) bool."""
        p = self.pairs
        return self.emulator.combine(
            self.rows[~dropped], Pairs(p.token[~dropped], p.expert[~dropped], p.weight[~dropped])
        )

    def rerun(
        self, pairs: Pairs | None = None, weights: DequantizedWeights | None = None, **changed: torch.Tensor
    ) -> torch.Tensor:
        """Output of the whole pipeline with other pairs, weights or inputs."""
        weights = self.shared.weights if weights is None else weights
        pairs = self.pairs if pairs is None else pairs
        return Emulator(self.geometry, self.inputs | changed, weights, pairs).run(self.rounding)


def routed(geometry: Geometry, inputs: Inputs) -> Routing:
    """The right routing of a workload's inputs."""
    logits, bias = inputs["routing_logits"], inputs["routing_bias"]
    assert isinstance(logits, torch.Tensor) and isinstance(bias, torch.Tensor)
    return route(logits, bias, float(inputs["routed_scaling_factor"]), geometry)


def gate_up_swapped(h: Honest) -> torch.Tensor:
    swapped = torch.cat(h.gemm1_output.chunk(2, dim=1)[::-1], dim=1)
    return h.emulator.combine(h.emulator.gemm2(cast(swiglu(swapped), h.rounding.intermediate), h.rounding))


def biased_weights(h: Honest) -> torch.Tensor:
    return h.combined(h.routing.ids, h.normalised(h.scores[1].gather(1, h.routing.ids)))


def no_renormalisation(h: Honest) -> torch.Tensor:
    return h.combined(h.routing.ids, h.scores[0].gather(1, h.routing.ids) * h.factor)


def no_factor(h: Honest) -> torch.Tensor:
    return h.combined(h.routing.ids, h.routing.weights / h.factor)


def no_group_limit(h: Honest) -> torch.Tensor:
    return _rerouted(h, h.scores[1])


def no_bias_in_choice(h: Honest) -> torch.Tensor:
    return _rerouted(h, keep_groups(h.scores[0])[1])


def _rerouted(h: Honest, candidates: torch.Tensor) -> torch.Tensor:
    ids = largest(candidates, h.geometry.top_k)
    weights = h.normalised(h.scores[0].gather(1, ids))
    return h.rerun(local_pairs(Routing(ids, weights, h.routing.ambiguous), h.offset, h.geometry))


def top_7(h: Honest) -> torch.Tensor:
    ids = h.routing.ids[:, :-1]  # best first
    return h.combined(ids, h.normalised(h.scores[0].gather(1, ids)))


def offset_off_by_one(h: Honest) -> torch.Tensor:
    return h.rerun(local_pairs(h.routing, h.offset + 1, h.geometry))


def expert_dropped(h: Honest) -> torch.Tensor:
    if not len(h.pairs.token):
        return h.output
    # The one that is missed least.
    rarest = min(h.pairs.spans, key=lambda span: span[1].stop - span[1].start)[0]
    return h.without(h.pairs.expert == rarest)


def last_token_dropped(h: Honest) -> torch.Tensor:
    output = h.output.clone()
    output[-1] = 0
    return output


def last_pair_dropped(h: Honest) -> torch.Tensor:
    dropped = torch.zeros_like(h.pairs.token, dtype=torch.bool)
    dropped[-1:] = True
    return h.without(dropped)


def partial_tile_dropped(h: Honest) -> torch.Tensor:
    """Of every expert that fills a tile, the rows after its last full tile."""
    counts = torch.bincount(h.pairs.expert, minlength=h.geometry.local_experts)
    first = counts.cumsum(0) - counts
    rank = torch.arange(len(h.pairs.token), device=counts.device) - first[h.pairs.expert]
    full = counts // TILE * TILE
    return h.without((rank >= full[h.pairs.expert]) & (full[h.pairs.expert] > 0))


def combine_overwrites(h: Honest) -> torch.Tensor:
    """A token with several local experts keeps only the last one's contribution."""
    last = torch.full((h.emulator.tokens,), -1, dtype=torch.int64, device=h.pairs.token.device)
    index = torch.arange(len(h.pairs.token), device=last.device)
    last.scatter_reduce_(0, h.pairs.token, index, "amax")
    return h.without(last[h.pairs.token] != index)


def kblock_scales_swapped(h: Honest) -> torch.Tensor:
    scale = h.tensor("hidden_states_scale").clone()
    scale[:2] = scale[:2].flip(0)
    return h.rerun(hidden_states_scale=scale)


def activation_scales_row_major(h: Honest) -> torch.Tensor:
    scale = h.tensor("hidden_states_scale")
    return h.rerun(hidden_states_scale=scale.reshape(scale.shape[1], scale.shape[0]).t().contiguous())


def w2_scale_transposed(h: Honest) -> torch.Tensor:
    emulator = Emulator(h.geometry, h.inputs, h.shared.w2_scale_transposed, h.pairs)
    return emulator.combine(emulator.gemm2(h.intermediate, h.rounding))


def transposed_w2_scale(scale: torch.Tensor) -> torch.Tensor:
    """(E, H/128, I/128) scales as a kernel sees them that takes the memory for (E, I/128, H/128)."""
    experts, rows, columns = scale.shape
    return scale.reshape(experts, columns, rows).transpose(1, 2).contiguous()


def stale_row(h: Honest) -> torch.Tensor:
    """One active row still holds an earlier call's result, whose activations were others."""
    if not len(h.pairs.token):
        return h.output
    active = h.active.nonzero().flatten()
    token = int(active[len(active) // 2])
    mine = h.pairs.token == token
    pairs = Pairs(torch.zeros_like(h.pairs.token[mine]), h.pairs.expert[mine], h.pairs.weight[mine])
    states = h.tensor("hidden_states")
    inputs = h.inputs | {
        "hidden_states": states[token : token + 1].view(torch.uint8).flip(1).view(states.dtype),
        "hidden_states_scale": h.tensor("hidden_states_scale")[:, token : token + 1],
    }
    output = h.output.clone()
    output[token] = Emulator(h.geometry, inputs, h.shared.weights, pairs).run(h.rounding)[0]
    return output


def inactive_row_written(h: Honest) -> torch.Tensor:
    """A single small number in a row that should be zero."""
    output = h.output.clone()
    output[(~h.active).nonzero()[:1, 0], 0] = 1e-3
    return output


def columns_zeroed(h: Honest) -> torch.Tensor:
    output = h.output.clone()
    output[:, ::20] = 0
    return output


def scaled(h: Honest) -> torch.Tensor:
    return (h.output.float() * 1.05).to(torch.bfloat16)


def output_in_fp8(h: Honest) -> torch.Tensor:
    return cast(h.output.float(), ("fp8_block128",)).to(torch.bfloat16)


MUTANTS = (
    Mutant("gate_up_swapped", "SiLU is applied to the up half", gate_up_swapped),
    Mutant("biased_weights", "the routing weights include the bias", biased_weights),
    Mutant("no_renormalisation", "the routing weights are not divided by their sum", no_renormalisation),
    Mutant("no_factor", "the routing weights lack the scaling factor", no_factor),
    Mutant("no_group_limit", "the top 8 are taken from all groups", no_group_limit),
    Mutant("no_bias_in_choice", "experts are chosen without the bias", no_bias_in_choice),
    Mutant("top_7", "the eighth expert is left out", top_7),
    Mutant("offset_off_by_one", "local experts are counted from offset + 1", offset_off_by_one),
    Mutant("expert_dropped", "the local expert with the fewest tokens is left out", expert_dropped),
    Mutant("last_token_dropped", "the last token's row is zero", last_token_dropped),
    Mutant("last_pair_dropped", "the last (token, expert) pair is left out", last_pair_dropped),
    Mutant("partial_tile_dropped", "rows after an expert's last full tile of 128 are left out", partial_tile_dropped),
    Mutant("combine_overwrites", "a token's last local expert overwrites the others", combine_overwrites),
    Mutant("kblock_scales_swapped", "the scales of the first two K blocks are swapped", kblock_scales_swapped),
    Mutant(
        "activation_scales_row_major",
        "the block-major activation scales are read row by row",
        activation_scales_row_major,
    ),
    Mutant("w2_scale_transposed", "the scales of W2 are read transposed", w2_scale_transposed),
    Mutant("stale_row", "one row holds an earlier call's result", stale_row),
    Mutant("inactive_row_written", "one element of a row without local experts is 0.001", inactive_row_written),
    Mutant("columns_zeroed", "every 20th column is zero", columns_zeroed),
    Mutant("scaled", "the output is multiplied by 1.05", scaled),
    Mutant("output_in_fp8", "the output is rounded to FP8", output_in_fp8, must_die=False),
)
