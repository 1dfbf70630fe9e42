"""The reference against plain Python and float64, ties by the lowest id, and sizes on both sides of a tile."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from bakeoff.core.moe import reference
from bakeoff.core.moe.reference import choice_scores, choose_experts, largest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from support.moe_cases import TINY, constant_inputs, plain_forward, plain_route, random_routing


def error(output: torch.Tensor, expected: np.ndarray) -> float:
    return float(np.linalg.norm(output.double().numpy() - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("tokens", [1, 2, 127, 128, 129])
def test_output_is_that_of_a_plain_float64_loop(tokens):
    logits, bias = random_routing(tokens, seed=tokens)
    inputs = constant_inputs(TINY, logits, bias, offset=64, seed=tokens)
    expected = plain_forward(inputs)
    output = reference.run(**inputs)
    assert output.dtype == torch.bfloat16 and output.shape == (tokens, TINY.hidden)
    if expected.any():
        assert error(output, expected) < 2e-3  # bfloat16 output
    np.testing.assert_array_equal(output.float().numpy().any(axis=1), expected.any(axis=1))


def all_on_one_expert(tokens: int, expert: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits under which every token's best expert is `expert`, and the other seven live in groups 4 to 6."""
    logits = torch.full((tokens, 256), -9.0)
    logits[:, [expert, expert + 1, 130, 131, 160, 161, 200, 201]] = torch.tensor([3.0, 2, 2, 2, 2, 2, 2, 2])
    return logits, torch.full((256,), 5.0, dtype=torch.bfloat16)


def test_all_tokens_on_the_same_experts():
    logits, bias = all_on_one_expert(130, 40)
    inputs = constant_inputs(TINY, logits, bias, offset=32)
    assert error(reference.run(**inputs), plain_forward(inputs)) < 2e-3


def test_no_local_token_gives_exact_zeros():
    logits, bias = all_on_one_expert(5, 40)
    output = reference.run(**constant_inputs(TINY, logits, bias, offset=224))
    assert output.shape == (5, TINY.hidden) and not output.view(torch.int16).any()


def test_its_text_runs_alone():
    namespace: dict = {}
    with open(reference.__file__) as stream:  # noqa: PTH123
        exec(stream.read(), namespace)
    logits, bias = random_routing(3)
    inputs = constant_inputs(TINY, logits, bias, offset=0)
    assert torch.equal(namespace["run"](*inputs.values()), reference.run(**inputs))


def test_a_group_is_scored_by_its_best_two():
    # Group 7 has the single best expert, but groups 0 to 3 have better pairs.
    logits = torch.full((1, 256), -9.0)
    for group in range(4):
        logits[0, 32 * group : 32 * group + 2] = 1.0
    logits[0, 255] = 3.0
    ids, _ = choose_experts(logits, torch.zeros(256, dtype=torch.bfloat16), 1.0)
    assert 255 not in ids[0]


def test_weights_leave_the_bias_out_and_sum_to_the_factor():
    logits, bias = random_routing(50)
    ids, weights = choose_experts(logits, bias, 2.5)
    scores = torch.sigmoid(logits).gather(1, ids)
    assert torch.allclose(weights.sum(dim=1), torch.tensor(2.5))
    assert torch.allclose(weights / weights[:, :1], scores / scores[:, :1])


# Not shrunk: an example of 256 numbers takes minutes to shrink and is no clearer.
@settings(max_examples=60, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(
    st.lists(st.lists(st.integers(0, 2), min_size=256, max_size=256), min_size=1, max_size=3), st.integers(0, 2**32 - 1)
)
def test_ties_go_to_the_lowest_group_and_the_lowest_expert(levels, bits):
    # Three levels of logits and two of bias: nearly everything ties.
    logits = torch.tensor(levels, dtype=torch.float32) - 1
    bias = torch.tensor([4.9375 + 0.03125 * ((bits >> (e % 32)) & 1) for e in range(256)], dtype=torch.bfloat16)
    ids, weights = choose_experts(logits, bias, 2.5)
    expected, plain_weights = plain_route(logits, bias, 2.5)
    assert ids.tolist() == expected
    assert torch.allclose(weights, torch.tensor(plain_weights), atol=1e-6)


def test_random_routing_is_that_of_plain_python():
    logits, bias = random_routing(200, seed=9)
    ids, _ = choose_experts(logits, bias, 1.0)
    assert ids.tolist() == plain_route(logits, bias, 1.0)[0]


def test_scores_are_float64_sigmoids_rounded_once():
    # Libraries' float32 sigmoids differ in the last bit between loops and devices, and so would break exact ties.
    logits, bias = random_routing(20, seed=4)
    scores, _ = choice_scores(logits, bias)
    expected = np.array([[1 / (1 + math.exp(-x)) for x in row] for row in logits.tolist()]).astype(np.float32)
    np.testing.assert_array_equal(scores.numpy(), expected)


def test_largest_takes_the_first_of_equal_values():
    values = torch.tensor([[1.0, 3, 3, 2, 3], [0.0, 0, 0, 0, 0]])
    assert largest(values, 3).tolist() == [[1, 2, 4], [0, 1, 2]]
    assert values[0, 1] == 3  # its argument is left alone
