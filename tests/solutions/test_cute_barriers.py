"""The kernels' barrier protocols in the model, and the model on protocols that are wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.cute_barriers import Fault, Protocol, replay
from support.cute_support import module

maps = module("cute_maps")
gemm = module("cute_gemm")

CHIPS = ("hopper", "blackwell")
K_BLOCKS = (1, 2, 3, 4, 11, 12, 13, 16, 56)  # 2, 4, 16 and 56 are the benchmark's; the others stand beside a ring depth
FORMS = list(gemm.forms("sm_90a", False).values())


def forms(stages):
    """The plain form (clusters of two) and the narrowest swapped one, at another ring depth."""
    return [replace(form, stages=stages) for form in (FORMS[-1], FORMS[0])]


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("stages", range(2, 13))
def test_every_ring_depth_and_number_of_k_blocks_runs_through(stages, chip):
    for form in forms(stages):
        for k_blocks in K_BLOCKS:
            replay(Protocol(form, chip, k_blocks, jobs=2 if k_blocks > 13 else 4), seed=stages)


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_the_forms_as_built_run_through_in_many_orders(form, chip):
    for seed in range(6):
        replay(Protocol(form, chip, k_blocks=16, jobs=2), seed)


WRONG = {
    "a parity that never turns": {"full_parity": lambda i, stages: 0},
    "the loader's parity one round off": {"empty_parity": lambda i, stages: i // stages % 2},
    "one arrival too few": {"empty_arrivals_missing": 1},
    "a slot freed before the products have read it": {"release_early": True},
    "a ring one slot too deep for its barriers": {"stage": lambda i, stages: (i // 2) % stages},
}


# On Blackwell the tensor core itself frees a slot: it cannot be early.
CHANGES = [
    (chip, name) for chip in CHIPS for name in WRONG if (chip, WRONG[name]) != ("blackwell", {"release_early": True})
]


@pytest.mark.parametrize(("chip", "name"), CHANGES)
def test_the_model_objects_to_a_wrong_protocol(chip, name):
    form = replace(FORMS[-1], stages=3)
    with pytest.raises(Fault):
        for seed in range(40):
            replay(Protocol(form, chip, k_blocks=8, jobs=3, **WRONG[name]), seed)


def test_waiting_a_whole_ring_ahead_would_deadlock():
    """Why a consumer may take one K block ahead, but no more than the ring has slots besides its own."""
    form = replace(FORMS[-1], stages=3)
    replay(Protocol(form, "hopper", k_blocks=8, jobs=2, take_ahead=2), 0)
    with pytest.raises(Fault, match="deadlock"):
        replay(Protocol(form, "hopper", k_blocks=8, jobs=2, take_ahead=3), 0)
