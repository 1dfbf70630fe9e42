"""The GEMMs of triton_grouped_moe in Triton's interpreter, on the cpu, against its cpu stages. A program:

  TRITON_INTERPRET=1 python tests/support/interpreted_gemm.py TOKENS FORM [TOKENS FORM ...]

FORM is the place of the forms in triton_gemm.FORMS. Exits non-zero if a result differs. The interpreter truncates where
the device rounds, so GEMM1 and GEMM2 are compared each for itself, on the cpu stages' quantized values.
"""

from __future__ import annotations

import sys

import torch
from support.interpreted_stages import for_each_case
from support.solution_support import make_inputs, module_of, relative_l2, send_to

NAME = "triton_grouped_moe"
LIMIT = 0.004  # relative L2 distance: bfloat16, truncated, gives 0.0034
PROGRAMS = 5  # fewer than tiles, so that the loops turn


def main(tokens: int, which_form: int) -> None:
    gemm, stages, cpu = (module_of(NAME, f"common.{m}") for m in ("triton_gemm", "triton_stages", "cpu_stages"))
    gemm._processors = stages._processors = lambda index: PROGRAMS
    gemm.pick_form = lambda tokens, which: gemm.FORMS[which_form][1 + which]
    inputs = make_inputs(tokens, seed=tokens)
    chosen = send_to(inputs, [40, 47, *range(64, 70)])["routing_logits"]  # two local experts, for all tokens but one
    chosen[tokens // 2] = send_to(inputs, [*range(64, 72)])["routing_logits"][0]
    inputs = {**inputs, "routing_logits": chosen}
    output = torch.full((tokens, 512), float("nan"), dtype=torch.bfloat16)
    call = module_of(NAME, "common.checks").check_call(*inputs.values(), output)
    plan = stages._make_plan(tokens, 1, call.device, 0, {})
    ids = plan.buffer("ids", (plan.rows,), torch.int32)
    stages.route(call, plan)
    gemm.index(plan, ids)
    layout = cpu.lay_out(cpu.route(call), 1)
    used = layout.starts[-1]
    code = plan.code[plan.code >= 0]
    rows = (plan.m_indptr[code.long() >> 26] + (code & ((1 << 26) - 1))).long()
    token = torch.arange(tokens)[:, None].expand_as(plan.code)[plan.code >= 0]
    assert torch.equal(ids[rows].long(), token)

    x = cpu.Fp8Rows(call.hidden_states, call.hidden_states_scale)
    mine = cpu.Layout(ids[:used].long(), layout.row, layout.starts, layout.counts)
    h = torch.full((plan.rows, 512), float("nan"), dtype=torch.bfloat16)
    first = (call.gemm1_weights, call.gemm1_weights_scale)
    gemm.multiply(plan, 0, x.data, x.scale, *first, h, ids)
    check("GEMM1", h, cpu.grouped_gemm(x, *first, mine, gather=mine.token), used)

    c = cpu.quantize(cpu.swiglu(torch.randn(plan.rows, 512, generator=torch.Generator().manual_seed(1))))
    out = torch.full((plan.rows, 512), float("nan"), dtype=torch.bfloat16)
    second = (call.gemm2_weights, call.gemm2_weights_scale)
    gemm.multiply(plan, 1, c.data, c.scale, *second, out)
    check("GEMM2", out, cpu.grouped_gemm(c, *second, mine), used)
    print(f"{used} rows")


def check(name: str, found: torch.Tensor, wanted: torch.Tensor, used: int) -> None:
    """Rows that hold a token are right, and no other row is written."""
    distance = relative_l2(found[:used], wanted[:used]) if used else 0.0
    if not distance < LIMIT:
        sys.exit(f"{name}: relative L2 distance {distance}, expected less than {LIMIT}")
    if not found[used:].isnan().all():
        sys.exit(f"{name}: a row that holds no token was written")


if __name__ == "__main__":
    for_each_case(main)
