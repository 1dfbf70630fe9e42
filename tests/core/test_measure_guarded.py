"""The guards around one call, each by itself."""

from __future__ import annotations

import random
import signal
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from bakeoff.core.messages import ChannelError, Done
from bakeoff.core.moe.geometry import Geometry
from bakeoff.core.variants import WEIGHTS, Variant, activations, roll_weights
from bakeoff.core.worker.__main__ import classify
from bakeoff.core.worker.guarded import FENCE, WORDS, Digest, Functions, Hooks, OutputBuffer, check_threads
from bakeoff.core.worker.timing import _draw
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


def test_a_secret_variant_changes_everything_and_rolling_back_restores_the_weights() -> None:
    drawn = [Variant.secret(7, 32) for _ in range(50)]
    assert all(0 < variant.tokens < 7 and 0 < variant.experts < 32 for variant in drawn)
    assert len({variant.seed for variant in drawn}) == 50 and Variant.secret(1, 32).tokens == 0
    weights = {name: torch.arange(32 * 4, dtype=torch.uint8).view(32, 4) for name in WEIGHTS}
    rolled = roll_weights(weights, 5)
    assert torch.equal(rolled[WEIGHTS[0]][5], weights[WEIGHTS[0]][0])
    roll_weights(rolled, -5, into=rolled)
    assert all(torch.equal(rolled[name], weights[name]) for name in WEIGHTS)


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
        "an overridden operator": (lambda: library.impl("roll", lambda *_: None, "AutogradCPU"), library._destroy),
    }
    for what, (leave, take_back) in undo.items():
        leave()
        found = hooks.check()
        take_back()
        assert found and found[1] == Reason.LEFT_HOOK and found[2].endswith(what), what
    assert hooks.check() is None


def test_the_supervisor_asks_for_an_output_on_changed_values() -> None:
    """Which values a batch had is what the worker says; one that never had changed ones hides a memory."""
    cell: Any = SimpleNamespace(key="k")
    outputs = [{"slot": slot, "variant": variant, "poison": 0} for slot, variant in enumerate((0, 0, 1))]
    done = Done.model_validate({"say": "done", "id": 1, "token": "t", "outcome": None, "outputs": outputs})
    for kept in ([0, 0], [0, 1]):
        attempt = Attempt(cell, MagicMock(), [0, 1, 2], [Variant(1), Variant(2)], {}, "", 0.0, 0.0, kept=kept)
        if any(kept):
            attempt.take(done)
            assert [output["slot"] for output in attempt.outputs] == [0, 1, 2]
        else:
            with pytest.raises(ChannelError, match="changed values"):
                attempt.take(done)


def test_a_batch_never_has_the_workloads_own_values_alone() -> None:
    draws = iter([0, 0, 0, 0, 1, 0])
    zeros: Any = SimpleNamespace(randrange=lambda limit: next(draws))
    assert _draw(zeros, 2, 3) == [1, 0]
    assert _draw(random.Random(0), 3, 1) == [0, 0, 0]


class _Mode(TorchFunctionMode):
    pass


def test_a_variant_shares_no_memory_with_the_routing_that_all_variants_come_from() -> None:
    geometry = Geometry(512, 256)
    case = SimpleNamespace(seq_len=2, offset=0, factor=2.5)
    routing = (torch.rand(2, 256), torch.rand(256).bfloat16())
    for variant in (Variant(0), Variant(1, tokens=1)):
        made = activations(geometry, case, "fib", variant, "cpu", routing)
        made["routing_logits"].fill_(7)
        made["routing_bias"].fill_(7)
    assert not any(bool((one == 7).any()) for one in routing)
