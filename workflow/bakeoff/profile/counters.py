"""Hardware counters: what is asked of Nsight Compute on which chip, and what a cell's kernels sum up to.

Entry points: `wanted` (metric names for a chip), `available` (what `ncu --query-metrics` lists), `summarize`. A metric
that the chip or the capture lacks is None, never 0. Names are those of the Nsight Compute profiling guide.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# Nsight Compute's names of the chips.
CHIPS = {"sm_90a": "gh100", "sm_100a": "gb100"}
METRICS = {
    "duration_ns": "gpu__time_duration.sum",
    "dram_read_bytes": "dram__bytes_read.sum",
    "dram_write_bytes": "dram__bytes_write.sum",
    "dram_share": "dram__throughput.avg.pct_of_peak_sustained_elapsed",
    "occupancy": "sm__warps_active.avg.pct_of_peak_sustained_active",
    # The chip's own counters: those named smsp__sass_* patch every kernel and cost one more pass of it.
    "local_loads": "smsp__inst_executed_op_local_ld.sum",
    "local_stores": "smsp__inst_executed_op_local_st.sum",
}
# The tensor pipe, over elapsed cycles: over active ones it would hide SMs without work. Blackwell's tcgen05 has a pipe
# of its own.
TENSOR = {
    "sm_90a": "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_elapsed",
    "sm_100a": "sm__pipe_tc_cycles_active.avg.pct_of_peak_sustained_elapsed",
}
SUMS = {"dram_bytes": ("dram_read_bytes", "dram_write_bytes"), "local_accesses": ("local_loads", "local_stores")}
PERCENT = ("dram_share", "occupancy", "tensor_share")


@dataclass(frozen=True)
class Counted:
    """One profiled kernel: the marked call it belongs to, and its metrics by our names, shares as ratios; None is
    n/a."""

    workload: str
    call: int
    kernel: str
    metrics: dict[str, float | None]


def wanted(backend: str) -> dict[str, str]:
    """Our name -> the chip's metric name."""
    return {**METRICS, "tensor_share": TENSOR[backend]}


def available(listing: str) -> set[str]:
    """Base names of the metrics in the output of `ncu --query-metrics`: the first word of every row of its tables."""
    words = (line.split()[0] for line in listing.splitlines() if line.strip())
    return {word for word in words if "__" in word}


def supported(metrics: dict[str, str], listing: str) -> dict[str, str]:
    """The wanted metrics that a chip has."""
    names = available(listing)
    return {ours: name for ours, name in metrics.items() if name.split(".")[0] in names}


def translate(raw: dict[str, float | None], metrics: dict[str, str]) -> dict[str, float | None]:
    """A kernel's metrics by our names; percentages become ratios."""
    found = {ours: raw.get(name) for ours, name in metrics.items()}
    return {ours: None if value is None else value / 100 if ours in PERCENT else value for ours, value in found.items()}


def summarize(kernels: Sequence[Counted]) -> dict[str, float | None]:
    """The fields of `Counters` over some kernels of one call: bytes and accesses are sums, shares are means weighted by
    the kernels' durations. A sum with an unknown part is unknown: a partial sum would look like less traffic."""
    sums = {
        ours: _sum(kernel.metrics.get(name) for kernel in kernels for name in names) for ours, names in SUMS.items()
    }
    return {
        **{ours: None if value is None else float(round(value)) for ours, value in sums.items()},
        **{ours: _weighted(kernels, ours) for ours in PERCENT},
    }


def _sum(values: Iterable[float | None]) -> float | None:
    known = list(values)
    return None if not known or None in known else sum(value for value in known if value is not None)


def _weighted(kernels: Sequence[Counted], name: str) -> float | None:
    """Mean of a share, weighted by duration; None if a part is unknown."""
    pairs = [(kernel.metrics.get(name), kernel.metrics.get("duration_ns")) for kernel in kernels]
    total = _sum(duration for _, duration in pairs)
    products = [None if share is None or duration is None else share * duration for share, duration in pairs]
    weighted = _sum(products)
    return None if not total or weighted is None else round(weighted / total, 6)
