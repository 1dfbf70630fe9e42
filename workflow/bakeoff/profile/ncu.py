"""Nsight Compute: what is asked of it on which chip, its commands, the reader of the table that it prints, and sums.

Entry points: `wanted` (metric names for a chip), `supported` (those that it lists), `capture_command`, `csv_command`,
`query_command`, `read_csv`, `refusal`, `summarize`. A metric that the chip or the capture lacks is None, never 0. The
tool prints its own reports, so that no library beside it is needed; it is run in the locale C, since it prints numbers
as the locale does.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bakeoff.errors import InputError
from bakeoff.files import csv_rows, read_bytes
from bakeoff.profile.timeline import parse_mark

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
PERMIT = (
    "run as root, or give the container CAP_SYS_ADMIN, or load the driver with NVreg_RestrictProfilingToAdminUsers=0"
)
PERMISSION_CODE = "ERR_NVGPUCTRPERM"
LOCALE = {"LC_ALL": "C"}
# Columns of the raw page that say what was profiled; the others are metrics.
NAME, ID = "Kernel Name", "ID"
RANGES = "Push/Pop_Range"  # part of the name of the column with the NVTX ranges, which also names its fields
# A number of the locale C: a comma stands before three digits, a point before the fraction.
NUMBER = re.compile(r"[-+]?(\d{1,3}(,\d{3})+|\d+)(\.\d+)?(e[-+]?\d+)?", re.IGNORECASE | re.ASCII)
UNKNOWN = ("", "n/a", "nan", "inf", "-nan", "-inf")


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


def summarize(kernels: Sequence[Counted]) -> dict[str, float | None]:
    """The fields of `Counters` over some kernels of one call: bytes and accesses are sums, shares are means weighted by
    the kernels' durations. A sum with an unknown part is unknown: a partial sum would look like less traffic."""

    def column(name: str) -> NDArray[np.float64]:
        return np.array([kernel.metrics.get(name) for kernel in kernels], dtype=float)

    if not kernels:
        return dict.fromkeys([*SUMS, *PERCENT])
    duration = column("duration_ns")
    found = {ours: np.round(sum(column(name).sum() for name in names)) for ours, names in SUMS.items()}
    if duration.sum():
        found |= {ours: np.round((column(ours) * duration).sum() / duration.sum(), 6) for ours in PERCENT}
    return {ours: None if np.isnan(value := found.get(ours, np.nan)) else float(value) for ours in (*SUMS, *PERCENT)}


def query_command(ncu: str, chip: str) -> list[str]:
    """List the metrics of a chip; needs neither a GPU nor permission."""
    return [ncu, "--query-metrics", "--chip", chip]


def capture_command(ncu: str, output: Path, metrics: Sequence[str], command: Sequence[str]) -> list[str]:
    """Count metrics of the kernels between profiler start and stop into `output`.ncu-rep.

    Of the process alone: compilers that it starts are left out. Caches are flushed before every pass, so a kernel's
    reads are from memory; clocks are left as they are: a profile changes nothing on the host, and no figure of it is a
    time.
    """
    return [
        *(ncu, "--force-overwrite", f"--export={output}", "--target-processes=application-only", "--nvtx"),
        *("--profile-from-start=off", "--clock-control=none", "--cache-control=all", "--replay-mode=kernel"),
        *(f"--metrics={','.join(metrics)}", *command),
    ]


def csv_command(ncu: str, report: Path) -> list[str]:
    """Print a report's raw page as CSV, in base units."""
    return [ncu, f"--import={report}", "--csv", "--page=raw", "--print-units=base"]


def refusal(log: str) -> str | None:
    """The line of a log in which Nsight Compute says that counters are not permitted; None if there is none."""
    return next((line.strip() for line in log.splitlines() if PERMISSION_CODE in line), None)


def require_permission(said: str, where: Path) -> None:
    """InputError if Nsight Compute said that counters are not permitted."""
    if denied := refusal(said):
        raise InputError(where, denied, "permission to read performance counters", PERMIT)


def read_csv(path: Path, metrics: dict[str, str]) -> list[Counted]:
    """Kernels and metrics of a raw page, one entry per profiled kernel; `metrics` maps our names to the chip's.

    A file without kernels, a row of another length and a number of another locale are InputErrors.
    """
    text = read_bytes(path).decode("utf-8", errors="replace")
    require_permission(text, path)
    # ncu may print its own messages around the table.
    header, *rows = csv_rows("\n".join(line for line in text.splitlines() if line.startswith('"')), path) or [[]]
    repeated = [name for place, name in enumerate(header) if name in header[:place]]
    if repeated:
        raise _broken(path, f"the column {repeated[0][:60]} twice")
    ranges = next((name for name in header if RANGES in name), None)
    if ID not in header or NAME not in header or ranges is None:
        raise _broken(path, f"columns {', '.join(header[:6])}, ..." if header else "no table of a raw page")
    found = []
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise _broken(f"{path}: row {number}", f"{len(row)} of {len(header)} columns")
        known = dict(zip(header, row, strict=True))
        if not known[ID]:  # the second row holds the units and has no id
            continue
        mark = parse_mark(known[ranges])
        if mark is None:
            raise _broken(path, f"kernel {known[NAME][:60]} outside any marked call")
        values = {
            ours: _number(known.get(name, ""), f"{path}: row {number}: {name}", ours in PERCENT)
            for ours, name in metrics.items()
        }
        found.append(Counted(*mark, known[NAME], values))
    if not found:
        raise _broken(path, "a table without kernels")
    return found


def _number(text: str, where: str, percent: bool) -> float | None:
    """A cell of the table, a percentage as a ratio; None for n/a and an empty one."""
    if text.strip().lower() in UNKNOWN:
        return None
    if not NUMBER.fullmatch(text.strip()):
        raise _broken(where, f"{text!r}, no number of the locale C")
    return float(text.replace(",", "")) / (100 if percent else 1)


def _broken(where: Path | str, found: str) -> InputError:
    return InputError(
        where,
        found=found,
        expected="kernels as Nsight Compute's raw page lists them",
        hint="capture it again with `bakeoff profile --tier ncu`; it keeps the cells that it has",
    )
