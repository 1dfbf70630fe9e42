"""What the referee holds an output to."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from bakeoff.core.moe import reference
from bakeoff.core.moe.emulate import emulate
from bakeoff.core.referee import Referee
from bakeoff.core.variants import Values, Variant, copied, draw, in_order, rewrite, roll_weights
from bakeoff.files import PROJECT_ROOT
from bakeoff.schema.gates import EXACT, Rounding
from bakeoff.schema.outcomes import Outcome

SEED = 2
OWN, SECRET = Variant(SEED), Variant(SEED, 2**30 + 5, 1, 3)


def verdict(published: dict[Variant, bool], strict: dict[Variant, bool]) -> str:
    """The outcome of a cell whose outputs on its own and on secret values pass these gates."""
    referee: Any = object.__new__(Referee)

    def gate(passed: bool) -> SimpleNamespace:
        return SimpleNamespace(passed=passed, checks={}, model_dump=lambda mode: {"passed": passed})

    def compare(output: Any, answer: Any, rounding: Any) -> SimpleNamespace:
        numerics = SimpleNamespace(model_dump=lambda mode: {})
        return SimpleNamespace(
            published=gate(published[answer.variant]), strict=gate(strict[answer.variant]), numerics=numerics
        )

    referee.answer = lambda workload, family, seed, variant: SimpleNamespace(
        variant=variant, reference=torch.full((1, 4), 100.0)
    )
    # Another output for each variant: equal ones would be remembered ones.
    referee._read = lambda command, place, shape: torch.full((1, 4), 1.0 + place["variant"]["experts"]).bfloat16()
    referee._compare = compare
    outputs = [{"slot": 0, "poison": 7, "variant": variant.document()} for variant in (OWN, SECRET)]
    command = {"workload": "T1_o32", "family": "fib", "seed": SEED, "rounding": None, "outputs": outputs}
    return referee.judge(command)["outcome"]


BOTH = {OWN: True, SECRET: True}


@pytest.mark.parametrize(
    ("published", "strict", "expected"),
    [
        (BOTH, BOTH, Outcome.PASSED),
        ({OWN: True, SECRET: False}, BOTH, Outcome.PASSED),
        ({OWN: False, SECRET: True}, BOTH, Outcome.INCORRECT_NUMERICAL),
        (BOTH, {OWN: True, SECRET: False}, Outcome.INCORRECT_NUMERICAL),
        (BOTH, {OWN: False, SECRET: True}, Outcome.INCORRECT_NUMERICAL),
    ],
    ids=["both pass", "secret misses published", "own misses published", "secret misses strict", "own misses strict"],
)
def test_secret_values_are_held_to_the_strict_gate_and_own_values_to_both(
    published: dict[Variant, bool], strict: dict[Variant, bool], expected: Outcome
) -> None:
    assert verdict(published, strict) == expected


ROUNDING = Rounding(gemm1_output=("bfloat16",), intermediate=("fp8_block128",), gemm2_output=("bfloat16",))


@pytest.mark.parametrize("workload", ["T1_o32", "T7_o192", "T80_o96"])
@pytest.mark.parametrize(("values", "part", "experts"), [(5, 0, 0), (0, 7, 0), (0, 0, 3), (5, 7, 31)])
def test_secret_values_have_the_answer_that_the_reference_gives_on_their_inputs(
    workload: str, values: int, part: int, experts: int
) -> None:
    definition = "moe_fp8_block_scale_ds_routing_topk8_ng8_kg4_e32_h512_i256"
    job = {"threads": 1, "traces_root": str(PROJECT_ROOT / "traces"), "definition": definition, "dataset": "synthetic"}
    referee = Referee({**job, "device": "cpu", "emulates": True, "roundings": []})
    variant = Variant(SEED, values, part, experts)
    answer = referee.answer(workload, "fib", SEED, variant)

    own, weights = referee._own(workload, "fib", SEED), copied(referee._weights("fib", SEED)[0])
    (drawn,) = draw(referee.geometry, len(own["hidden_states"]), [variant], "cpu")
    roll_weights(weights, experts, into=weights)
    rewrite(weights, drawn)
    parts = Values(own).make(drawn, copied(own))
    for rounding, found in ((EXACT, answer.reference), (ROUNDING, answer.emulation(ROUNDING))):
        expected = emulate(referee.geometry, {**parts, **weights}, rounding).float()
        assert found is not None and (found.float() - expected).norm() <= 1e-3 * expected.norm()
    expected = reference.run(*in_order(parts, weights)).float()
    assert (answer.reference.float() - expected).norm() <= 1e-3 * expected.norm()
    assert answer.active.equal(answer.reference.any(dim=1))
