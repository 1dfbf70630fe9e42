"""Do two harnesses agree? Latencies of the same solutions on the same workloads, from two files of flashinfer-trace
traces.

    python benchmarks/crosscheck.py results/runs/hopper/traces.fib-0.1.2.jsonl THEIRS.jsonl

THEIRS is what `flashinfer-bench run` wrote for the folder of `bakeoff export --fib`. Prints a row per cell, theirs over
ours, and the two figures that count: the median deviation over all cells (at most 3 %) and the largest at 901 tokens
and more (at most 5 %). Exit code 1 if one is missed, 2 if the files share no cell.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

MEDIAN_BOUND, LARGE_BOUND, LARGE = 0.03, 0.05, 901

Cell = tuple[str, int, str]  # solution, seq_len, workload uuid


def latencies(path: Path) -> dict[Cell, float]:
    """Milliseconds by cell, of the traces that PASSED; the last trace of a cell counts."""
    found = {}
    for line in path.read_text().splitlines():
        trace = json.loads(line)
        evaluation, workload = trace["evaluation"], trace["workload"]
        if evaluation["status"] == "PASSED" and evaluation["performance"]["latency_ms"] > 0:
            cell = (trace["solution"], workload["axes"]["seq_len"], workload["uuid"])
            found[cell] = evaluation["performance"]["latency_ms"]
    return found


def ratios(ours: dict[Cell, float], theirs: dict[Cell, float]) -> dict[Cell, float]:
    """Theirs over ours, of the cells that both have."""
    return {cell: theirs[cell] / ours[cell] for cell in sorted(ours.keys() & theirs.keys())}


def verdict(found: dict[Cell, float]) -> tuple[float, float, bool]:
    """The median deviation, the largest at LARGE tokens and more, and whether both are within their bounds."""
    off = {cell: abs(ratio - 1) for cell, ratio in found.items()}
    large = max((value for cell, value in off.items() if cell[1] >= LARGE), default=0.0)
    median = statistics.median(off.values())
    return median, large, median <= MEDIAN_BOUND and large <= LARGE_BOUND


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ours", type=Path)
    parser.add_argument("theirs", type=Path)
    args = parser.parse_args()
    ours, theirs = latencies(args.ours), latencies(args.theirs)
    found = ratios(ours, theirs)
    if not found:
        print(f"no cell in common: {len(ours)} passed in {args.ours}, {len(theirs)} in {args.theirs}", file=sys.stderr)
        return 2
    print(f"{'solution':<24}{'seq_len':>8}{'ours ms':>10}{'theirs ms':>11}{'ratio':>8}")
    for cell, ratio in found.items():
        print(f"{cell[0]:<24}{cell[1]:>8}{ours[cell]:>10.4f}{theirs[cell]:>11.4f}{ratio:>8.3f}")
    median, large, agree = verdict(found)
    missing = len(ours.keys() ^ theirs.keys())
    print(f"{len(found)} cells, {missing} in one file only")
    print(
        f"median deviation {median:.2%} (bound {MEDIAN_BOUND:.0%}); largest at {LARGE} tokens and more {large:.2%} "
        f"(bound {LARGE_BOUND:.0%})"
    )
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
