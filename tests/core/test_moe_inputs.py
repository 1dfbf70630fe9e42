"""Inputs: the same bits everywhere, two value families, routing that depends on the case alone and is never too
close."""

from __future__ import annotations

import hashlib
from statistics import NormalDist

import pytest
import torch
from bakeoff.core.moe import values
from bakeoff.core.moe.geometry import Geometry
from bakeoff.core.moe.inputs import make_inputs, make_routing, routing_stats
from bakeoff.core.moe.reference import dequantize
from bakeoff.core.moe.routing import route
from bakeoff.core.moe.seeds import choose_seed
from bakeoff.core.moe.values import FAMILIES, make_activations, make_weights
from bakeoff.errors import InputError
from bakeoff.files import PROJECT_ROOT
from bakeoff.traces.store import TraceRoot
from support.moe_cases import NARROW, TINY, SmallCase

ROOT = TraceRoot(PROJECT_ROOT / "traces")
# sha256 over the bytes of all eight tensors of TINY, 5 tokens, offset 64, seed 3.
PINNED = {
    "fib": "5608a6193f33b03cc650f66c4203408e39c8aef878ce4c2547333e0d1409d86d",
    "realistic": "c9d75d516e6f6eb10f7c363c56a7c644b57b3d6ede0379b483331665540d6a39",
}


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(torch.uint8)


def digest(inputs: dict) -> str:
    joined = hashlib.sha256()
    for value in inputs.values():
        if isinstance(value, torch.Tensor):
            joined.update(bits(value.cpu()).numpy().tobytes())
    return joined.hexdigest()


def same(a: dict, b: dict) -> bool:
    return all(torch.equal(bits(a[k]), bits(b[k])) if isinstance(a[k], torch.Tensor) else a[k] == b[k] for k in a)


def workloads():
    return ROOT.workloads(NARROW.name)


@pytest.mark.parametrize("family", FAMILIES)
def test_bits_are_pinned(family):
    assert digest(make_inputs(TINY, SmallCase(5, 64), family, 3)) == PINNED[family]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU: pytest -m gpu tests/moe on a GPU host")
@pytest.mark.parametrize("family", FAMILIES)
def test_a_gpu_draws_the_same_bits(family):
    assert digest(make_inputs(TINY, SmallCase(5, 64), family, 3, device="cuda")) == PINNED[family]
    case = SmallCase(901, 96)
    assert digest(make_inputs(NARROW, case, family, 0, device="cuda")) == digest(make_inputs(NARROW, case, family, 0))


@pytest.mark.parametrize("geometry", [NARROW, TINY])
def test_inputs_have_the_definitions_order_shapes_and_types(geometry):
    definition = ROOT.definition(NARROW.name)
    made = make_inputs(geometry, SmallCase(3, 32), "fib", 0)
    assert list(made) == list(definition.inputs)
    shapes = geometry.shapes(3)
    for name, spec in definition.inputs.items():
        if name in shapes:
            assert tuple(made[name].shape) == shapes[name]
            assert str(made[name].dtype) == f"torch.{spec.dtype}"
            assert made[name].is_contiguous()
    assert made["local_expert_offset"] == 32 and type(made["local_expert_offset"]) is int
    assert made["routed_scaling_factor"] == 2.5


@pytest.mark.parametrize("family", FAMILIES)
def test_one_expert_drawn_alone_is_the_expert_of_the_whole(family):
    whole, alone = make_weights(TINY, family, 1), make_weights(TINY, family, 1, experts=range(5, 7))
    assert same({name: tensor[5:7] for name, tensor in whole.items()}, alone)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_slice_size_does_not_change_the_values(family, monkeypatch):
    before = make_inputs(TINY, SmallCase(9), family, 0)
    monkeypatch.setattr(values, "CHUNK", {"cpu": 1})
    assert same(before, make_inputs(TINY, SmallCase(9), family, 0))


