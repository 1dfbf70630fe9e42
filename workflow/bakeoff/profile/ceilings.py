"""What this host's GPU reaches in the simplest programs: copy bandwidth, FP8 matrix rate, and the cost of a launch.

Run as `python -m bakeoff.profile.ceilings OUT.json`. Takes about ten seconds and 3 GB of GPU memory; changes nothing on
the host. Limits: the matrix rate is that of torch's library call with one scale per tensor, not of block-scaled
kernels, and power may lower the clock during it as it does in any long kernel.
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bakeoff.files import model_json, write_atomic
from bakeoff.schema.profile import Ceilings

COPY_BYTES = 1 << 30  # far above any L2
MATRIX = 8192
REPEATS = 20
LAUNCHES = 500  # fewer than the launch queue holds, so that the host never waits for room in it
CYCLES_PER_S = 1.7e9  # of the delay kernel, where torch does not tell the clock


def measure() -> Ceilings:
    """Measure on the current CUDA device."""
    return Ceilings(copy_gbs=round(_copy_gbs(), 1), fp8_tflops=_fp8_tflops(), launch_us=round(_launch_us(), 3))


def _copy_gbs() -> float:
    # Random bytes: constant ones can be compressed on the way.
    source = torch.randint(0, 256, (COPY_BYTES,), dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    seconds = _median_s(lambda: target.copy_(source))
    return 2 * COPY_BYTES / seconds / 1e9


def _fp8_tflops() -> float | None:
    a = torch.randn(MATRIX, MATRIX, device="cuda").to(torch.float8_e4m3fn)
    b = torch.randn(MATRIX, MATRIX, device="cuda").to(torch.float8_e4m3fn).t()
    one = torch.ones((), device="cuda")
    try:
        seconds = _median_s(
            lambda: torch._scaled_mm(a, b, scale_a=one, scale_b=one, out_dtype=torch.bfloat16, use_fast_accum=True)
        )
    except RuntimeError:
        return None
    return round(2 * MATRIX**3 / seconds / 1e12, 1)


def _launch_us() -> float:
    """Time per launch of a kernel with next to no work, from a queue that the host has filled before the first one
    starts: what a launch costs the GPU, however long the host takes to enqueue it."""
    value = torch.zeros(1, device="cuda")

    def many() -> None:
        for _ in range(LAUNCHES):
            value.add_(1)

    many()
    begun = time.perf_counter()
    many()
    enqueue_s = time.perf_counter() - begun
    return _median_s(many, repeats=5, delay_s=2 * enqueue_s) / LAUNCHES * 1e6


def _median_s(call: Callable[[], Any], repeats: int = REPEATS, delay_s: float = 0.0) -> float:
    """Median time of a call between two events, in seconds, after three warm-up calls. The GPU is kept busy for
    `delay_s` before each."""
    clock_khz = getattr(torch.cuda.get_device_properties(0), "clock_rate", CYCLES_PER_S / 1e3)
    for _ in range(3):
        call()
    times = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        if delay_s:
            torch.cuda._sleep(int(delay_s * clock_khz * 1e3))
        before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        before.record()
        call()
        after.record()
        after.synchronize()
        times.append(before.elapsed_time(after) / 1000)
    return statistics.median(times)


def main(arguments: list[str]) -> int:
    write_atomic(Path(arguments[0]), model_json(measure()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
