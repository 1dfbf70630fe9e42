"""The timed calls of a cell, under each protocol, on any device that repeats.

Entry point: `timed_calls`. Between two calls of `robust` everything changes that a solution could have remembered:
routing, activations and their scales are new, a secret part of the weights is rewritten, addresses change, and the L2
cache is written over. Under every protocol what the supervisor asks for after a batch is kept and verified: nobody
knows beforehand which call that will be.
"""

from __future__ import annotations

import math
import random
import secrets
import time
from collections.abc import Callable, Sequence
from statistics import NormalDist, quantiles
from typing import TYPE_CHECKING, Any

import torch

from bakeoff.core.protocols import PROTOCOLS, Calls, Fib, unattached
from bakeoff.core.variants import Drawn, Draws, Values, copied, draw, in_order, rewrite
from bakeoff.core.worker.guarded import Finding, OutputBuffer, changed_fences
from bakeoff.schema.outcomes import Outcome, Reason

if TYPE_CHECKING:
    from bakeoff.core.device.base import Device
    from bakeoff.core.worker.state import Keeper, OpenCell

# A delay on the GPU before each call, while the host enqueues it: longer than the host needs, so that the GPU never
# waits for it.
LEAD_IN_SHARE, LEAD_IN_EXTRA_US, LEAD_IN_MOST_US = 1.5, 20.0, 1000.0
# How far the time of 2N calls may be from twice that of N before it is remarked on, at least and at most (by how much
# single calls scatter), and the ratio below which calls were skipped, which the tolerance never reaches.
SCALING_TRIES, SCALING_TOLERANCE, SCALING_MOST, LAZY_RATIO = 3, 0.03, 0.2, 1.5
# Pauses before the further tries of calls that seem to be skipped: a busy host can be slow for several milliseconds on
# end, and calls that wait for it swing by factors of three. The shortest of seven intervals of such calls convicts an
# honest solution now and then; of this many, in none of 5,000 draws (test_measure_device.py has the intervals).
SUSPECT_PAUSES_S = (0.002, 0.01, 0.05, 0.2) + (0.05,) * 16
Z95 = 1.96

Samples = dict[str, list[float]]


