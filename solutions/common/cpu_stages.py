"""The stages of the MoE layer in plain torch: what the cpu backends are made of.

They follow the device kernels' own plan (route, lay rows out by expert, grouped GEMM, SwiGLU, grouped GEMM, combine),
so that a solution's host logic and roundings run without a GPU. Only tokens that have a local expert, and experts that
have tokens, cost anything. All functions are pure except `combine`, which writes the caller's output.

Letters: T tokens, P local (token, expert) pairs, M rows of the grouped layout (pairs and padding), E local experts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .checks import BLOCK, EXPERTS, GROUPS, KEPT_GROUPS, LOCAL_EXPERTS, TOP_K, MoeCall

FP8_MAX = 448.0  # largest finite e4m3
FP8_ZERO = 1e-30  # a block whose largest magnitude is below this is quantized as zeros, with scale 1


@dataclass(frozen=True)
class Pairs:
    """The local (token, expert) pairs, ordered by expert and then by token."""

    token: torch.Tensor  # (P,) int64
    expert: torch.Tensor  # (P,) int64, local id
    weight: torch.Tensor  # (P,) f32, normalised over the token's 8 experts and scaled


@dataclass(frozen=True)
class Layout:
    """Where each pair's row stands in the grouped matrices."""

    token: torch.Tensor  # (M,) int64, the row's token; -1 in padding
    row: torch.Tensor  # (P,) int64, the pair's row
    starts: list[int]  # (E + 1,), first row of each expert's group, then M
    counts: list[int]  # (E,), true rows of each group


@dataclass(frozen=True)
class Fp8Rows:
    """A matrix with one scale per row and 128 columns; value = data * scale."""

    data: torch.Tensor  # (M, K) e4m3
    scale: torch.Tensor  # (K/128, M) f32, block-major

    def dequantize(self, rows: slice | torch.Tensor = slice(None)) -> torch.Tensor:
        """Return the rows as (m, K) f32."""
        data, scale = self.data[rows].float(), self.scale[:, rows].t()
        return (data.unflatten(1, (-1, BLOCK)) * scale.unsqueeze(2)).flatten(1)


