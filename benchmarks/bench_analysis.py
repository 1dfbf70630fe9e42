"""Time and memory of `bakeoff analyse` and `bakeoff report` for 76, 1,000 and 10,000 traces, ten blocks each, and for
three runs of 76 together.

Run it after `make setup-dev`: `.venv/bin/python benchmarks/bench_analysis.py`. The runs are those that the tests
construct (tests/support/make.py). Each size runs in a process of its own, so that the memory is that of one analysis
and its report; imports are included, writing the run is not.
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


def measure(folders: list[str]) -> dict[str, float]:
    """Analyse runs together in this process, and render what comes of it: wall seconds of both and of the report alone,
    CPU seconds, peak MiB, size of the document in MiB."""
    document = Path(folders[0]) / "analysis.json"
    started = time.perf_counter()
    from bakeoff.cli import main

    if main(["analyse", *folders, "-o", str(document)]) != 0:
        raise SystemExit("the analysis failed")
    analysed = time.perf_counter()
    if main(["report", str(document), "-o", str(document.parent / "report")]) != 0:
        raise SystemExit("the report failed")
    seconds, cpu = time.perf_counter() - started, time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "seconds": seconds,
        "report_seconds": seconds - (analysed - started),
        "cpu_seconds": cpu,
        "peak_mib": peak,
        "document_mib": document.stat().st_size / 2**20,
    }


def main() -> None:
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    from support.make import Made, write

    print(f"{'traces':>7} {'seconds':>8} {'report s':>9} {'CPU s':>7} {'peak MiB':>9} {'analysis.json MiB':>18}")
    for workloads, runs in (*((size, 1) for size in SIZES), (SIZES[0], 3)):
        with tempfile.TemporaryDirectory() as place:
            pairs = [(1 + number // 8, 32 * (number % 8)) for number in range(workloads)]
            made = [Made(name=f"bench{number}", workloads=pairs, seed=number) for number in range(runs)]
            folders = [str(write(one, Path(place) / one.name)) for one in made]
            done = subprocess.run([sys.executable, __file__, *folders], capture_output=True, text=True, check=True)
            found = json.loads(done.stdout.splitlines()[-1])  # after the page's path
        print(
            f"{4 * workloads * runs:>7} {found['seconds']:>8.2f} {found['report_seconds']:>9.2f} "
            f"{found['cpu_seconds']:>7.2f} {found['peak_mib']:>9.0f} {found['document_mib']:>18.1f}"
        )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1:])))
    else:
        main()
