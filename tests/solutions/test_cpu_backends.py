"""The cpu backends: right at every shape, rounding as declared, each with its own layout."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from bakeoff.core.moe.emulate import emulate
from support.solution_support import (
    ALIKE,
    GEOMETRY,
    NAMES,
    PUBLISHED_TOKENS,
    active_rows,
    crowd_out,
    fp8,
    make_inputs,
    matched_ratio,
    module_of,
    reference,
    relative_l2,
    run,
    send_to,
    spec_of,
)

# Relative L2 distance from the float64 result: one FP8 rounding of the intermediate, or one of GEMM1's output too.
ONE_ROUNDING, TWO_ROUNDINGS = 0.033, 0.058


def bound(name: str) -> float:
    return TWO_ROUNDINGS if "fp8_block128" in spec_of(name).backends["cpu"].rounding.gemm1_output else ONE_ROUNDING


@cache
def exact(tokens: int):
    inputs = make_inputs(tokens, seed=tokens)
    return inputs, reference(inputs), active_rows(inputs)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tokens", [1, 2, 15, 80, 129])
def test_output_is_the_layers_up_to_the_declared_roundings(name, tokens):
    inputs, wanted, active = exact(tokens)
    output = run(name, inputs)
    assert output.isfinite().all(), "an element was not written"
    assert bool((output[~active] == 0).all())
    if active.any():
        assert relative_l2(output[active], wanted[active]) < bound(name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tokens", [16, 901])
def test_output_is_what_the_declared_roundings_give(name, tokens):
    inputs = make_inputs(tokens, seed=tokens, offset=96)
    emulation = emulate(GEOMETRY, inputs, spec_of(name).backends["cpu"].rounding)
    assert relative_l2(run(name, inputs), emulation) < 0.005


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_without_local_tokens_gives_zeros(name):
    inputs = send_to(make_inputs(9), [0, 1, 2, 3, 64, 65, 66, 67])
    assert not active_rows(inputs).any()
    assert torch.equal(run(name, inputs), torch.zeros(9, 512, dtype=torch.bfloat16))


@pytest.mark.parametrize("name", NAMES)
def test_a_token_that_keeps_the_group_but_none_of_its_experts_gets_a_zero_row(name):
    inputs = crowd_out(make_inputs(12, seed=2), 5)
    assert not active_rows(inputs)[5]
    output = run(name, inputs)
    assert bool((output[5] == 0).all())
    assert torch.equal(output[:5], run(name, make_inputs(12, seed=2))[:5])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tokens", [127, 128, 129])
def test_one_busy_expert_is_right_around_the_tile(name, tokens):
    inputs = send_to(make_inputs(tokens, seed=3), [40, *range(64, 71)])
    output, wanted = run(name, inputs), reference(inputs)
    assert relative_l2(output, wanted) < bound(name)
    assert float((output.double() - wanted).norm(dim=1).div(wanted.norm(dim=1)).max()) < 2 * bound(name)


@pytest.mark.parametrize("name", NAMES)
def test_eight_local_experts_of_each_token_are_all_used(name):
    inputs = send_to(make_inputs(20, seed=5), [32, 33, 40, 41, 50, 51, 62, 63])
    assert relative_l2(run(name, inputs), reference(inputs)) < bound(name)


@pytest.mark.parametrize("offset", range(0, 256, 32))
def test_every_rank_sees_its_own_experts(offset):
    inputs = make_inputs(64, seed=offset, offset=offset)
    assert relative_l2(run("triton_fused_moe_v2", inputs), reference(inputs)) < ONE_ROUNDING


def test_ties_go_to_the_lowest_group_and_the_lowest_expert():
    inputs = make_inputs(3)
    inputs["routing_logits"] = torch.zeros(3, 256)  # all experts tie wherever the bias is the same
    inputs["routing_bias"] = torch.zeros(256, dtype=torch.bfloat16)
    for offset, weight in ((0, 2.5 / 8), (32, 0.0)):  # the choice is experts 0..7
        inputs["local_expert_offset"] = offset
        call = module_of("deepgemm_moe", "common.checks").check_call(
            *inputs.values(), torch.empty(3, 512, dtype=torch.bfloat16)
        )
        pairs = module_of("deepgemm_moe", "common.cpu_stages").route(call)
        assert pairs.expert.tolist() == ([e for e in range(8) for _ in range(3)] if weight else [])
        assert torch.allclose(pairs.weight, torch.full_like(pairs.weight, weight))


def test_solutions_that_round_elsewhere_differ_and_those_that_round_alike_do_not():
    inputs = make_inputs(200, seed=11)
    outputs = {name: run(name, inputs) for name in NAMES}
    assert all(torch.equal(outputs[name], outputs[ALIKE[0]]) for name in ALIKE)
    different = ("cutedsl_moe_fp8_v3", "cutedsl_moe_fp8_v3_2", "flashinfer_moe", "deepgemm_moe")
    for i, one in enumerate(different):
        for other in different[i + 1 :]:
            assert not torch.equal(outputs[one], outputs[other]), (one, other)


@pytest.mark.parametrize("name", NAMES)
def test_inputs_are_left_alone(name):
    inputs = make_inputs(33)
    before = {k: v.clone() for k, v in inputs.items() if isinstance(v, torch.Tensor)}
    run(name, inputs)
    assert all(torch.equal(v.view(torch.uint8), inputs[k].view(torch.uint8)) for k, v in before.items())


@pytest.mark.parametrize(("align", "padded"), [(1, 300), (4, 304), (128, 512)])
def test_groups_start_at_multiples_of_the_alignment(align, padded):
    stages = module_of("deepgemm_moe", "common.cpu_stages")
    expert = torch.cat([torch.full((n,), e) for e, n in ((2, 1), (5, 255), (31, 44))])
    pairs = stages.Pairs(torch.arange(300), expert, torch.ones(300))
    layout = stages.lay_out(pairs, align)
    assert all(start % align == 0 for start in layout.starts)
    assert layout.starts[-1] == len(layout.token) == padded
    assert torch.equal(layout.token[layout.row], pairs.token)
    assert int((layout.token >= 0).sum()) == 300
    assert [layout.counts[e] for e in (2, 5, 31)] == [1, 255, 44]


def test_quantization_scales_each_block_to_the_largest_e4m3():
    stages = module_of("deepgemm_moe", "common.cpu_stages")
    x = torch.randn(5, 256) * torch.tensor([1e-6, 1, 1e4, 1, 1])[:, None]
    x[3] = 0
    rows = stages.quantize(x)
    assert rows.scale.shape == (2, 5)
    assert rows.scale.is_contiguous()
    assert torch.allclose(rows.scale[:, [0, 1, 2, 4]].t(), x[[0, 1, 2, 4]].view(4, 2, 128).abs().amax(2) / 448)
    assert torch.equal(rows.dequantize()[3], torch.zeros(256))
    assert relative_l2(rows.dequantize(), x) < 0.03


def test_the_token_tile_of_the_native_path_follows_the_batch():
    tile = module_of("flashinfer_moe", "cpu").token_tile
    assert [tile(t) for t in (1, 32, 36, 80, 901, 14107)] == [8, 8, 16, 32, 128, 128]


@pytest.mark.parametrize("tokens", PUBLISHED_TOKENS)
def test_the_weights_of_a_token_are_normalised_over_all_its_experts(tokens):
    inputs = make_inputs(tokens, seed=1)
    stages, checks = (module_of("flashinfer_moe", f"common.{m}") for m in ("cpu_stages", "checks"))
    output = torch.empty(tokens, 512, dtype=torch.bfloat16)
    total = torch.zeros(tokens)
    pairs = 0
    for offset in range(0, 256, 32):
        found = stages.route(checks.check_call(*{**inputs, "local_expert_offset": offset}.values(), output))
        total.index_add_(0, found.token, found.weight)
        pairs += len(found.token)
    assert pairs == 8 * tokens
    assert torch.allclose(total, torch.full((tokens,), 2.5))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "ratio"),
    [(n, 0.927 if n in (*ALIKE, "cutedsl_moe_fp8_v4", "flashinfer_alphamoe") else 0.866) for n in NAMES],
)
def test_full_width_rows_match_as_often_as_the_design_says(name, ratio):
    inputs, wanted = full_width()
    output = run(name, inputs)
    assert abs(matched_ratio(output, wanted) - ratio) < 0.01
    assert relative_l2(output, wanted) < 0.045


@cache
def full_width():
    """24 tokens of the full width, all sent to two local experts, and their result; the other 30 stay untouched
    zeros."""
    generator = torch.Generator().manual_seed(10)
    inputs = make_inputs(24, seed=8)
    inputs["hidden_states"] = fp8(generator, 24, 7168)
    inputs["hidden_states_scale"] = torch.randn(56, 24, generator=generator)
    for name, shape in (("gemm1_weights", (32, 4096, 7168)), ("gemm2_weights", (32, 7168, 2048))):
        weights = torch.zeros(shape, dtype=torch.uint8).view(torch.float8_e4m3fn)
        for expert in (3, 17):
            weights[expert] = fp8(generator, *shape[1:])
        inputs[name] = weights
        inputs[f"{name}_scale"] = torch.randn(32, shape[1] // 128, shape[2] // 128, generator=generator)
    inputs = send_to(inputs, [35, 49, 64, 65, 66, 67, 68, 69])
    return inputs, reference(inputs)
