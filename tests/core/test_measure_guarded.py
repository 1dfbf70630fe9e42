"""The guards around one call, each by itself."""

from __future__ import annotations

import signal
import sys
import threading
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from bakeoff.core import policy
from bakeoff.core.messages import Batch, ChannelError, Done
from bakeoff.core.moe import reference
from bakeoff.core.moe.geometry import Geometry
from bakeoff.core.moe.inputs import make_routing
from bakeoff.core.moe.routing import local_pairs, route, stats
from bakeoff.core.moe.values import make_weights
from bakeoff.core.variants import (
    WEIGHTS,
    Draws,
    Values,
    Variant,
    activations,
    copied,
    draw,
    in_order,
    rewrite,
    roll_weights,
)
from bakeoff.core.worker.__main__ import classify
from bakeoff.core.worker.guarded import FENCE, WORDS, Digest, Functions, Hooks, OutputBuffer, check_threads
from bakeoff.schema.outcomes import Outcome, Reason
from bakeoff.supervisor.attempt import Attempt
from torch import library as operators
from torch.overrides import TorchFunctionMode


def poisoned(tokens: int = 3, hidden: int = 128) -> OutputBuffer:
    buffer = OutputBuffer(tokens, hidden, "cpu")
    buffer.poison()
    return buffer


def test_an_output_starts_as_a_secret_nan_and_its_fences_are_sound() -> None:
    buffers = [poisoned() for _ in range(40)]
    assert all(buffer.view().isnan().all() for buffer in buffers)
    assert len({buffer.poison_bits for buffer in buffers}) > 10
    assert buffers[0].check_fence() is None and buffers[0].check_tensor(buffers[0].view()) is None
    assert buffers[0].view().data_ptr() % 16 == 0


@pytest.mark.parametrize("place", [FENCE - 1, FENCE + 3 * 128, 0, -1])
def test_one_element_outside_the_output_is_noticed(place: int) -> None:
    buffer = poisoned()
    buffer.view().zero_()
    assert buffer.check_fence() is None
    base = buffer.view()._base
    assert base is not None
    whole = base.as_strided((2 * FENCE + 3 * 128,), (1,), 0)
    whole[place] = 0
    found = buffer.check_fence()
    assert found and found[:2] == (Outcome.REJECTED, Reason.WROTE_OUTSIDE_OUTPUT)


def test_another_shape_type_or_storage_of_the_output_is_noticed() -> None:
    buffer = poisoned()
    expected = {
        buffer.view()[:2]: (Outcome.INCORRECT_SHAPE, None),
        buffer.view().float(): (Outcome.INCORRECT_DTYPE, None),
        buffer.view().clone(): (Outcome.REJECTED, Reason.REPLACED_OUTPUT),
        buffer.view()[:, :1].expand(3, 128): (Outcome.REJECTED, Reason.REPLACED_OUTPUT),
    }
    for given, result in expected.items():
        found = buffer.check_tensor(given)
        assert found and found[:2] == result


def test_a_digest_depends_on_every_bit_and_its_place_and_on_a_secret() -> None:
    digest, data = Digest("cpu"), torch.arange(1003, dtype=torch.uint8)
    before = int(digest.of(data))
    assert int(digest.of(data.clone())) == before and int(Digest("cpu").of(data)) != before
    for index in (0, 7, 500, 1001, 1002):
        changed = data.clone()
        changed[index] ^= 1
        assert int(digest.of(changed)) != before
    whole = data[:1000]  # no bytes beyond the last whole word
    assert int(digest.of(whole)) == int(digest.of(whole.clone())) != int(digest.of(whole.roll(8)))
    swapped = data.clone()
    swapped[:8], swapped[8:16] = data[8:16], data[:8]
    assert int(digest.of(swapped)) != before
    assert int(digest.of(torch.zeros(0))) == 0
    long = torch.zeros(2 * WORDS["cpu"], dtype=torch.int64)
    long[0] = 1
    assert int(digest.of(long)) != int(digest.of(long.roll(WORDS["cpu"])))


