"""Time, memory and page size of `bakeoff report` for 76, 1,000 and 10,000 traces, ten blocks each.

Run it after `make setup-dev`: `.venv/bin/python benchmarks/bench_report.py`. The runs are those that the tests
construct (tests/support/make.py). Each size runs in a process of its own, so that the memory is that of one report;
imports are included, the analysis is not.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIZES = (19, 250, 2500)  # workloads, times four solutions


def measure(folder: Path) -> dict[str, float]:
    """Render one run in this process: wall and CPU seconds, peak MiB, size of the page in kB."""
    started = time.perf_counter()
    from bakeoff.cli import main

    if main(["report", str(folder)]) != 0:
        raise SystemExit("the report failed")
    seconds, cpu = time.perf_counter() - started, time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    page = (folder / "report" / "report.html").stat().st_size / 1e3
    return {"seconds": seconds, "cpu_seconds": cpu, "peak_mib": peak, "page_kb": page}


def main() -> None:
    from bakeoff.cli import main as bakeoff

    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    from support.make import Made, write

    print(f"{'traces':>7} {'seconds':>8} {'CPU s':>7} {'peak MiB':>9} {'page kB':>8}")
    for workloads in SIZES:
        with tempfile.TemporaryDirectory() as place:
            pairs = [(1 + number // 8, 32 * (number % 8)) for number in range(workloads)]
            folder = write(Made(name="bench", workloads=pairs), Path(place) / "bench")
            bakeoff(["analyse", str(folder)])
            done = subprocess.run([sys.executable, __file__, str(folder)], capture_output=True, text=True, check=True)
            found = json.loads(done.stdout.splitlines()[-1])
        seconds, cpu, peak, page = (found[key] for key in ("seconds", "cpu_seconds", "peak_mib", "page_kb"))
        print(f"{4 * workloads:>7} {seconds:>8.2f} {cpu:>7.2f} {peak:>9.0f} {page:>8.0f}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(Path(sys.argv[1]))))
    else:
        main()
