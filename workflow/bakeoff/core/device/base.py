"""The device under a worker: where tensors live, what can be timed there, and whether it is still sound.

`Device` itself is the CPU: tensors in host memory, wall time only. The GPU is in `cuda`, a test double with injected
faults in `fake`; `opening` chooses among them.
"""

import time
from collections.abc import Callable

from bakeoff.schema.sample import TIERS

NO_REPEATS = "the cpu backend times single calls by the wall clock; repeated and traced calls need a GPU"


def now_us() -> float:
    """The host's clock, in microseconds."""
    return time.perf_counter_ns() / 1000


class NotCapturable(Exception):
    """A call cannot become a CUDA graph; says why."""


class Device:
    """The CPU. Subclasses override what their device does differently."""

    torch_name = "cpu"
    # Whether calls are repeated for timing. On the CPU one call proves the algorithm, and its time is never shown.
    repeats = False
    # The most calls that one sample may be the mean of.
    longest_row = 1 << 20

    def __init__(self) -> None:
        self.missing: dict[str, str] = {tier: "the cpu backend has no GPU" for tier in TIERS if tier != "wall_us"}

    def enter(self, workload: str, tokens: int) -> None:
        """A cell begins."""

    def synchronize(self) -> None:
        """Wait for all work; raises if any of it failed."""

    def poisoned(self) -> bool:
        """Whether nothing can run in this process any more."""
        return False

    def trim(self) -> None:
        """Give back memory that nothing uses: other processes need it."""

    def seconds(self) -> float:
        """The clock that a cell's budget is read from."""
        return time.monotonic()

    # The rest is for devices that repeat. All but `harvest` only enqueue.

    def cold(self) -> None:
        """Write over the L2 cache; before the first call of a batch once nothing runs and nothing in it is held."""
        raise RuntimeError(NO_REPEATS)

    def kept(self) -> str | None:
        """What a timed call since the last question left on the device that a cold call must not find, or None."""
        return None

    def zero_cache(self, size: int) -> None:
        """Zero a buffer of `size` bytes, as FlashInfer-Bench does between calls."""
        raise RuntimeError(NO_REPEATS)

    def lead_in(self, microseconds: float) -> None:
        """Keep the device busy for about this long; comes right before `begin` where calls are traced."""
        raise RuntimeError(NO_REPEATS)

    def trace(self, wanted: bool) -> None:
        """From now on, record the kernels of timed calls, or do not."""
        raise RuntimeError(NO_REPEATS)

    def begin(self) -> None:
        """A timed call, or a row of them, starts."""
        raise RuntimeError(NO_REPEATS)

    def end(self) -> None:
        """It has been enqueued."""
        raise RuntimeError(NO_REPEATS)

    def capture(self, call: Callable[[], None]) -> Callable[[], None]:
        """What enqueues the work of `call` again, as one graph; NotCapturable, with the reason, if there is no such
        graph."""
        raise RuntimeError(NO_REPEATS)

    def batch_us(self, call: Callable[[], None], count: int, lead_in_us: float) -> float:
        """Device time of `count` calls in a row, as one interval; returns when they are done."""
        raise RuntimeError(NO_REPEATS)

    def harvest(self) -> dict[str, list[float]]:
        """Times by tier, in microseconds, from each `begin` to its `end` since the last harvest; the device is idle."""
        raise RuntimeError(NO_REPEATS)
