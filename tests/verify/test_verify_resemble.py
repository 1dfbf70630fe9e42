"""Wrong outputs of other code than the mutants' are named rightly, and what is no known mistake is named as none."""

from __future__ import annotations

import pytest
import torch
from bakeoff.core.moe.inputs import make_inputs
from bakeoff.core.moe.reference import run
from bakeoff.schema.gates import EXACT
from bakeoff.verify.mutants import routed, transposed_w2_scale
from bakeoff.verify.power import ROUNDING
from bakeoff.verify.resemble import resemblance
from support.moe_cases import NARROW, SmallCase


@pytest.fixture(scope="module", params=["fib", "realistic"])
def inputs(request) -> dict:
    return make_inputs(NARROW, SmallCase(80, 96), request.param, 0)


def swapped(values: torch.Tensor) -> torch.Tensor:
    return torch.cat(values.view(torch.uint8).chunk(2, dim=1)[::-1], dim=1).view(values.dtype)


def sums_of_scores(inputs: dict) -> torch.Tensor:
    """What the right weights were divided by, (T, 1)."""
    return inputs["routing_logits"].sigmoid().gather(1, routed(NARROW, inputs).ids).sum(dim=1, keepdim=True)


WRONG = {
    "gate_up_swapped": lambda i: run(
        **{**i, **{name: swapped(i[name]) for name in ("gemm1_weights", "gemm1_weights_scale")}}
    ),
    "no_renormalisation": lambda i: (run(**i).float() * sums_of_scores(i)).bfloat16(),
    "w2_scale_transposed": lambda i: run(**{**i, "gemm2_weights_scale": transposed_w2_scale(i["gemm2_weights_scale"])}),
    "offset_off_by_one": lambda i: run(**{**i, "local_expert_offset": i["local_expert_offset"] + 1}),
}
NONE = {
    "noise": lambda i: torch.randn(80, 512, generator=torch.Generator().manual_seed(1)) * run(**i).float().std(),
    "much_noise": lambda i: torch.randn(80, 512, generator=torch.Generator().manual_seed(1)) * 1e9,
    "no_numbers": lambda i: torch.full((80, 512), torch.nan),
    "nothing": lambda i: torch.zeros(80, 512),
    "doubled": lambda i: run(**i) * 2,
    "right": lambda i: run(**i),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_output_is_named(inputs: dict, name: str) -> None:
    found = resemblance(NARROW, inputs, EXACT, WRONG[name](inputs))
    assert [mutant for mutant, _ in found.mutants] == [name]
    assert found.distance < 0.01 < 0.05 < found.from_right


@pytest.mark.parametrize("inputs", ["fib"], indirect=True)
def test_coarse_rounding_hides_no_mistake(inputs: dict) -> None:
    found = resemblance(NARROW, inputs, ROUNDING, WRONG["gate_up_swapped"](inputs))
    assert [mutant for mutant, _ in found.mutants] == ["gate_up_swapped"] and 0.01 < found.distance < 0.1


@pytest.mark.parametrize("inputs", ["fib"], indirect=True)
@pytest.mark.parametrize("name", NONE)
def test_what_is_no_known_mistake_is_named_as_none(inputs: dict, name: str) -> None:
    found = resemblance(NARROW, inputs, EXACT, NONE[name](inputs).bfloat16())
    assert found.mutants == ()
    assert found.from_right > 0.9 or name == "right"


def test_mistakes_that_put_out_the_same_are_named_together() -> None:
    # One token with two local experts: without the first one's part, the second one seems to have overwritten it.
    inputs = make_inputs(NARROW, SmallCase(1, 32, seed=27), "fib", 0)
    ids = routed(NARROW, inputs).ids[0]
    first = int(ids[(ids >= 32) & (ids < 64)].min()) - 32
    scale = inputs["gemm2_weights_scale"].clone()
    scale[first] = 0
    found = resemblance(NARROW, inputs, EXACT, run(**{**inputs, "gemm2_weights_scale": scale}))
    assert [mutant for mutant, _ in found.mutants] == ["expert_dropped", "combine_overwrites"]