def test_a_replaced_function_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    functions = Functions()
    assert functions.check() is None
    for place, name in ((time, "perf_counter_ns"), (torch.Tensor, "copy_"), (torch.cuda, "synchronize")):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, lambda *_: None)
            found = functions.check()
            assert found and found[1] == Reason.REPLACED_FUNCTION and name in found[2]
    assert functions.check() is None


def test_a_thread_that_outlives_the_call_is_noticed() -> None:
    before, done = set(threading.enumerate()), threading.Event()
    thread = threading.Thread(target=done.wait, name="late", daemon=True)
    thread.start()
    found = check_threads(before)
    assert found and found[1] == Reason.LEFT_THREAD and "late" in found[2]
    done.set()
    thread.join()
    assert check_threads(before) is None


def test_rolling_back_restores_the_weights() -> None:
    weights = {name: torch.arange(32 * 4, dtype=torch.uint8).view(32, 4) for name in WEIGHTS}
    rolled = roll_weights(weights, 5, into=copied(weights))
    assert torch.equal(rolled[WEIGHTS[0]][5], weights[WEIGHTS[0]][0])
    assert torch.equal(rolled[WEIGHTS[3]], weights[WEIGHTS[3]].roll(5, 0))
    roll_weights(rolled, -5, into=rolled)
    assert all(torch.equal(rolled[name], weights[name]) for name in WEIGHTS)


def own_inputs(tokens: int) -> tuple[Geometry, Any, dict[str, Any]]:
    geometry, case = Geometry(512, 256), SimpleNamespace(seq_len=tokens, offset=32, factor=2.5, seed=3, routing=None)
    return geometry, case, activations(geometry, case, "fib", 1, "cpu", make_routing(geometry, case))


def new_values(geometry: Geometry, own: dict[str, Any], variant: Variant) -> dict[str, Any]:
    (drawn,) = draw(geometry, len(own["hidden_states"]), [variant], "cpu")
    return Values(own).make(drawn, copied(own))


def same_bits(one: dict[str, Any], other: dict[str, Any]) -> bool:
    tensors = ((one[name], other[name]) for name in one if torch.is_tensor(one[name]))
    return all(torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8)) for a, b in tensors)


@pytest.mark.parametrize("hidden", [128, 384, 512])
def test_variants_that_are_drawn_together_are_what_each_is_alone(hidden: int) -> None:
    case = SimpleNamespace(seq_len=7, offset=32, factor=2.5, seed=3, routing=None)
    geometry = Geometry(hidden, 256)
    own = activations(geometry, case, "fib", 1, "cpu", make_routing(geometry, case))
    draws, weights = Draws.new(1, 32), make_weights(geometry, "fib", 1, "cpu")
    variants = [Variant(1), *(draws.variant(number) for number in range(8))]
    values, into = Values(own), copied(own)
    for variant, drawn in zip(variants, draw(geometry, 7, variants, "cpu"), strict=True):
        assert same_bits(values.make(drawn, into), new_values(geometry, own, variant)), variant
        together, alone = copied(weights), copied(weights)
        rewrite(together, drawn)
        rewrite(alone, draw(geometry, 7, [variant], "cpu")[0])
        assert same_bits(together, alone) and same_bits(together, weights) is (variant == Variant(1))
    assert same_bits(new_values(geometry, own, Variant(1)), own)


