"""Nsight Compute: the commands that capture counters, and the readers of its CSV and of its report files.

Entry points: `capture_command`, `csv_command`, `query_command`, `read_csv`, `read_report` (needs the package
ncu-report), `refusal`. The readers are pure functions of a file and give the same list, one entry per profiled kernel.
"""

from __future__ import annotations

import csv
import importlib
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bakeoff.errors import InputError
from bakeoff.files import read_bytes
from bakeoff.profile.counters import Counted, translate
from bakeoff.profile.timeline import parse_mark

PERMISSION_CODE = "ERR_NVGPUCTRPERM"
# Columns of the raw page that say what was profiled; the others are metrics.
NAME, ID = "Kernel Name", "ID"
RANGES = "Push/Pop_Range"  # part of the name of the column with the NVTX ranges, which also names its fields
AGAIN = "capture it again with `bakeoff profile --tier ncu`; it keeps the cells that it has"


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
        ncu,
        "--force-overwrite",
        f"--export={output}",
        "--target-processes=application-only",
        "--nvtx",
        "--profile-from-start=off",
        "--clock-control=none",
        "--cache-control=all",
        "--replay-mode=kernel",
        f"--metrics={','.join(metrics)}",
        *command,
    ]


def csv_command(ncu: str, report: Path) -> list[str]:
    """Print a report's raw page as CSV, in base units."""
    return [ncu, f"--import={report}", "--csv", "--page=raw", "--print-units=base"]


def refusal(log: str) -> str | None:
    """The line of a log in which Nsight Compute says that counters are not permitted; None if there is none."""
    return next((line.strip() for line in log.splitlines() if PERMISSION_CODE in line), None)


def read_csv(path: Path, metrics: dict[str, str]) -> list[Counted]:
    """Kernels and metrics of a raw page; `metrics` maps our names to the chip's. A file without kernels is an
    InputError."""
    text = read_bytes(path).decode("utf-8", errors="replace")
    denied = refusal(text)
    if denied:
        raise _denied(path, denied)
    # ncu may print its own messages around the table.
    table = [line for line in text.splitlines() if line.startswith('"')]
    rows = list(csv.reader(io.StringIO("\n".join(table))))
    header = rows[0] if rows else []
    ranges = next((name for name in header if RANGES in name), None)
    if ID not in header or NAME not in header or ranges is None:
        raise _broken(path, "no table of a raw page" if not header else f"columns {', '.join(header[:6])}, ...")
    kernels = []
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(header):
            raise _broken(f"{path}: row {number}", f"{len(row)} of {len(header)} columns")
        known = dict(zip(header, row, strict=True))
        if known[ID]:  # the second row holds the units and has no id
            kernels.append(
                _counted(
                    known[NAME],
                    known[ranges],
                    {name: _number(known.get(name)) for name in metrics.values()},
                    metrics,
                    path,
                )
            )
    if not kernels:
        raise _broken(path, "a table without kernels")
    return kernels


def read_report(path: Path, metrics: dict[str, str], library: Any = None) -> list[Counted]:
    """The same from a .ncu-rep file, through NVIDIA's package ncu-report (`library`: its module, imported if None)."""
    if library is None:
        library = _library()
    read_bytes(path)  # words a missing or unreadable file
    context = library.load_report(str(path))
    actions = [part.action_by_idx(number) for part in _ranges(context) for number in range(part.num_actions())]
    if not actions:
        raise _broken(path, "a report without kernels (cut short, or of a version that this ncu-report does not know)")
    return [
        _counted(
            _demangled(action, library),
            _nvtx(action),
            {name: _value(action, name) for name in metrics.values()},
            metrics,
            path,
        )
        for action in actions
    ]


def _library() -> Any:
    try:
        return importlib.import_module("ncu_report")
    except ImportError as error:
        raise InputError(
            "package ncu-report",
            found=f"not importable ({error})",
            expected="NVIDIA's reader of .ncu-rep files",
            hint="pip install ncu-report, or read the CSV that `ncu --import FILE --csv --page=raw "
            "--print-units=base` prints",
        ) from error


def _counted(kernel: str, ranges: str, raw: dict[str, float | None], metrics: dict[str, str], path: Path) -> Counted:
    mark = parse_mark(ranges)
    if mark is None:
        raise _broken(path, f"kernel {kernel[:60]} outside any marked call")
    return Counted(*mark, kernel, translate(raw, metrics))


def _ranges(context: Any) -> list[Any]:
    return [context.range_by_idx(number) for number in range(context.num_ranges())]


def _demangled(action: Any, library: Any) -> str:
    base = getattr(library.IAction, "NameBase_DEMANGLED", None)
    return str(action.name() if base is None else action.name(base))


def _nvtx(action: Any) -> str:
    """All push/pop ranges that were open at the launch, in one text."""
    state = action.nvtx_state()
    if state is None:
        return ""
    names = [name for number in state.domains() for name in state.domain_by_id(number).push_pop_ranges()]
    return " ".join(names)


def _value(action: Any, name: str) -> float | None:
    metric = action.metric_by_name(name)
    if metric is None or not metric.has_value():
        return None
    return _finite(float(metric.as_double()))


def _number(text: str | None) -> float | None:
    """A cell of the table; `n/a` and an empty cell are None."""
    try:
        return _finite(float((text or "").replace(",", "")))
    except ValueError:
        return None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _denied(path: Path, line: str) -> InputError:
    return InputError(
        path,
        found=line,
        expected="permission to read performance counters",
        hint="run as root, or give the container CAP_SYS_ADMIN, or load the driver with "
        "NVreg_RestrictProfilingToAdminUsers=0",
    )


def _broken(where: Path | str, found: str) -> InputError:
    return InputError(where, found, expected="kernels as Nsight Compute's raw page lists them", hint=AGAIN)
