"""Local pairs, work figures, ambiguity flags, and what else an ambiguous token may come out as."""

from __future__ import annotations

import pytest
import torch
from bakeoff.core.moe import reference, routing
from bakeoff.core.moe.ambiguity import Ambiguity, _close_choices
from bakeoff.core.moe.geometry import Geometry
from bakeoff.core.moe.reference import choose_experts
from bakeoff.schema.gates import Rounding
from hypothesis import given
from hypothesis import strategies as st
from support.moe_cases import TINY, constant_inputs, random_routing

V3 = Rounding(gemm1_output=("bfloat16", "fp8_block128"), intermediate=("fp8_block128",), gemm2_output=("bfloat16",))
FLAT = torch.full((256,), 5.0, dtype=torch.bfloat16)


def tied_logits(extra: dict[int, float] | None = None) -> torch.Tensor:
    """One token: experts 0-2, 32-33, 64-65 clear, 70 and 96 tie for the eighth place, 97 is group 3's second."""
    logits = torch.full((1, 256), -9.0)
    clear = {0: 3.0, 1: 2.9, 2: 2.8, 32: 2.7, 33: 2.6, 64: 2.5, 65: 2.4, 96: 1.0, 70: 1.0, 97: 0.5}
    for expert, value in (clear | (extra or {})).items():
        logits[0, expert] = value
    return logits


def routed(logits: torch.Tensor, bias: torch.Tensor = FLAT) -> routing.Routing:
    return routing.route(logits, bias, 2.5, TINY)


def test_pairs_are_ordered_by_expert_and_then_by_token():
    logits, bias = random_routing(300)
    route = routed(logits, bias)
    pairs = routing.local_pairs(route, 64, TINY)
    expected = [
        (int(e) - 64, t, float(w))
        for t, (ids, weights) in enumerate(zip(route.ids, route.weights, strict=True))
        for e, w in zip(ids, weights, strict=True)
        if 64 <= e < 96
    ]
    found = list(zip(pairs.expert.tolist(), pairs.token.tolist(), pairs.weight.tolist(), strict=True))
    assert found == sorted(expected)
    for expert, span in pairs.spans:
        assert pairs.expert[span].unique().tolist() == [expert]
    assert sum(span.stop - span.start for _, span in pairs.spans) == len(expected)
    assert [expert for expert, _ in pairs.spans] == sorted({e for e, _, _ in expected})


def test_stats_count_pairs_tokens_and_experts():
    route = routed(tied_logits().repeat(3, 1))
    found = routing.stats(route, 0, TINY)
    assert (found.local_pairs, found.active_tokens, found.active_experts) == (9, 3, 3)
    none = routing.stats(route, 224, TINY)
    assert (none.local_pairs, none.active_tokens, none.active_experts) == (0, 0, 0)


@pytest.mark.parametrize("bias", [FLAT, torch.tensor([4.9375, 4.96875], dtype=torch.bfloat16).repeat(128)])
def test_routing_is_the_references_own_to_the_bit(bias):
    logits = random_routing(500)[0].bfloat16().float()  # some tie at the eighth place
    route, (ids, weights) = routed(logits, bias), choose_experts(logits, bias, 2.5)
    assert bool(route.ambiguous.any()) and not bool(route.ambiguous.all())
    assert torch.equal(route.ids, ids) and torch.equal(route.weights, weights)


def test_all_ranks_together_have_every_pair():
    logits, bias = random_routing(100)
    route = routed(logits, bias)
    assert sum(routing.stats(route, offset, TINY).local_pairs for offset in range(0, 256, 32)) == 800


@pytest.mark.parametrize(("shift", "ambiguous"), [(0.0, True), (3e-6, True), (4e-5, False)])
def test_a_token_is_ambiguous_up_to_the_gap_at_the_eighth_expert(shift, ambiguous):
    # sigmoid's slope at 1 is 0.197, and scores near 6 are spaced by 4.8e-7.
    assert bool(routed(tied_logits({96: 1.0 + shift})).ambiguous[0]) is ambiguous


def test_a_token_is_ambiguous_if_the_fourth_and_fifth_group_tie():
    logits = tied_logits({70: -9.0, 128: 1.0, 129: 0.5})
    route = routed(logits)
    assert bool(route.ambiguous[0])
    assert 96 in route.ids[0] and 128 not in route.ids[0]  # the lowest group


