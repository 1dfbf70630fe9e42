"""Runs the Triton stages in Triton's interpreter, on the cpu, against the cpu stages. A program, not a test module:

  TRITON_INTERPRET=1 python tests/support/interpreted_stages.py TOKENS ALIGN [TOKENS ALIGN ...]

Triton must be imported under that setting, so the tests start this in a process of its own, one for all cases. Exits
non-zero with the first difference, below its case. The interpreter (3.6.0) truncates where the device rounds to e4m3,
and drops a carry now and then: of the quantized values, 1 in 20 may differ by more than one step. Their bits are tested
on a GPU.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from support.solution_support import crowd_out, make_inputs, module_of
from triton.runtime import interpreter

NAME = "triton_fused_moe_v2"
PROGRAMS = 5  # of the loops over rows: fewer than rows, so that the loops turn


def accept_arrays_of_one() -> None:
    """Triton 3.6.0 turns a one-element array into an int, which NumPy 2.4 refuses; `.item()` works in both."""
    patch = interpreter._patch_lang_tensor

    def patched(tensor: Any, scope: Any) -> None:
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    interpreter._patch_lang_tensor = patched


def prepared(name: str, tokens: int) -> tuple[torch.Tensor, Any]:
    """The output of a solution, not written yet, and its call, in which the last token has no local expert."""
    inputs = make_inputs(tokens, seed=tokens)
    inputs = crowd_out(inputs, tokens - 1) if tokens > 1 else inputs
    output = torch.full((tokens, 512), float("nan"), dtype=torch.bfloat16)
    return output, module_of(name, "common.checks").check_call(*inputs.values(), output)


class Stages:
    """One call and its plan, with what the cpu stages say about it."""

    def __init__(self, tokens: int, align: int) -> None:
        self.triton = module_of(NAME, "common.triton_stages")
        self.cpu = module_of(NAME, "common.cpu_stages")
        self.triton._row_programs = lambda plan: PROGRAMS
        self.output, self.call = prepared(NAME, tokens)
        self.plan = self.triton._make_plan(tokens, align, self.call.device, 0, {})
        self.pairs = self.cpu.route(self.call)
        self.layout = self.cpu.lay_out(self.pairs, align)

    def check_routing(self) -> None:
        plan, layout = self.plan, self.layout
        for _ in range(2):  # the second call finds the counters as the first one left them
            self.triton.route(self.call, plan, problems=True)
        same("counters", plan.counters, torch.zeros_like(plan.counters))
        same("m_indptr", plan.m_indptr, torch.tensor(layout.starts))
        same("m_count", plan.m_count, torch.tensor(layout.counts))
        same("m_end", plan.m_end, torch.tensor(layout.starts[:-1]) + torch.tensor(layout.counts))
        for which, (n, k) in enumerate(((512, 512), (512, 256))):
            wanted = torch.tensor([[rows, n, k] for rows in layout.counts])
            same(f"problems[{which}]", plan.problems[which], wanted)
        self.check_codes(self.pairs.token, self.pairs.expert, self.pairs.weight)

    def check_codes(self, token: torch.Tensor, expert: torch.Tensor, weight: torch.Tensor) -> None:
        code, local = self.plan.code, self.plan.code >= 0
        found = torch.arange(len(code))[:, None].expand_as(code)[local]
        experts, rows = code[local] >> 26, self.rows()
        order, wanted = (e * len(code) + t for e, t in ((experts, found), (expert, token)))
        same("pairs", order.sort().values, wanted.sort().values)
        same("rows", rows.sort().values, self.layout.row.sort().values)
        torch.testing.assert_close(self.plan.weight[local][order.argsort()], weight[wanted.argsort()])
        assert bool((local.int().diff(dim=1) <= 0).all()), "a token's codes are not at the front"
        same("zero rows", self.output[~local.any(1)].float(), torch.zeros(int((~local.any(1)).sum()), 512))
        assert bool(self.output[local.any(1)].isnan().all()), "routing wrote a row that has local experts"

    def rows(self) -> torch.Tensor:
        """Row of each pair, in the order of the codes."""
        code = self.plan.code[self.plan.code >= 0]
        return (self.plan.m_indptr[code.long() >> 26] + (code & ((1 << 26) - 1))).long()

    def source(self) -> torch.Tensor:
        """Token of each pair, in the order of the codes."""
        local = self.plan.code >= 0
        return torch.arange(len(local))[:, None].expand_as(local)[local]

    def scales(self, scale: torch.Tensor, blocks: int, layout: str) -> torch.Tensor:
        """The pairs' scales (P, blocks) out of a buffer in `layout`."""
        rows, total = self.rows(), self.plan.rows
        if layout == "row":
            return scale.view(total, blocks)[rows]
        if layout == "block":
            return scale.view(blocks, total)[:, rows].t()
        group = torch.searchsorted(self.plan.m_indptr, rows.int(), right=True) - 1
        start, end = (self.plan.m_indptr[group + i].long() for i in (0, 1))
        at = start * blocks + (rows - start)
        return scale[at[:, None] + torch.arange(blocks) * (end - start)[:, None]]

    def check_permute(self) -> None:
        a = self.plan.buffer("a", (self.plan.rows, 512), torch.float8_e4m3fn)
        for layout in ("block", "row", "group"):
            scale = self.plan.buffer(f"a_scale_{layout}", (self.plan.rows * 4,), torch.float32)
            self.triton.permute(self.call, self.plan, a, scale, layout)
            same("rows", a.view(torch.uint8)[self.rows()], self.call.hidden_states.view(torch.uint8)[self.source()])
            wanted = self.call.hidden_states_scale[:, self.source()].t()
            same(f"{layout} scales", self.scales(scale, 4, layout), wanted)
        self.check_permute_of_three_blocks()

    def check_permute_of_three_blocks(self) -> None:
        """A row that is no power of two long, as the full definition's 56 blocks: nothing lands beyond it."""
        data, scale = self.call.hidden_states[:, :384].contiguous(), self.call.hidden_states_scale[:3].contiguous()
        call = self.call._replace(hidden_states=data, hidden_states_scale=scale)
        a = torch.full((self.plan.rows + 1, 384), 0x55, dtype=torch.uint8)
        a_scale = torch.full((4, self.plan.rows), -7.0)
        self.triton.permute(call, self.plan, a, a_scale)
        rows, source = self.rows(), self.source()
        wanted, wanted_scale = torch.full_like(a, 0x55), torch.full_like(a_scale, -7.0)
        wanted[rows] = data.view(torch.uint8)[source]
        wanted_scale[:3, rows] = scale[:, source]
        same("rows of three blocks", a, wanted)
        same("scales of three blocks", a_scale, wanted_scale)

    def check_activation(self) -> None:
        plan, rows = self.plan, self.rows()
        h = (torch.randn(plan.rows, 512, generator=torch.Generator().manual_seed(1)) * 1e4).bfloat16()
        h[rows[:1]] = 0  # a row of zeros
        c = plan.buffer("c", (plan.rows, 256), torch.float8_e4m3fn)
        wanted = self.cpu.quantize(self.cpu.swiglu(h.float()))
        for layout in ("block", "row", "group"):
            scale = plan.buffer(f"c_scale_{layout}", (plan.rows * 2,), torch.float32)
            self.triton.swiglu(plan, h, None, c, scale, layout)
            close_fp8(c[rows], self.scales(scale, 2, layout), wanted, rows)
        h8 = plan.buffer("h8", (plan.rows, 512), torch.float8_e4m3fn)
        h8_scale = plan.buffer("h8_scale", (4, plan.rows), torch.float32)
        self.triton.quantize(plan, h, h8, h8_scale)
        close_fp8(h8[rows], h8_scale[:, rows].t(), self.cpu.quantize(h.float()), rows)
        c_scale = plan.buffer("c_scale_block", (2, plan.rows), torch.float32)
        self.triton.swiglu(plan, h8, h8_scale, c, c_scale)
        wanted = self.cpu.quantize(self.cpu.swiglu(self.cpu.Fp8Rows(h8, h8_scale).dequantize()))
        close_fp8(c[rows], c_scale[:, rows].t(), wanted, rows)

    def check_combine(self) -> None:
        rows = torch.randn(self.plan.rows, 512).bfloat16()
        self.triton.combine(self.plan, rows, self.output)
        wanted = torch.zeros_like(self.output, dtype=torch.float32)
        weight = self.plan.weight[self.plan.code >= 0]
        wanted.index_add_(0, self.source(), rows[self.rows()].float() * weight[:, None])
        torch.testing.assert_close(self.output.float(), wanted.bfloat16().float(), rtol=8e-3, atol=8e-3)

    def check_given_choice(self) -> None:
        """`route_pairs` on a choice of its own: 8 different experts a token, some local."""
        tokens = self.plan.tokens
        ids = torch.stack([torch.randperm(256)[:8] for _ in range(tokens)]).int()
        values = torch.rand(tokens, 8)
        self.output.fill_(float("nan"))
        self.triton.route_pairs(self.call, self.plan, ids, values)
        local = (ids >= 32) & (ids < 64)
        token = torch.arange(tokens)[:, None].expand_as(ids)[local]
        pairs = self.cpu.Pairs(token, (ids[local] - 32).long(), values[local])
        order = (pairs.expert * tokens + pairs.token).argsort()
        pairs = self.cpu.Pairs(pairs.token[order], pairs.expert[order], pairs.weight[order])
        self.layout = self.cpu.lay_out(pairs, self.plan.align)
        same("m_count", self.plan.m_count, torch.tensor(self.layout.counts))
        self.check_codes(pairs.token, pairs.expert, pairs.weight)


