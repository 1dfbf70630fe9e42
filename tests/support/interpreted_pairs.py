"""The stages that keep a row for each pair, in Triton's interpreter, on the cpu, against the cpu stages. A program:

  TRITON_INTERPRET=1 python tests/support/interpreted_pairs.py TOKENS TILE [TOKENS TILE ...]

Exits non-zero with the first difference. The interpreter rounds to e4m3 as `interpreted_stages` says.
"""

from __future__ import annotations

from typing import Any

import torch
from support.interpreted_stages import close_fp8, for_each_case, prepared, same
from support.solution_support import module_of

NAME = "humming_moe"
PROGRAMS = 5  # of the loops over rows: fewer than rows, so that the loops turn


class Pairs:
    """One call with its routing done, its index, and the pairs that exist."""

    def __init__(self, tokens: int, tile: int) -> None:
        stages, self.cpu = (module_of(NAME, f"common.{m}") for m in ("triton_stages", "cpu_stages"))
        self.triton, self.tokens, self.tile = module_of(NAME, "common.triton_pairs"), tokens, tile
        self.triton._row_programs = lambda plan: PROGRAMS
        self.output, self.call = prepared(NAME, tokens)
        self.plan = stages._make_plan(tokens, 1, self.call.device, 0, stages.Store())
        stages.route(self.call, self.plan)
        self.exists = (self.plan.code.flatten() >= 0).nonzero().squeeze(1)
        self.expert = self.plan.code.flatten()[self.exists] >> 26

    def check_index(self) -> None:
        """Each group holds its pairs, then padding, in whole tiles that name their expert."""
        tokens, tile = self.tokens, self.tile
        self.ids = torch.full((8 * tokens + 32 * tile,), -7, dtype=torch.int32)
        experts = torch.full((8 * tokens + 32,), -7, dtype=torch.int32)
        self.padded_rows = torch.full((1,), -7, dtype=torch.int32)
        scale = torch.full((tokens, 4), float("nan"))
        self.triton.index(self.call, self.plan, tile, self.ids, experts, self.padded_rows, scale)
        at = 0
        for expert, count in enumerate(self.plan.m_count.tolist()):
            tiles = -(-count // tile)
            wanted = self.exists[self.expert == expert]
            same(f"pairs of expert {expert}", self.ids[at : at + count].sort().values, wanted)
            same("padding", self.ids[at + count : at + tiles * tile], torch.full((tiles * tile - count,), 8 * tokens))
            same("tiles", experts[at // tile : at // tile + tiles], torch.full((tiles,), expert))
            at += tiles * tile
        same("padded_rows", self.padded_rows, torch.tensor([at]))
        same("rows behind", self.ids[at:], torch.full_like(self.ids[at:], -7))
        active = self.exists // 8
        same("scales", scale[active], self.call.hidden_states_scale.t()[active])

    def check_activation(self) -> None:
        h = (torch.randn(8 * self.tokens, 512, generator=torch.Generator().manual_seed(1)) * 1e4).bfloat16()
        h[self.exists[:1]] = 0  # a row of zeros
        c = torch.zeros(8 * self.tokens, 256, dtype=torch.float8_e4m3fn)
        c_scale = torch.full((8 * self.tokens, 2), float("nan"))
        self.triton.swiglu(self.plan, h, c, c_scale, self.ids, self.padded_rows)
        wanted = self.cpu.quantize(self.cpu.swiglu(h.float()))
        close_fp8(c[self.exists], c_scale[self.exists], wanted, self.exists)
        absent = torch.ones(8 * self.tokens, dtype=torch.bool)
        absent[self.exists] = False
        assert bool(c_scale[absent].isnan().all()), "a pair that does not exist was written"

    def check_combine(self) -> None:
        rows = torch.full((8 * self.tokens, 512), float("nan"), dtype=torch.bfloat16)
        rows[self.exists] = torch.randn(len(self.exists), 512).bfloat16()
        self.triton.combine(self.plan, rows, self.output)
        wanted = torch.zeros(self.output.shape)
        weight = self.plan.weight.flatten()[self.exists]
        wanted.index_add_(0, self.exists // 8, rows[self.exists].float() * weight[:, None])
        torch.testing.assert_close(self.output.float(), wanted.bfloat16().float(), rtol=8e-3, atol=8e-3)

    def check_flatten(self) -> None:
        """Against the permutation in words: (N, K/16, 16 bytes) becomes (K/16, N, 16 bytes)."""
        for weights, scale in (
            (self.call.gemm1_weights, self.call.gemm1_weights_scale),
            (self.call.gemm2_weights, self.call.gemm2_weights_scale),
        ):
            _, n, k = weights.shape
            flat = torch.full((32, n, k // 4), -7, dtype=torch.int32)
            flat_scale = torch.full((32, k // 128, n // 128), float("nan"))
            self.triton.flatten(self.plan, weights, scale, flat, flat_scale)
            wanted: Any = weights.view(torch.int32).unflatten(2, (-1, 4)).transpose(1, 2).contiguous().view(flat.shape)
            active = self.plan.m_count > 0
            same("weights", flat[active], wanted[active])
            same("weights of experts without rows", flat[~active], torch.full_like(flat[~active], -7))
            same("scales", flat_scale[active], scale.transpose(1, 2)[active])

    def check_interleave(self) -> None:
        """Against the rule in words: eight rows of the gate, which is the second half, then their eight of "up"."""
        weights, scale = self.call.gemm1_weights, self.call.gemm1_weights_scale
        mixed, mixed_scale = module_of("flashinfer_alphamoe", "weights").interleave(self.plan, weights, scale)
        active = self.plan.m_count > 0
        up, gate = weights.view(torch.int32)[active].unflatten(1, (2, -1, 8)).unbind(1)
        same("mixed weights", mixed.view(torch.int32)[active], torch.stack([gate, up], 2).flatten(1, 3))
        assert not mixed.view(torch.int32)[~active].any(), "weights of an expert without rows were written"
        up, gate = scale[active].chunk(2, dim=1)
        same("mixed scales", mixed_scale[active], torch.stack([gate, up], 2).flatten(1, 2))


def main(tokens: int, tile: int) -> None:
    found = Pairs(tokens, tile)
    for check in ("index", "activation", "combine", "flatten", "interleave"):
        getattr(found, f"check_{check}")()
    print(f"{len(found.exists)} pairs")


if __name__ == "__main__":
    for_each_case(main)
