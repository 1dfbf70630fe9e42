"""What this host's GPU reaches in the simplest programs: copy bandwidth, FP8 matrix rate, and the cost of a launch.

Run as `python -m bakeoff.profile.ceilings OUT.json`. Takes about ten seconds and 3 GB of GPU memory; changes nothing on the host.
Limits: the matrix rate is that of torch's library call with one scale per tensor, not of block-scaled kernels, and power may lower
the clock during it as it does in any long kernel.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bakeoff.files import pretty_json, write_atomic
from bakeoff.profile.summary import Ceilings

COPY_BYTES = 1 << 30  # far above any L2
MATRIX = 8192
REPEATS = 20
LAUNCHES = 2000


def measure() -> Ceilings:
    """Measure on the current CUDA device."""
    return Ceilings(copy_gbs=round(_copy_gbs(), 1), fp8_tflops=_fp8_tflops(), launch_us=round(_launch_us(), 3))


def _copy_gbs() -> float:
    import torch

    # Random bytes: constant ones can be compressed on the way.
    source = torch.randint(0, 256, (COPY_BYTES,), dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    seconds = _median_s(lambda: target.copy_(source))
    return 2 * COPY_BYTES / seconds / 1e9


def _fp8_tflops() -> float | None:
    import torch

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
    """Time per launch of a kernel with next to no work, from a queue that the host keeps filling."""
    import torch

    value = torch.zeros(1, device="cuda")

    def many() -> None:
        for _ in range(LAUNCHES):
            value.add_(1)

    return _median_s(many, repeats=5) / LAUNCHES * 1e6


def _median_s(call: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Median time of a call between two events, in seconds, after three warm-up calls."""
    import torch

    for _ in range(3):
        call()
    times = []
    for _ in range(repeats):
        before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        before.record()
        call()
        after.record()
        after.synchronize()
        times.append(before.elapsed_time(after) / 1000)
    return statistics.median(times)


def main(arguments: list[str]) -> int:
    write_atomic(Path(arguments[0]), pretty_json(measure().model_dump(mode="json")))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