class RuleBroken(Exception):
    """A check between timed calls failed."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding[2])
        self.finding = finding


def timed_calls(device: Device, cell: OpenCell, protocol: str, keeper: Keeper, attach: bool = True) -> dict[str, Any]:
    """Time a cell; returns the parts of the worker's answer that timing fills. Raises RuleBroken. attach: whether CUPTI
    may be attached to the process."""
    settings = PROTOCOLS[protocol]
    if isinstance(settings, Calls) and not attach:
        settings = unattached(settings)
    draws = cell.draws
    assert draws is not None, "a timed cell comes with what its variants are drawn from"
    if isinstance(settings, Fib):
        samples = _fib(device, cell, draws, settings, keeper)
    else:
        samples = _calls(device, cell, draws, settings, keeper)
    answer: dict[str, Any] = {"tiers": {tier: times for tier, times in samples.items() if times}}
    if isinstance(settings, Calls) and not (settings.in_place or cell.state.is_reference):
        answer["warnings"] = _check_scaling(device, cell, settings, samples)
    return {**answer, "missing_tiers": dict(device.missing)}


class _InputPool:
    """Values that are new in every call, at addresses that calls draw from."""

    def __init__(self, cell: OpenCell, draws: Draws, places: int, outputs: int) -> None:
        self.cell, self.draws = cell, draws
        self._weights = {0: cell.weights}
        if draws.experts:
            self._weights[draws.experts] = cell.state.second_weights(draws.experts)
        self._values = Values(cell.parts)
        self._places = [copied(cell.parts) for _ in range(places)]
        self._drawn: dict[int, Drawn] = {}
        self._rewritten: tuple[dict[str, torch.Tensor], Drawn] | None = None
        self.places = places
        self.outputs = [cell.output() for _ in range(outputs)]

    def draw(self, numbers: Sequence[int]) -> None:
        """Make ready for the calls of these numbers. It waits for the device, which has nothing to do between two
        batches."""
        variants = [self.draws.variant(number) for number in numbers]
        state, tokens = self.cell.state, self.cell.case.seq_len
        self._drawn = dict(zip(numbers, draw(state.geometry, tokens, variants, state.device.torch_name), strict=True))

    def inputs(self, number: int, place: int) -> list[Any]:
        """The ten inputs of a call, its activations at one of the places, its weights with a part rewritten; nothing
        waits for the device."""
        drawn = self._drawn[number]
        self.restore()
        weights = self._weights[drawn.variant.experts]
        rewrite(weights, drawn)
        self._rewritten = weights, drawn
        return in_order(self._values.make(drawn, self._places[place]), weights)

    def restore(self) -> None:
        """Give the weights their own values again."""
        if self._rewritten:
            rewrite(*self._rewritten)
        self._rewritten = None


def _calls(device: Device, cell: OpenCell, draws: Draws, settings: Calls, keeper: Keeper) -> Samples:
    pool, samples = _InputPool(cell, draws, settings.buffers, settings.batch_calls), _no_samples()
    device.trace(settings.trace)
    row = _Row(device, pool, settings)
    warm_up = row.batch(range(-settings.warmup_calls, 0))[0]
    row.lead_in_us = _lead_in(warm_up) if settings.trace else 0.0
    if settings.row_s:
        row.length = max(2, min(device.longest_row, round(settings.row_s * 1e6 / min(warm_up["event_us"]))))
    if settings.graph:
        row.capture()
        row.batch(range(-1, 0))
    begun = device.seconds()
    while True:
        numbers = range(keeper.calls, keeper.calls + settings.batch_calls)
        times, digests = row.batch(numbers)
        for tier in samples:
            samples[tier] += times.get(tier, [])
        _check_batch(pool, len(numbers))
        for call, place in keeper.offer(len(numbers)):
            _keep(cell, keeper, place, pool.outputs[call], numbers[call], digests[call])
        _check_kept(device)
        primary = samples["cupti_span_us"] or samples["event_us"]
        if _is_enough(primary, device.seconds() - begun, settings):
            # Making the next cell's inputs takes thousands of kernels; each would leave a record to be read.
            device.trace(False)
            pool.restore()
            return samples


def _is_enough(times: list[float], spent_s: float, settings: Calls) -> bool:
    if spent_s >= settings.budget_s or len(times) >= settings.max_calls:
        return True
    if len(times) < settings.min_calls:
        return False
    width = relative_half_width(times)
    return width <= settings.precision or width > settings.hopeless


def _check_scaling(device: Device, cell: OpenCell, settings: Calls, samples: Samples) -> list[str]:
    """Twice as many calls in a row must take about twice as long; returns a warning where they do not, and raises where
    they skip.

    How exactly depends on how much single calls differ: sums of calls that wait for the host scatter as well.

    The best of a few tries counts: a hiccup of the host makes an interval longer, never shorter. Calls that are skipped
    stay skipped however often they are tried; a hiccup passes.
    """
    inputs, output, count = cell.inputs, cell.output(), settings.scaling_calls
    output.poison()
    given = output.view()
    # All calls are enqueued behind one delay; a call that itself waits for the GPU cannot be.
    fastest_us = min(samples["wall_us"])
    each_us = LEAD_IN_SHARE * fastest_us if fastest_us < LEAD_IN_MOST_US else 0.0
    tolerance = min(SCALING_MOST, max(SCALING_TOLERANCE, 2 * _ratio_scatter(samples["event_us"], count)))
    single = double = ratio = math.inf
    with cell.watch():
        for pause_s in (0.0,) * SCALING_TRIES + SUSPECT_PAUSES_S:
            if pause_s and ratio >= LAZY_RATIO:
                break
            time.sleep(pause_s)
            single, double = (
                min(best, device.batch_us(lambda: cell.call(inputs, given), calls, calls * each_us + LEAD_IN_EXTRA_US))
                for best, calls in ((single, count), (double, 2 * count))
            )
            ratio = double / single
            if abs(ratio / 2 - 1) <= tolerance:
                return []
    told = f"{2 * count} calls in a row took {ratio:.2f} times as long as {count}"
    if ratio < LAZY_RATIO:
        raise RuleBroken((Outcome.REJECTED, Reason.SKIPPED_CALLS, told))
    return [f"{told}, not twice as long"]


class _Row:
    """Calls one after the other, as a protocol wants them. lead_in_us: how long the GPU is kept busy before each;
    length: calls, without a pause, that a sample is the mean of, 0 for one call."""

    def __init__(self, device: Device, pool: _InputPool, settings: Calls) -> None:
        self._device, self._pool, self._settings = device, pool, settings
        self._chance = random.Random(secrets.randbits(64))
        self._replay: Callable[[], None] | None = None
        self._alone = settings.shared == 1  # else nothing runs between two calls of a batch: it would take their cache
        self.lead_in_us, self.length = LEAD_IN_MOST_US, 0

    def capture(self) -> None:
        """Time a graph of the call from now on; NotCapturable if there is none."""
        cell, (output, *_) = self._pool.cell, self._pool.outputs
        self._pool.draw([-1])
        inputs = self._pool.inputs(-1, 0)
        with cell.watch():
            self._replay = self._device.capture(lambda: cell.call(inputs, output.view()))

    def batch(self, numbers: Sequence[int]) -> tuple[Samples, torch.Tensor]:
        """Enqueue the calls of these numbers and wait for them; returns their times and the digest of each output."""
        cell, pool, device, settings = self._pool.cell, self._pool, self._device, self._settings
        outputs = [pool.outputs[index % len(pool.outputs)] for index in range(len(numbers))]
        digest = cell.state.digest
        inputs: list[Any] = []
        lengths, digests = [], []
        pool.draw(numbers if self._alone else numbers[:1])
        with cell.watch():
            for number, output in zip(numbers, outputs, strict=True):
                if self._alone or not inputs:
                    inputs = pool.inputs(number, self._chance.randrange(pool.places))
                    for each in [output] if self._alone else outputs:
                        each.poison()
                    if not self._alone:
                        self._sample(inputs, cell.output(), 1)  # fills the cache; its time is dropped
                if settings.flush:
                    device.cold()
                lengths.append(self._length())
                self._sample(inputs, output, lengths[-1])
                # Enqueued at once: an output that is still being written when the call's end has passed has another
                # digest later.
                digests += [digest.of(output.bits())] if self._alone else []
            device.synchronize()
        _check_rules(cell)
        harvest = device.harvest()
        times = {
            tier: [us / calls for us, calls in zip(found[-len(lengths) :], lengths, strict=True)]
            for tier, found in harvest.items()
        }
        return times, torch.stack(digests or [digest.of(output.bits()) for output in outputs])

    def _sample(self, inputs: list[Any], output: OutputBuffer, calls: int) -> None:
        """Enqueue the calls of one sample."""
        device, given, cell = self._device, output.view(), self._pool.cell
        call = self._replay or (lambda: cell.call(inputs, given))
        if self.lead_in_us:
            device.lead_in(self.lead_in_us)
        device.begin()
        for _ in range(calls - 1):
            call()
        if calls > 1:
            output.poison()  # nobody knows that the call after this is the last one, whose output may be judged
        call()
        device.end()
        finding = output.check_tensor(given)
        if finding:
            raise RuleBroken(finding)

    def _length(self) -> int:
        """Calls of the next sample: half as many as wanted at least, half as many again at most."""
        return self.length // 2 + secrets.randbelow(self.length + 1) if self.length else 1


def _check_rules(cell: OpenCell) -> None:
    finding = cell.state.rules_broken()
    if finding:
        raise RuleBroken(finding)


def _check_kept(device: Device) -> None:
    kept = device.kept()
    if kept:
        raise RuleBroken((Outcome.REJECTED, Reason.KEPT_ON_GPU, kept))


def _check_batch(pool: _InputPool, calls: int) -> None:
    changed = changed_fences(pool.outputs[:calls])
    if changed:
        raise RuleBroken(
            (Outcome.REJECTED, Reason.WROTE_OUTSIDE_OUTPUT, f"{changed} elements around the outputs were overwritten")
        )


def _keep(cell: OpenCell, keeper: Keeper, place: int, output: OutputBuffer, number: int, digest: torch.Tensor) -> None:
    if int(cell.state.digest.of(output.bits())) != int(digest):
        raise RuleBroken((Outcome.REJECTED, Reason.LATE_OUTPUT, "the output changed after the end of its call"))
    keeper.keep(place, output.bits(), number, output.poison_bits)


def _fib(device: Device, cell: OpenCell, draws: Draws, settings: Fib, keeper: Keeper) -> Samples:
    """FlashInfer-Bench's own way: other inputs for each trial, all arguments cloned before each call, one wait before
    each."""
    samples = _no_samples()
    device.trace(False)
    pool = _InputPool(cell, draws, places=1, outputs=0)
    for trial in range(settings.trials):
        output = torch.empty(
            cell.case.seq_len, cell.state.geometry.hidden, dtype=torch.bfloat16, device=device.torch_name
        )
        pool.draw([trial])
        arguments = [*pool.inputs(trial, 0), output]
        with cell.watch():
            last = _fib_trial(device, cell, settings, arguments)
        _check_rules(cell)
        for tier, times in device.harvest().items():
            samples[tier] += times
        for _, place in keeper.offer(1):
            # Not poisoned: no bits stand for "unwritten".
            keeper.keep(place, last.view(torch.int16).reshape(-1), trial, -1)
        _check_kept(device)
    pool.restore()
    return samples


def _fib_trial(device: Device, cell: OpenCell, settings: Fib, arguments: list[Any]) -> torch.Tensor:
    """The calls of one trial; returns the output of the last one."""
    for call in range(settings.warmup_calls + settings.timed_calls):
        timed = call >= settings.warmup_calls
        device.zero_cache(settings.cache_bytes)
        *inputs, output = [value.clone() if isinstance(value, torch.Tensor) else value for value in arguments]
        if timed:
            device.synchronize()
            device.begin()
        cell.call(inputs, output)
        if timed:
            device.end()
        elif call == settings.warmup_calls - 1:
            device.synchronize()
    device.synchronize()
    return output


def _lead_in(warmup: Samples) -> float:
    """How long the GPU shall be kept busy while the host enqueues a call, from the last warm-up call's host time."""
    return min(LEAD_IN_MOST_US, warmup["wall_us"][-1] * LEAD_IN_SHARE + LEAD_IN_EXTRA_US)


def relative_half_width(times: list[float]) -> float:
    """Half of the 95 % interval of the median (by order statistics), as a share of the median."""
    ordered, n = sorted(times), len(times)
    reach = Z95 * math.sqrt(n) / 2
    low, high = max(0, math.floor(n / 2 - reach)), min(n - 1, math.ceil(n / 2 + reach))
    median = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    return (ordered[high] - ordered[low]) / 2 / median if median else math.inf


def _ratio_scatter(times: list[float], count: int) -> float:
    """Standard deviation of (sum of 2N calls) / (sum of N calls) as a share of it, from the middle half of single
    calls."""
    if len(times) < 2:
        return 0.0
    low, median, high = quantiles(times, n=4)
    single = (high - low) / (2 * NormalDist().inv_cdf(0.75)) / median
    return single * math.sqrt(1 / (2 * count) + 1 / count)


def _no_samples() -> Samples:
    return {"wall_us": [], "event_us": [], "cupti_busy_us": [], "cupti_span_us": []}