def test_seed_family_case_and_tensor_each_give_other_values():
    first = make_activations(TINY, SmallCase(4, 0), "fib", 0)[0]
    others = [
        make_activations(TINY, SmallCase(4, 0), "fib", 1)[0],
        make_activations(TINY, SmallCase(4, 32), "fib", 0)[0],
        make_activations(TINY, SmallCase(5, 0), "fib", 0)[0][:4],
        make_activations(TINY, SmallCase(4, 0), "realistic", 0)[0],
        make_weights(TINY, "fib", 0)["gemm1_weights"][0, :4],
    ]
    for other in others:
        assert (bits(first) == bits(other)).float().mean() < 0.1


def test_routing_depends_on_the_case_alone():
    case = SmallCase(6, 32)
    expected = make_routing(TINY, case)
    for geometry, family, seed in ((NARROW, "fib", 0), (TINY, "realistic", 5)):
        made = make_inputs(geometry, case, family, seed)
        assert torch.equal(made["routing_logits"], expected[0])
        assert torch.equal(made["routing_bias"], expected[1])
    assert not torch.equal(make_routing(TINY, SmallCase(6, 32, seed=1))[0], expected[0])


def test_fib_values_are_clamped_normal_with_scales_of_both_signs():
    made = make_inputs(NARROW, SmallCase(901), "fib", 0)
    values = made["gemm1_weights"].float()
    assert values.abs().max() == 2
    rounds_to_2 = 2 * NormalDist().cdf(-1.9375)  # half a step of 1/8 below 2
    assert float((values.abs() == 2).float().mean()) == pytest.approx(rounds_to_2, abs=0.0005)
    assert abs(float(values.mean())) < 0.002
    scale = made["hidden_states_scale"]
    assert (scale < 0).float().mean() == pytest.approx(0.5, abs=0.03)
    assert float(scale.std()) == pytest.approx(1, abs=0.03)


def test_realistic_values_are_normal_under_amax_scales():
    made = make_inputs(NARROW, SmallCase(901), "realistic", 0)
    weights = dequantize(made["gemm1_weights"], made["gemm1_weights_scale"])
    assert float(weights.std()) == pytest.approx(0.02, rel=0.01)
    states = made["hidden_states"].float().unflatten(1, (-1, 128))
    assert (states.abs().amax(dim=2) == 448).all()  # every block uses the whole range
    values = states * made["hidden_states_scale"].t().unsqueeze(2)
    assert float(values.std()) == pytest.approx(1, abs=0.01)
    blocks = made["gemm2_weights"].float().unflatten(1, (-1, 128)).unflatten(3, (-1, 128))
    assert (blocks.abs().amax(dim=(2, 4)) == 448).all()


def test_realistic_quantization_agrees_with_float_arithmetic():
    drawn = values.draw(values.stream_key("q"), torch.arange(64)).view(1, 1, 64, 128)
    codes, _ = values._quantize(drawn)
    z = torch.tensor(values.generator._signed(), dtype=torch.float64)[drawn]
    amax = z.abs().amax(dim=3, keepdim=True)
    expected = (z / amax * 448).float().to(torch.float8_e4m3fn)
    found = codes.view(torch.float8_e4m3fn).float()
    # Only values on the edge between two codes may differ, and then by one step.
    assert (found != expected.float()).float().mean() < 0.005
    assert ((found - expected.float()).abs() <= 2**-3 * expected.float().abs() + 2**-9).all()


def test_logits_and_bias_look_like_the_public_ones():
    logits, bias = make_routing(NARROW, SmallCase(901, 96))
    assert float(logits.mean()) == pytest.approx(-1.6706, abs=0.01)
    assert float(logits.std()) == pytest.approx(0.656, abs=0.01)
    assert torch.equal(logits, logits.bfloat16().float())
    assert sorted(set(bias.float().tolist())) == [4.9375, 4.96875]
    assert int((bias.float() > 4.95).sum()) == 102


def test_no_token_of_the_workloads_is_ambiguous():
    for case in workloads():
        logits, bias = make_routing(NARROW, case)
        assert not route(logits, bias, case.factor, NARROW).ambiguous.any(), case.id


def test_without_the_redraw_rule_tokens_would_be_ambiguous(monkeypatch):
    monkeypatch.setattr(values, "REDRAW_GAP", -1)
    logits, bias = make_routing(NARROW, SmallCase(11948, 128))
    share = float(route(logits, bias, 2.5, NARROW).ambiguous.float().mean())
    assert 0.005 < share < 0.05