@pytest.mark.parametrize("tokens", [1, 7, 33])
def test_every_timed_call_has_new_values_and_the_same_amount_of_work(tokens: int) -> None:
    geometry, case, own = own_inputs(tokens)
    draws, seen = Draws.new(1, 32), []

    def work(parts: dict[str, Any]) -> tuple[list[int], Any]:
        routed = route(parts["routing_logits"], parts["routing_bias"], case.factor, geometry)
        pairs = local_pairs(routed, case.offset, geometry)
        return sorted(pairs.expert.bincount(minlength=32).tolist()), stats(routed, case.offset, geometry)

    for number in range(-3, 30):
        variant = draws.variant(number)
        made = new_values(geometry, own, variant)
        assert work(made) == work(own)
        for name in ("routing_logits", "routing_bias", "hidden_states", "hidden_states_scale"):
            bits = made[name].reshape(-1).clone().view(torch.uint8)
            assert made[name].isfinite().all() if name != "hidden_states" else (bits & 0x7F != 0x7F).all()
            if not draws.repeats(number):
                assert not any(torch.equal(bits, earlier[name]) for earlier in seen), (number, name)
        if not draws.repeats(number):
            tensors = ((name, value) for name, value in made.items() if torch.is_tensor(value))
            seen.append({name: value.reshape(-1).clone().view(torch.uint8) for name, value in tensors})
        assert variant.part and 0 <= variant.experts < 32
    assert any(draws.repeats(number) for number in range(30)) and not draws.repeats(0)
    assert len({draws.variant(number).part for number in range(30)}) == 30


def test_no_cell_is_without_a_call_that_repeats_values_and_nobody_knows_which_it_is() -> None:
    draws = [Draws.new(1, 32) for _ in range(300)]
    places = [[number for number in range(16) if each.repeats(number)] for each in draws]
    assert {len(each) for each in places} == {3, 4}
    assert {number for each in places for number in each} == set(range(1, 16))


def test_a_call_that_repeats_values_has_other_weights() -> None:
    draws = Draws(1, 12345, 5)
    number = next(number for number in range(1, 200) if draws.repeats(number) and not draws.repeats(number - 1))
    before, now = draws.variant(number - 1), draws.variant(number)
    assert replace(now, part=0) == replace(before, part=0) and now.part != before.part


def test_a_rewritten_part_of_the_weights_shows_in_the_output_and_is_restored() -> None:
    geometry, _, own = own_inputs(7)
    weights = make_weights(geometry, "fib", 1, "cpu")
    whole = {name: value.view(torch.uint8).clone() for name, value in weights.items()}
    right = reference.run(*in_order(own, weights)).float()
    for part in range(1, 20):
        (drawn,) = draw(geometry, 7, [Variant(1, part=part)], "cpu")
        rewrite(weights, drawn)
        changed = reference.run(*in_order(own, weights)).float()
        assert (changed - right).norm() / right.norm() > 0.07, "the gates' bounds are 0.06 and 0.01"
        rewrite(weights, drawn)
        assert all(torch.equal(value.view(torch.uint8), whole[name]) for name, value in weights.items())


class MissingPackage(RuntimeError):
    """By name the one that packed solutions raise."""


@pytest.mark.parametrize(
    ("error", "importing", "expected"),
    [
        (MissingPackage("no such thing"), False, (Outcome.UNSUPPORTED, Reason.MISSING_PACKAGE)),
        (MissingPackage("no such thing"), True, (Outcome.UNSUPPORTED, Reason.MISSING_PACKAGE)),
        (MemoryError(), False, (Outcome.OUT_OF_MEMORY, Reason.ALLOCATION)),
        (RuntimeError("CUDA out of memory. Tried to"), False, (Outcome.OUT_OF_MEMORY, Reason.ALLOCATION)),
        (SystemExit(0), False, (Outcome.CRASHED, Reason.EXITED)),
        (ImportError("x"), True, (Outcome.COMPILE_ERROR, None)),
        (ImportError("x"), False, (Outcome.RUNTIME_ERROR, None)),
    ],
)
def test_an_exception_of_a_solution_has_a_meaning(
    error: BaseException, importing: bool, expected: tuple[Outcome, Reason | None]
) -> None:
    assert classify(error, importing) == expected
    outer = RuntimeError("wrapped")
    outer.__cause__ = error
    assert classify(outer, importing) == expected


