"""Twice as many calls must take twice as long: which cells are rejected for that, and which are not."""

from __future__ import annotations

import random
import statistics
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
from bakeoff.core.protocols import Calls
from bakeoff.core.worker.timing import (
    SCALING_TRIES,
    RuleBroken,
    _check_scaling,
    _ratio_scatter,
)
from bakeoff.schema.outcomes import Reason
from support.fake_device import FakeDevice

STEADY = {"wall_us": [50.0] * 16, "event_us": [100.0] * 16}
WILD = {"wall_us": [50.0] * 16, "event_us": [60.0, 80.0, 120.0, 160.0] * 4}


class _Cell:
    """A cell, and its output, that do nothing: a mock of each costs more than what is tested."""

    inputs: tuple[()] = ()

    def output(self) -> _Cell:
        return self

    def poison(self) -> None: ...

    def view(self) -> None: ...

    def watch(self) -> AbstractContextManager[None]:
        return nullcontext()

    def call(self, *_: Any) -> None: ...


class _Hiccup:
    """A device on which the first intervals of four calls last as long as those of eight, or all of them."""

    def __init__(self, slow: int, power: float = 1.0) -> None:
        self.slow, self.power, self.tries = slow, power, 0

    def batch_us(self, call: object, count: int, lead_in_us: float) -> float:
        self.tries += count == 4
        return 800.0 if count == 4 and self.tries <= self.slow else 100.0 * count**self.power


@pytest.mark.parametrize(("slow", "tries"), [(0, 1), (2, 3), (4, 5), (6, 7)])
def test_a_hiccup_of_the_host_is_not_taken_for_skipped_calls(slow: int, tries: int) -> None:
    device = _Hiccup(slow)
    assert _check_scaling(device, _Cell(), Calls(), STEADY) == []
    assert device.tries == tries, "calls that look skipped are tried again, others are not"


def test_calls_that_wait_for_the_host_are_remarked_on_after_a_few_tries() -> None:
    device = _Hiccup(0, power=0.85)
    (warning,) = _check_scaling(device, _Cell(), Calls(), STEADY)
    assert "not twice as long" in warning and device.tries == SCALING_TRIES


def test_calls_that_scatter_themselves_are_not_remarked_on_when_their_sums_do() -> None:
    device = _Hiccup(0, power=0.9)
    assert _check_scaling(device, _Cell(), Calls(), WILD) == [] and device.tries == 1


def test_the_scatter_of_the_ratio_follows_from_that_of_single_calls() -> None:
    chance = random.Random(4)
    draw = lambda n: [chance.gauss(100, 10) for _ in range(n)]  # noqa: E731
    ratios = [sum(draw(8)) / sum(draw(4)) for _ in range(4000)]
    assert _ratio_scatter(draw(4000), 4) == pytest.approx(statistics.stdev(ratios) / 2, rel=0.08)
    assert _ratio_scatter([5.0], 4) == 0 == _ratio_scatter([5.0] * 9, 4)


@pytest.mark.parametrize("samples", [STEADY, WILD], ids=["steady", "wild"])
def test_calls_that_stay_skipped_are_rejected_however_often_they_are_tried(samples: dict[str, list[float]]) -> None:
    device = _Hiccup(1000)
    with pytest.raises(RuleBroken) as broken:
        _check_scaling(device, _Cell(), Calls(), samples)
    assert broken.value.finding[1] == Reason.SKIPPED_CALLS and device.tries == 23


# Microseconds that 4 and 8 calls in a row of FlashInfer's composition took at T = 1 on an H100: the host launches GEMM
# by GEMM.
FOUR = (3401, 3772, 3484, 3249, 3120, 10945, 6958, 3665, 3419, 3451, 7500, 4359, 12425, 4154, 8570, 3470, 3184, 10019)
FOUR = (*FOUR, 3568, 4003, 10016, 2956, 7562, 3757, 3147, 8733, 8727, 9302)
EIGHT = (6688, 6570, 10870, 5817, 5836, 17649, 7596, 6939, 6944, 12487, 13957, 6660, 7398, 9349, 12333, 5625, 13704)
EIGHT = (*EIGHT, 8015, 6247, 6620, 7106, 10354, 12364, 7176, 5976, 7101, 7324, 10757)


class _HostBound:
    """A device on which intervals are drawn from those measured."""

    def __init__(self, seed: int) -> None:
        self.chance, self.tries = random.Random(seed), 0

    def batch_us(self, call: object, count: int, lead_in_us: float) -> float:
        self.tries += count == 4
        return self.chance.choice(FOUR if count == 4 else EIGHT)


def test_honest_calls_that_wait_for_the_host_are_never_taken_for_skipped_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    devices = [_HostBound(seed) for seed in range(5000)]
    for device in devices:
        _check_scaling(device, _Cell(), Calls(), WILD)
    assert sum(device.tries > 7 for device in devices) >= 5, "seven tries would have convicted some"


def test_a_busy_host_does_not_change_how_many_calls_the_test_double_makes() -> None:
    device = FakeDevice({}, "somebody")
    device.enter("T1_o32", 1)
    time.sleep(0.02)
    assert device.seconds() == 0
    for _ in range(3):
        device.begin()
        device.end()
    assert device.seconds() == 0
    spent = sum(device.harvest()["event_us"]) / 1e6
    assert device.seconds() == pytest.approx(spent) and spent > 0