def route(call: MoeCall) -> Pairs:
    """DeepSeek-V3 routing of the tokens that reach this rank; ties go to the lowest group and the lowest expert."""
    # float64 and back: the same logit gives the same score in vectorised and in scalar loops, so exact ties stay exact.
    scores = torch.sigmoid(call.routing_logits.double()).float()
    choice = (scores + call.routing_bias.float()).unflatten(1, (GROUPS, -1))
    # The two largest of a group, in a third of the time that topk takes.
    first, where = choice.max(dim=2)
    group_score = first + choice.scatter(2, where.unsqueeze(2), float("-inf")).amax(dim=2)
    kept = _rank(group_score) < KEPT_GROUPS
    # The rank's experts are one whole group: a token that drops the group has no local expert.
    active = kept[:, call.expert_offset // (EXPERTS // GROUPS)].nonzero().squeeze(1)
    masked = choice[active].masked_fill(~kept[active].unsqueeze(2), float("-inf")).flatten(1)
    chosen = torch.empty(len(active), TOP_K, dtype=torch.int64)
    for k in range(TOP_K):
        chosen[:, k] = masked.argmax(dim=1)  # argmax returns the first of equal maxima
        masked.scatter_(1, chosen[:, k : k + 1], float("-inf"))
    weight = scores[active].gather(1, chosen)
    weight = weight / (weight.sum(dim=1, keepdim=True) + 1e-20) * call.factor
    local = chosen - call.expert_offset
    row, slot = ((local >= 0) & (local < LOCAL_EXPERTS)).nonzero(as_tuple=True)
    order = local[row, slot].argsort(stable=True)
    row, slot = row[order], slot[order]
    return Pairs(active[row], local[row, slot], weight[row, slot])


def lay_out(pairs: Pairs, align: int) -> Layout:
    """Give each expert's pairs contiguous rows; groups start at multiples of `align`."""
    counts = torch.bincount(pairs.expert, minlength=LOCAL_EXPERTS)
    padded = (counts + align - 1) // align * align
    starts = torch.cat([padded.new_zeros(1), padded.cumsum(0)])
    rank = torch.arange(len(pairs.expert)) - (counts.cumsum(0) - counts)[pairs.expert]
    row = starts[pairs.expert] + rank
    token = torch.full((int(starts[-1]),), -1, dtype=torch.int64)
    token[row] = pairs.token
    return Layout(token, row, starts.tolist(), counts.tolist())


def permute(call: MoeCall, layout: Layout) -> Fp8Rows:
    """Copy the tokens' rows and scales into the grouped layout; padding rows are zero with scale 1."""
    data = torch.zeros(len(layout.token), call.hidden, dtype=torch.uint8)
    scale = torch.ones(call.hidden // BLOCK, len(layout.token))
    filled = layout.row
    source = layout.token[filled]
    data[filled] = call.hidden_states.view(torch.uint8)[source]
    scale[:, filled] = call.hidden_states_scale[:, source]
    return Fp8Rows(data.view(torch.float8_e4m3fn), scale)


def grouped_gemm(
    a: Fp8Rows,
    weights: torch.Tensor,
    weights_scale: torch.Tensor,
    layout: Layout,
    gather: torch.Tensor | None = None,
) -> torch.Tensor:
    """Multiply each group's rows by its expert's weights.

    a: rows of K, in the grouped layout, or in any order with `gather` (M,) naming the row of `a` for each grouped row;
    weights: (E, N, K) e4m3; weights_scale: (E, N/128, K/128) f32. Returns (M, N) f32; rows that are padding are zero.
    """
    out = torch.zeros(len(layout.token), weights.shape[1])
    for expert, count in enumerate(layout.counts):
        if count:
            rows = slice(layout.starts[expert], layout.starts[expert] + count)
            matrix = dequantize_weights(weights[expert], weights_scale[expert])
            torch.mm(a.dequantize(rows if gather is None else gather[rows]), matrix.t(), out=out[rows])
    return out


def dequantize_weights(weights: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """weights: (N, K) e4m3; scale: (N/128, K/128) f32, one for 128 x 128 values. Returns (N, K) f32."""
    blocks = weights.float().unflatten(0, (-1, BLOCK)).unflatten(2, (-1, BLOCK))
    return (blocks * scale[:, None, :, None]).flatten(2).flatten(0, 1)


def quantize(x: torch.Tensor) -> Fp8Rows:
    """fp8_block128: scale = amax / 448 per row and 128 columns, 1 for a block of zeros; data = x / scale in e4m3.

    A block whose amax is below FP8_ZERO counts as zeros. The device kernels multiply by 1 / 448 and by 1 / scale
    instead, which differs by an ulp before the rounding to e4m3.
    """
    blocks = x.float().unflatten(1, (-1, BLOCK))
    amax = blocks.abs().amax(dim=2)
    scale = torch.where(amax < FP8_ZERO, 1.0, amax / FP8_MAX)
    data = (blocks / scale.unsqueeze(2)).clamp_(-FP8_MAX, FP8_MAX)
    return Fp8Rows(data.flatten(1).to(torch.float8_e4m3fn), scale.t().contiguous())


def swiglu(h: torch.Tensor) -> torch.Tensor:
    """h: (M, 2I) f32, the gate is the second half. Returns silu(gate) * up, (M, I) f32."""
    up, gate = h.chunk(2, dim=1)
    return torch.nn.functional.silu(gate) * up


def combine(rows: torch.Tensor, pairs: Pairs, layout: Layout, output: torch.Tensor) -> None:
    """Write output (T, H) bf16: the float32 sum of weight * row over a token's pairs, zero where it has none."""
    total = torch.zeros(output.shape)
    total.index_add_(0, pairs.token, rows[layout.row].float() * pairs.weight.unsqueeze(1))
    output.copy_(total)


def _rank(scores: torch.Tensor) -> torch.Tensor:
    """scores: (T, n). Returns for each entry how many of its row come first: larger, or equal with a lower index."""
    mine, other = scores.unsqueeze(2), scores.unsqueeze(1)
    index = torch.arange(scores.shape[1])
    return ((other > mine) | ((other == mine) & (index < index.unsqueeze(1)))).sum(dim=2)
