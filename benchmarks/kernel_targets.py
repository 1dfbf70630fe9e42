"""The speed table of docs/kernels.md, out of a run's analysis: latencies, GEMM times, stage shares, and which targets
are met.

    python benchmarks/kernel_targets.py RUN/analysis.json            prints Markdown
    python benchmarks/kernel_targets.py RUN/analysis.json --write    puts it between the marks in docs/kernels.md
    python benchmarks/kernel_targets.py RUN/analysis.json --v4       of v4: latencies and stages [--write]

Latencies and verdicts are those of `bakeoff measure`; GEMM times and shares are those of `bakeoff profile`, where the
run has one. A target over workloads that the run lacks, or without a profile, is left out.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from pathlib import Path
from typing import Any

from bakeoff.files import replace_marked

DOCUMENT = Path(__file__).parents[1] / "docs" / "kernels.md"
MARK = "kernel_targets"
V3, V3_2, TRITON, DEEPGEMM = "cutedsl_moe_fp8_v3", "cutedsl_moe_fp8_v3_2", "triton_fused_moe_v2", "deepgemm_moe"
V4, V4_MARK, V4_STAGES_MARK = "cutedsl_moe_fp8_v4", "v4_targets", "v4_stages"
V4_MUST = ((6, 0.95), (16, 0.96), (80, 0.98), (4096, 0.95), (1 << 17, 0.90))  # up to T: v4 / best other
SHOWN_STAGES = (1, 7, 80, 901, 11948, 14107)  # tokens
GEMMS = ("gemm1", "gemm2")
LARGE, SMALL = 901, 80  # tokens: "at T >= 901", "at T <= 80"


class Run:
    """A run's figures by (solution, workload)."""

    def __init__(self, analysis: dict[str, Any]) -> None:
        self.analysis = analysis
        self.solutions = [
            one["name"] for one in analysis["participants"] if one["supported"] and not one.get("twin_of")
        ]
        self.tokens = {one["id"]: one["seq_len"] for one in analysis["workloads"]}
        self.workloads = sorted(self.tokens, key=lambda name: self.tokens[name])
        self.latency = {
            (cell["solution"], cell["workload"]): cell["latency_us"]["value"]
            for cell in analysis["cells"]
            if cell["outcome"] == "PASSED" and cell["latency_us"]
        }
        self.floor = {one["id"]: one["floor_us"] for one in analysis["workloads"] if one["floor_bound"] == "memory"}
        section = analysis["profiles"] or {"cells": []}
        self.profile = {(cell["solution"], cell["workload"]): cell for cell in section["cells"]}

    def to_best(self, workload: str) -> float | None:
        """v3.2's latency over the least one."""
        found = [self.latency[name, workload] for name in self.solutions if (name, workload) in self.latency]
        return self.latency[V3_2, workload] / min(found) if (V3_2, workload) in self.latency else None

    def against_floor(self, solution: str) -> tuple[float, float, float, dict[int, float]] | None:
        """Least squares over T <= 80, latency = fixed + slope * floor, both us; cells bound by memory alone.

        Returns fixed, slope, the largest residual, and how much more cells of larger T take than the line says.
        """
        cells = [
            (name, self.floor[name], self.latency[solution, name])
            for name in self.workloads
            if name in self.floor and (solution, name) in self.latency
        ]
        small = [(floor, us) for name, floor, us in cells if self.tokens[name] <= SMALL]
        if len(small) < 3:
            return None
        slope, fixed = statistics.linear_regression(*zip(*small, strict=True))
        above = {self.tokens[name]: us - fixed - slope * floor for name, floor, us in cells}
        worst = max(abs(us) for tokens, us in above.items() if tokens <= SMALL)
        return fixed, slope, worst, {tokens: us for tokens, us in above.items() if tokens > SMALL}

    def verdict(self, workload: str) -> str | None:
        """v3.2 against v3."""
        for pair in self.analysis["pairs"]:
            if {pair["a"], pair["b"]} == {V3, V3_2}:
                found = next((str(one["verdict"]) for one in pair["verdicts"] if one["workload"] == workload), "None")
                way, _, how = found.partition("_")
                turned = {"FASTER": "SLOWER", "SLOWER": "FASTER"} if pair["a"] == V3 else {}
                return None if found == "None" else "_".join(filter(None, (turned.get(way, way), how)))
        return None

    def gemms(self, solution: str, workload: str) -> float | None:
        """Time at which the GEMMs run, with the kernels that a library launches for them. Where they overlap with other
        stages that
        counts in full, a wait for the stage before included."""
        cell = self.profile.get((solution, workload))
        return sum(stage["run_us"] for stage in cell["stages"] if stage["stage"] in GEMMS) if cell else None

    def others(self, workload: str) -> tuple[float, float, int] | None:
        """What triton_fused_moe_v2 does besides the GEMMs: time, share of the busy time, launches of a call."""
        cell = self.profile.get((TRITON, workload))
        if cell is None:
            return None
        us = sum(stage["us"] for stage in cell["stages"] if stage["stage"] not in GEMMS)
        return us, us / cell["busy_us"], cell["launches"]

    def rate(self, workload: str) -> float | None:
        """Rate of v3's GEMMs over the better of the libraries' two on the same problem: bfloat16 results."""
        times = [self.gemms(name, workload) for name in (V3, TRITON, DEEPGEMM)]
        return None if None in times else min(times[1:]) / times[0]  # type: ignore[type-var, operator]