def check_ties(stages: Stages) -> None:
    """All experts and groups tie: the lowest groups, and in them the lowest experts."""
    alike = {name: torch.zeros_like(getattr(stages.call, name)) for name in ("routing_logits", "routing_bias")}
    stages.triton.route(stages.call._replace(**alike, expert_offset=0), stages.plan)
    same("rows where all tie", stages.plan.m_count, torch.tensor([stages.plan.tokens] * 8 + [0] * 24))


def same(name: str, found: torch.Tensor, wanted: torch.Tensor) -> None:
    if not torch.equal(found.to(wanted.dtype), wanted):
        sys.exit(f"{name}: found {found.flatten()[:40].tolist()}, expected {wanted.flatten()[:40].tolist()}")


def close_fp8(data: torch.Tensor, scale: torch.Tensor, wanted: Any, rows: torch.Tensor) -> None:
    """Scales equal but for rounding, nearly all values within one step of e4m3 (an eighth)."""
    filled = wanted.data[rows].float().view(len(rows), -1, 128).abs().amax(2) > 0  # a zero block's scale says nothing
    torch.testing.assert_close(scale[filled], wanted.scale[:, rows].t()[filled], rtol=1e-6, atol=0)
    near = torch.isclose(data.float(), wanted.data[rows].float(), rtol=0.126, atol=0.002)
    assert near.float().mean() > 0.95, f"{int((~near).sum())} of {near.numel()} values are off"


def for_each_case(run: Callable[[int, int], None]) -> None:
    """Calls it with each pair of the command line's numbers."""
    accept_arrays_of_one()
    numbers = [int(word) for word in sys.argv[1:]]
    for case in zip(numbers[::2], numbers[1::2], strict=True):
        print("case:", *case, flush=True)
        run(*case)


def main(tokens: int, align: int) -> None:
    stages = Stages(tokens, align)
    for check in ("routing", "permute", "activation", "combine", "given_choice"):
        getattr(stages, f"check_{check}")()
    check_ties(stages)
    print(f"{len(stages.rows())} pairs")


if __name__ == "__main__":
    for_each_case(main)