def test_redrawing_one_token_leaves_the_others_alone(monkeypatch):
    case = SmallCase(901, 96)
    after = make_routing(NARROW, case)[0]
    monkeypatch.setattr(values, "REDRAW_GAP", -1)
    before, bias = make_routing(NARROW, case)
    changed = (before != after).any(dim=1)
    ambiguous = route(before, bias, 2.5, NARROW).ambiguous
    assert changed[ambiguous].all() and 0 < int(changed.sum()) < 50


def test_every_workload_has_its_share_of_work():
    cases = workloads()
    assert len(cases) == 19
    for case in cases:
        found = routing_stats(NARROW, case)
        assert found == case.stats, case.id
        if case.seq_len == 1:
            assert (found.local_pairs, found.active_tokens, found.active_experts) == (2, 1, 2)
        else:
            assert 0.375 <= found.active_tokens / case.seq_len <= 0.625
            assert 0.75 <= found.local_pairs / case.seq_len <= 1.25


def test_stored_seeds_are_the_chosen_ones_at_both_widths():
    for case in workloads():
        assert choose_seed(NARROW, case.seq_len, case.offset) == case.seed, case.id
    full = Geometry(7168, 2048)
    assert [case.seed for case in ROOT.workloads(full.name)] == [case.seed for case in workloads()]
    assert choose_seed(full, 1, 32) == choose_seed(NARROW, 1, 32)


def test_a_case_without_a_seed_gets_the_chosen_one():
    chosen = SmallCase(7, 192, seed=choose_seed(NARROW, 7, 192))
    assert torch.equal(make_routing(NARROW, SmallCase(7, 192, seed=None))[0], make_routing(NARROW, chosen)[0])


def test_a_data_set_gives_the_routing_of_the_full_width():
    class Dataset:
        def routing_inputs(self, name: str, seq_len: int, offset: int) -> tuple[torch.Tensor, torch.Tensor]:
            self.asked = (name, seq_len, offset)
            return torch.ones(seq_len, 256), torch.ones(256, dtype=torch.bfloat16)

    dataset = Dataset()
    made = make_inputs(NARROW, SmallCase(2, 32), "fib", 0, dataset=dataset)
    assert dataset.asked == (Geometry(7168, 2048).name, 2, 32)
    assert (made["routing_logits"] == 1).all()


def test_an_unknown_family_is_refused():
    with pytest.raises(InputError, match="fib or realistic"):
        make_inputs(TINY, SmallCase(1), "gaussian", 0)


GRID = [case for case in ROOT.workloads(NARROW.name, further=True) if case.further]


@pytest.mark.parametrize("case", GRID, ids=lambda case: case.id)
def test_the_grids_routing_is_as_even_and_as_local_as_its_name_says(case):
    logits, bias = make_routing(NARROW, case)
    routed = route(logits, bias, case.factor, NARROW)
    assert not routed.ambiguous.any()
    if case.routing == "local8":
        assert ((routed.ids >= case.offset) & (routed.ids < case.offset + NARROW.local_experts)).all()
        counts = routed.ids.flatten().bincount(minlength=NARROW.experts)[case.offset :][: NARROW.local_experts]
    else:
        counts = routed.ids.flatten().bincount(minlength=NARROW.experts)
        assert case.stats.local_pairs == case.seq_len
    # Every expert has its share, where the tokens go into it without a rest.
    assert counts.max() - counts.min() <= bool(case.seq_len % 64)
    assert routing_stats(NARROW, case) == case.stats
    assert routed.weights.std(dim=1).min() > 0, "tokens weigh their experts"


def test_the_grid_is_what_the_measurements_between_the_workloads_ask_for():
    even, local = ([case.seq_len for case in GRID if case.routing == kind] for kind in ("even", "local8"))
    assert even == [128, 192, 256, 512, 1024, 2048, 4096, 8192] and local == [80, 192, 901, 4096]
    assert {case.offset for case in GRID} == {96} and {"T2048_o96_even", "T901_o96_local8"} <= {
        case.id for case in GRID
    }


def test_no_data_set_decides_the_routing_of_the_grid():
    case = GRID[0]
    assert torch.equal(make_routing(NARROW, case, dataset=object())[0], make_routing(NARROW, case)[0])