def tables(run: Run) -> list[str]:
    """Latency of every cell, then what the profile says."""
    header = ["T", *run.solutions, "v3.2 / best", "v3.2 against v3"]
    rows = [header, ["---"] * len(header)]
    for name in run.workloads:
        times = [text(run.latency.get((solution, name)), ".1f") for solution in run.solutions]
        rows.append([str(run.tokens[name]), *times, text(run.to_best(name), ".3f"), run.verdict(name) or "-"])
    lines = ["Latency, µs:", "", *map(line, rows), *floor_table(run)]
    if run.profile:
        header = [
            "T",
            "v3",
            "v3.2",
            "sgl_kernel",
            "DeepGEMM",
            "rate of v3",
            "others of triton_fused_moe_v2",
            "share",
            "launches",
        ]
        rows = [header, ["---"] * len(header)]
        for name in run.workloads:
            times = [text(run.gemms(solution, name), ".1f") for solution in (V3, V3_2, TRITON, DEEPGEMM)]
            us, share, launches = run.others(name) or (None, None, None)
            rest = [text(us, ".1f"), text(share, ".1%"), text(launches, "d")]
            rows.append([str(run.tokens[name]), *times, text(run.rate(name), ".2f"), *rest])
        lines += ["", "Time of both GEMMs, and what stands around them, µs:", "", *map(line, rows)]
    return lines


def floor_table(run: Run) -> list[str]:
    """What a call takes besides the bytes of its floor; nothing where the run lacks small workloads or floors."""
    fits = {name: fit for name in run.solutions if (fit := run.against_floor(name))}
    if not fits:
        return []
    larger = sorted({tokens for *_, above in fits.values() for tokens in above})
    header = ["up to T = 80", "fixed", "times the floor", "largest residual", *(f"T = {t} above" for t in larger)]
    rows = [header, ["---"] * len(header)]
    for name, (fixed, slope, worst, above) in fits.items():
        more = [text(above.get(tokens), ".1f") for tokens in larger]
        rows.append([name, text(fixed, ".1f"), text(slope, ".3f"), text(worst, ".1f"), *more])
    intro = (
        "A call's latency as a fixed time and a multiple of its floor, fitted up to T = 80, and what a larger T "
        "takes beyond it, µs:"
    )
    return ["", intro, "", *map(line, rows)]


