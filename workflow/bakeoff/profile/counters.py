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
    "l2_bytes": "lts__t_bytes.sum",
    "dram_share": "dram__throughput.avg.pct_of_peak_sustained_elapsed",
    "occupancy": "sm__warps_active.avg.pct_of_peak_sustained_active",
    "registers": "launch__registers_per_thread",
    "waves": "launch__waves_per_multiprocessor",
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
PERCENT = ("dram_share", "occupancy", "tensor_share")


@dataclass(frozen=True)
class Counted:
    """One profiled kernel: the marked call it belongs to, and its metrics by our names, shares as ratios; None is
    n/a."""

    workload: str
    call: int
    kernel: str
    metrics: dict[str, float | None]


@dataclass(frozen=True)
class Totals:
    """Counters of several kernels together. Bytes are sums; shares are means weighted by the kernels' durations."""

    kernels: int
    duration_us: float | None
    dram_bytes: float | None
    l2_bytes: float | None
    dram_share: float | None
    tensor_share: float | None
    occupancy: float | None
    local_accesses: float | None


def wanted(backend: str) -> dict[str, str]:
    """Our name -> the chip's metric name."""
    return {**METRICS, "tensor_share": TENSOR[backend]}


def available(listing: str) -> set[str]:
    """Base names of the metrics in the output of `ncu --query-metrics`: the first word of every row of its tables."""
    words = (line.split()[0] for line in listing.splitlines() if line.strip())
    return {word for word in words if "__" in word}


def supported(metrics: dict[str, str], listing: str) -> dict[str, str]:
    """The wanted metrics that a chip has. Launch metrics come from the launch, not from counters, and are never
    listed."""
    names = available(listing)
    return {ours: name for ours, name in metrics.items() if name.startswith("launch__") or name.split(".")[0] in names}


def translate(raw: dict[str, float | None], metrics: dict[str, str]) -> dict[str, float | None]:
    """A kernel's metrics by our names; percentages become ratios."""
    found = {ours: raw.get(name) for ours, name in metrics.items()}
    return {ours: None if value is None else value / 100 if ours in PERCENT else value for ours, value in found.items()}


def summarize(kernels: Sequence[Counted]) -> Totals:
    """Counters of some kernels of one call. A sum with an unknown part is unknown: a partial sum would look like less
    traffic."""
    duration_ns = _sum(kernel.metrics.get("duration_ns") for kernel in kernels)
    read, written = (
        _sum(kernel.metrics.get(name) for kernel in kernels) for name in ("dram_read_bytes", "dram_write_bytes")
    )
    loads, stores = (_sum(kernel.metrics.get(name) for kernel in kernels) for name in ("local_loads", "local_stores"))
    return Totals(
        kernels=len(kernels),
        duration_us=None if duration_ns is None else duration_ns / 1000,
        dram_bytes=None if read is None or written is None else read + written,
        l2_bytes=_sum(kernel.metrics.get("l2_bytes") for kernel in kernels),
        dram_share=_weighted(kernels, "dram_share"),
        tensor_share=_weighted(kernels, "tensor_share"),
        occupancy=_weighted(kernels, "occupancy"),
        local_accesses=None if loads is None or stores is None else loads + stores,
    )


def _sum(values: Iterable[float | None]) -> float | None:
    known = list(values)
    return None if not known or None in known else sum(value for value in known if value is not None)


def _weighted(kernels: Sequence[Counted], name: str) -> float | None:
    """Mean of a share, weighted by duration; None if a part is unknown."""
    pairs = [(kernel.metrics.get(name), kernel.metrics.get("duration_ns")) for kernel in kernels]
    total = _sum(duration for _, duration in pairs)
    products = [None if share is None or duration is None else share * duration for share, duration in pairs]
    weighted = _sum(products)
    return None if not total or weighted is None else weighted / total