@pytest.mark.parametrize(
    "geometry", [Geometry(256, 128, top_k=6), Geometry(256, 128, groups=4), Geometry(256, 128, experts=512)]
)
def test_a_geometry_that_the_reference_does_not_fit_is_refused(geometry):
    with pytest.raises(ValueError, match=r"expected \("):
        routing.route(torch.zeros(1, 256), FLAT, 1.0, geometry)


def test_no_ambiguous_token_means_no_alternatives():
    logits = tied_logits({96: 1.5})
    assert Ambiguity.of(TINY, constant_inputs(TINY, logits, FLAT, 64), routed(logits)) is None


def test_selections_of_a_tie_name_both_experts():
    logits = tied_logits()
    ambiguity = Ambiguity.of(TINY, constant_inputs(TINY, logits, FLAT, 64), routed(logits))
    assert ambiguity is not None
    chosen = [set(ids) for ids, _ in ambiguity.selections(0)]
    assert len(chosen) == 2
    assert chosen[0] ^ chosen[1] == {70, 96}
    for ids, weights in ambiguity.selections(0):
        own = dict(zip(*(x[0].tolist() for x in choose_experts(nudged(logits, ids), FLAT, 2.5)), strict=True))
        assert own == pytest.approx(dict(zip(ids, weights, strict=True)), abs=1e-4)


def test_selections_of_tied_groups_name_both_groups():
    logits = tied_logits({70: -9.0, 128: 1.0, 129: 0.5})
    ambiguity = Ambiguity.of(TINY, constant_inputs(TINY, logits, FLAT, 64), routed(logits))
    assert ambiguity is not None
    assert {96 in ids for ids, _ in ambiguity.selections(0)} == {True, False}
    assert all((96 in ids) != (128 in ids) for ids, _ in ambiguity.selections(0))


def test_tied_groups_that_hold_no_chosen_expert_leave_one_selection():
    # Groups 0 to 2 hold all eight, so that it does not matter which of groups 3 and 4 is kept.
    logits = torch.full((1, 256), -9.0)
    for group in range(3):
        logits[0, 32 * group : 32 * group + 3] = torch.tensor([3.0, 2.5, 2.0]) - 0.1 * group
    logits[0, [96, 97, 128, 129]] = -1.0
    ambiguity = Ambiguity.of(TINY, constant_inputs(TINY, logits, FLAT, 64), routed(logits))
    assert ambiguity is not None
    assert len(ambiguity.selections(0)) == 1


def nudged(logits: torch.Tensor, ids: list[int]) -> torch.Tensor:
    """The logits with the chosen experts a little higher, so that the choice is clear."""
    out = logits.clone()
    out[0, ids] += 1e-4
    return out


@pytest.mark.parametrize("offset", [64, 96])
def test_alternative_rows_are_what_the_reference_gives_for_that_choice(offset):
    logits = tied_logits()
    inputs = constant_inputs(TINY, logits, FLAT, offset)
    ambiguity = Ambiguity.of(TINY, inputs, routed(logits), V3)
    assert ambiguity is not None
    exact, rounded = ambiguity.rows(0)
    assert exact.shape == rounded.shape == (2, TINY.hidden)
    for row, close, (ids, _) in zip(exact, rounded, ambiguity.selections(0), strict=True):
        expected = reference.run(**(inputs | {"routing_logits": nudged(logits, ids)}))[0].float()
        assert (row.float() - expected).norm() <= 1e-2 * expected.norm()
        assert (close.float() - expected).norm() <= 0.2 * expected.norm()
        assert bool(expected.any()) == bool(row.any())


def test_an_alternative_without_a_local_expert_is_a_zero_row():
    logits = tied_logits()
    inputs = constant_inputs(TINY, logits, FLAT, offset=96)
    exact, _ = Ambiguity(TINY, inputs, torch.tensor([True])).rows(0)
    assert sorted(bool(row.any()) for row in exact) == [False, True]


@given(st.lists(st.integers(0, 4), min_size=5, max_size=9), st.integers(1, 4))
def test_close_choices_are_all_that_no_clear_winner_is_left_out_of(levels, count):
    values = [level * 1.5e-6 for level in levels]
    from itertools import combinations

    def admissible(chosen: tuple[int, ...]) -> bool:
        left_out = max(v for i, v in enumerate(values) if i not in chosen)
        return left_out - min(values[i] for i in chosen) <= routing.AMBIGUOUS_GAP

    expected = {chosen for chosen in combinations(range(len(values)), count) if admissible(chosen)}
    assert set(_close_choices(values, count)) == expected