def targets(run: Run) -> list[str]:
    """One line a target that the run can tell."""
    large = [name for name in run.workloads if run.tokens[name] >= LARGE]
    small = [name for name in run.workloads if run.tokens[name] <= SMALL]
    ratios = [ratio for name in run.workloads if (ratio := run.to_best(name))]
    verdicts = {name: verdict for name in run.workloads if (verdict := run.verdict(name))}
    lines = []
    if ratios:
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        lines.append(f"v3.2 within 1.25 × of the best, geometric mean: {mean:.3f}, {met(mean <= 1.25)}")
    if verdicts:
        slower = [str(run.tokens[name]) for name, verdict in verdicts.items() if verdict.startswith("SLOWER")]
        faster = all(verdicts.get(name) in ("FASTER_2_PERCENT", "FASTER_OPEN") for name in large)
        lines.append(
            f"v3.2 FASTER than v3 at T ≥ {LARGE}: {met(faster)}; "
            f"SLOWER nowhere: {met(not slower)} {' '.join(slower)}".rstrip()
        )
    rates = {run.tokens[name]: rate for name in run.workloads if (rate := run.rate(name))}
    if rates:
        worst = min(rates, key=lambda tokens: rates[tokens])
        lines.append(
            f"GEMMs at least 0.9 × the better library: {rates[worst]:.2f} at T = {worst}, {met(rates[worst] >= 0.9)}"
        )
    shares = {run.tokens[name]: found[1] for name in large if (found := run.others(name))}
    times = [found[0] for name in small if (found := run.others(name))]
    if shares and times:
        each = ", ".join(f"{share:.1%} at T = {tokens}" for tokens, share in shares.items())
        lines.append(
            f"triton_fused_moe_v2, others at most 15 % from T = {LARGE} on: {each}, {met(max(shares.values()) <= 0.15)}"
        )
        lines.append(f"and at most 40 µs up to T = {SMALL}: {max(times):.1f}, {met(max(times) <= 40)}")
        launches = max(found[2] for name in run.workloads if (found := run.others(name)))
        lines.append(f"at most 10 launches a call: {launches}, {met(launches <= 10)}")
    return [f"- {one}" for one in lines]


def v4_latencies(run: Run) -> list[str]:
    """v4 beside the fastest of the others."""
    names = [name for name in run.solutions if name != "flashinfer_moe"]  # which takes milliseconds
    header = ["T", *names, "v4 / best other", "at most"]
    rows = [header, ["---"] * len(header)]
    for name in run.workloads:
        tokens, mine = run.tokens[name], run.latency[V4, name]
        ratio = mine / min(run.latency[other, name] for other in names if other != V4)
        must = next(bound for limit, bound in V4_MUST if tokens <= limit)
        times = [f"{run.latency[one, name]:.1f}" for one in names]
        rows.append([str(tokens), *times, f"{ratio:.3f}", f"{must:.2f}, {met(ratio <= must)}"])
    return ["Latency, µs:", "", *map(line, rows)]


def v4_stages(run: Run) -> list[str]:
    """Where v4's time is; nothing of a run whose profile counted for none of the workloads shown."""
    stages = ("routing", "gemm1", "gemm2", "combine")
    header = ["T", *stages, "sum", "floor", "sum / floor", "DRAM of GEMM1, GEMM2", "tensor core busy"]
    rows = []
    for name in (one for one in run.workloads if run.tokens[one] in SHOWN_STAGES and (V4, one) in run.profile):
        cell = run.profile[V4, name]
        found = {stage["stage"]: stage for stage in cell["stages"]}
        if any(found[stage]["dram_share"] is None for stage in GEMMS):
            continue
        shares = [", ".join(f"{found[stage][what]:.0%}" for stage in GEMMS) for what in ("dram_share", "tensor_share")]
        times = [f"{found[stage]['us']:.1f}" for stage in stages]
        floor = f"{cell['floor_us']:.1f}", f"{cell['busy_us'] / cell['floor_us']:.2f}"
        rows.append([str(run.tokens[name]), *times, f"{cell['busy_us']:.1f}", *floor, *shares])
    title = "Time of v4's kernels, and what they read and write, µs:"
    return [title, "", *map(line, [header, ["---"] * len(header), *rows])] if rows else []


def text(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def line(row: list[str]) -> str:
    return f"| {' | '.join(row)} |"


def met(holds: bool) -> str:
    return "met" if holds else "MISSED"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("analysis", type=Path, help="analysis.json of a GPU run, as `bakeoff analyse` writes it")
    parser.add_argument("--write", action="store_true", help="rewrite the table in docs/kernels.md")
    parser.add_argument("--v4", action="store_true", help="v4 against the others, instead of the four")
    parser.add_argument("--only", choices=(V4_MARK, V4_STAGES_MARK), help="of --v4: latencies or stages alone")
    args = parser.parse_args()
    run = Run(json.loads(args.analysis.read_bytes()))
    made = {MARK: [*tables(run), "", *targets(run)]}
    if args.v4:
        made = {V4_MARK: v4_latencies(run), V4_STAGES_MARK: v4_stages(run)}
    chosen = {mark: "\n".join(some) for mark, some in made.items() if some and args.only in (None, mark)}
    if not args.write:
        print("\n\n".join(chosen.values()))
        return
    for mark, some in chosen.items():
        DOCUMENT.write_text(replace_marked(DOCUMENT.read_text(), mark, some, DOCUMENT))


if __name__ == "__main__":
    main()