def test_what_would_run_code_outside_the_call_is_noticed_until_it_is_undone() -> None:
    hooks = Hooks()
    assert hooks.check() is None
    mode, library = _Mode(), operators.Library("aten", "IMPL")
    before = sys.getprofile(), sys.gettrace()
    undo = {
        "sys.setprofile": (lambda: sys.setprofile(print), lambda: sys.setprofile(before[0])),
        "sys.settrace": (lambda: sys.settrace(lambda *_: None), lambda: sys.settrace(before[1])),
        "signal.setitimer": (
            lambda: signal.setitimer(signal.ITIMER_PROF, 1000),
            lambda: signal.setitimer(signal.ITIMER_PROF, 0),
        ),
        "a torch function mode": (lambda: mode.__enter__(), lambda: mode.__exit__(None, None, None)),
        "an overridden operator": (
            lambda: library.impl("index_select", lambda *_: None, "AutogradCPU"),
            library._destroy,
        ),
    }
    for what, (leave, take_back) in undo.items():
        leave()
        found = hooks.check()
        take_back()
        assert found and found[1] == Reason.LEFT_HOOK and found[2].endswith(what), what
    assert hooks.check() is None


def test_the_supervisor_asks_for_outputs_on_values_that_it_draws_itself() -> None:
    """How many calls a batch had is what the worker says, their values are not."""
    cell: Any = SimpleNamespace(key="k")
    draws = Draws.new(1, 32)
    attempt = Attempt(cell, "robust", MagicMock(), [0, 1, 2], [Variant(1)], {}, "", 0.0, 0.0, draws=draws)
    with pytest.raises(ChannelError, match="changed values"):
        attempt.take(Done.model_validate({"say": "done", "id": 1, "token": "t", "outcome": None, "outputs": []}))
    numbers = []
    for _ in range(40):
        numbers += attempt.pick(Batch.model_validate({"say": "batch", "id": 1, "token": "t", "calls": 8}))["calls"]
    kept = [number + 1 for _, number in sorted(attempt.kept.items())]
    assert len(kept) == 2 and all(0 <= call < 8 for _, call in numbers)
    outputs = [{"slot": slot, "variant": variant, "poison": 0} for slot, variant in enumerate([0, *kept])]
    attempt.take(Done.model_validate({"say": "done", "id": 1, "token": "t", "outcome": None, "outputs": outputs}))
    assert [output["slot"] for output in attempt.outputs] == [0, 1, 2]
    assert attempt.outputs[1]["variant"] == draws.variant(kept[0] - 1).document()


def test_a_cell_without_timed_calls_has_no_batch_and_none_has_batches_without_end() -> None:
    cell: Any = SimpleNamespace(key="k")
    batch = Batch.model_validate({"say": "batch", "id": 1, "token": "t", "calls": 1})
    with pytest.raises(ChannelError, match="no more"):
        Attempt(cell, "robust", MagicMock(), [0], [Variant(1)], {}, "", 0.0, 0.0).pick(batch)
    endless = Attempt(cell, "robust", MagicMock(), [0], [Variant(1)], {}, "", 0.0, 0.0, draws=Draws.new(1, 32))
    with pytest.raises(ChannelError, match="no more"):
        for _ in range(policy.BATCHES + 1):
            endless.pick(batch)


class _Mode(TorchFunctionMode):
    pass


def test_a_variant_shares_no_memory_with_the_values_that_all_variants_come_from() -> None:
    geometry = Geometry(512, 256)
    case = SimpleNamespace(seq_len=2, offset=0, factor=2.5)
    routing = (torch.rand(2, 256), torch.rand(256).bfloat16())
    own = activations(geometry, case, "fib", 0, "cpu", routing)
    for made in (own, new_values(geometry, own, Variant(0)), new_values(geometry, own, Variant(0, values=1))):
        made["routing_logits"].fill_(7)
        made["routing_bias"].fill_(7)
    assert not any(bool((one == 7).any()) for one in routing)
