"""What recorded runs say of the measuring itself, in Markdown: where the time went, how small an effect they could see.

    python benchmarks/measuring.py                           prints it for all of results/recorded/
    python benchmarks/measuring.py results/recorded/NAME     for one run, or for several
    python benchmarks/measuring.py --write                   puts it between the marks in docs/measurement.md

The first two tables have a column per run. The last two are about one run, the newest of those in which every cell
passed (if there is none, the newest). Cells of more than 1,000 tokens are left out of the third table: there the
kernels themselves take the time.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bakeoff
import pandas as pd
from bakeoff.files import replace_marked
from bakeoff.planned import read_plan
from bakeoff.runs.journal import block_folder
from bakeoff.schema.outcomes import Outcome
from bakeoff.schema.plan import Plan

RECORDED = Path(__file__).parents[1] / "results" / "recorded"
DOCUMENT = Path(__file__).parents[1] / "docs" / "measurement.md"
SMALL = 1000
FIVE = 5  # blocks that a run in CI has


@dataclass(frozen=True)
class Run:
    """A recorded run, read."""

    folder: Path
    plan: Plan
    spent: list[dict[str, Any]]
    samples: pd.DataFrame
    analysis: dict[str, Any]

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def failed(self) -> pd.DataFrame:
        return self.samples[self.samples["outcome"] != Outcome.PASSED]


def read(folder: Path) -> Run:
    plan = read_plan(folder)
    spent = [
        json.loads((block_folder(folder, block) / "manifest.json").read_bytes())["spent"]
        for block in range(plan.blocks)
    ]
    samples = bakeoff.load(folder).samples
    ran = samples[samples["outcome"] != Outcome.UNSUPPORTED]  # for another chip, or no CUDA graph
    return Run(folder, plan, spent, ran, json.loads((folder / "analysis.json").read_bytes()))


def columns(runs: Sequence[Run], rows: dict[str, Callable[[Run], str]], goals: dict[str, str]) -> list[str]:
    """A row per fact, a column per run, and the goal."""
    body = [[what, *(fact(run) for run in runs), goals.get(what, "")] for what, fact in rows.items()]
    return table(["what", *(f"`{run.name}`" for run in runs), "goal"], body)


def blocks(runs: Sequence[Run]) -> list[str]:
    """The runs as a whole: where the time went."""

    def spent(run: Run, what: str, times: float = 1) -> list[float]:
        return [times * one[what] for one in run.spent if one.get(what) is not None]

    def verified(run: Run) -> list[float]:
        return [100 * one["verified"] / one["lock"] for one in run.spent if one.get("verified") is not None]

    def mean(values: list[float]) -> str:
        return f"{statistics.fmean(values):.1f} %" if values else "n/a"

    rows: dict[str, Callable[[Run], str]] = {
        "GPU": lambda run: run.analysis["run"]["hardware"],
        "blocks": lambda run: str(run.plan.blocks),
        f"wall time of the first {FIVE} blocks": lambda run: f"{sum(spent(run, 'total')[:FIVE]):.0f} s",
        "wall time of a block": lambda run: between(spent(run, "total"), "s"),
        "lock held in a block": lambda run: between(spent(run, "lock"), "s"),
        "under the lock: a kernel ran, by NVML": lambda run: between(spent(run, "gpu_busy", 100), "%"),
        "under the lock: something was being verified": lambda run: between(verified(run), "%"),
        "under the lock: idle, neither of the two": lambda run: between(spent(run, "idle", 100), "%"),
        "idle, mean of the blocks": lambda run: mean(spent(run, "idle", 100)),
    }
    goals = {
        "blocks": "10",
        f"wall time of the first {FIVE} blocks": "540 s",
        "under the lock: idle, neither of the two": "30 %",
        "idle, mean of the blocks": "30 %",
    }
    return columns(runs, rows, goals)


def decisions(runs: Sequence[Run]) -> list[str]:
    """The runs as a whole: what they measured, and whether a solution is told apart from itself."""

    def measured(run: Run) -> str:
        return f"{len(run.samples):,}"

    def failed(run: Run) -> str:
        rows = run.failed.itertuples()
        found = [f"{one.outcome} {one.participant} {one.workload}, block {one.block}" for one in rows]
        return f"{len(found)}: {'; '.join(found)}" if found else "0"

    def counts(pair: dict[str, Any]) -> str:
        found = {"SAME": 0, "FASTER": 0, "SLOWER": 0} | pair["counts"]
        return f"{', '.join(f'{count} {kind}' for kind, count in found.items())} of {pair['workloads']}"

    def ratios(pair: dict[str, Any]) -> str:
        values = [one["ratio"]["value"] for one in pair["verdicts"] if one["ratio"]]
        return f"{min(values):.4f} to {max(values):.4f}"

    def overall(pair: dict[str, Any]) -> str:
        return "{value:.4f} ({low:.4f} to {high:.4f})".format(**pair["ratio"])

    def twin(fact: Callable[[dict[str, Any]], str]) -> Callable[[Run], str]:
        def of(run: Run) -> str:
            own = [pair for pair in run.analysis["pairs"] if pair["b"] == f"{pair['a']}.twin"]
            return "; ".join(fact(pair) for pair in own) or "n/a"

        return of

    rows: dict[str, Callable[[Run], str]] = {
        "cells measured": measured,
        "cells not PASSED": failed,
        "discarded calls": lambda run: str(run.samples["discarded"].sum()),
        "minimum detectable effect, median": lambda run: percent(statistics.median(detectable(run.analysis))),
        "A/A: verdicts": twin(counts),
        "A/A: speed of a solution over its twin's": twin(ratios),
        "A/A: geometric mean, 95 % interval": twin(overall),
        "A/A: workloads on which the twin is ahead": twin(lambda pair: str(pair["b_ahead"])),
    }
    goals = {"cells not PASSED": "0", "minimum detectable effect, median": "3 %", "A/A: verdicts": "all SAME"}
    return columns(runs, rows, goals)


def cells(samples: pd.DataFrame) -> list[str]:
    """A small cell's seconds, by participant."""
    small = samples[(samples["seq_len"] <= SMALL) & samples["calls_s"].notna()]
    means = small.groupby("participant")[["seconds", "calls_s", "checks_s", "inputs_s", "outputs_s", "calls"]].mean()
    means["rest"] = means["seconds"] - means[["calls_s", "checks_s", "inputs_s", "outputs_s"]].sum(axis=1)
    parts = ["seconds", "calls_s", "checks_s", "inputs_s", "outputs_s", "rest"]
    rows = [
        [
            name,
            *(f"{row[part]:.3f}" for part in parts),
            f"{row['calls']:.0f}",
            f"{1000 * row['calls_s'] / row['calls']:.1f}",
        ]
        for name, row in means.iterrows()
    ]
    head = ["participant", "cell, s", "timed calls", "guarded calls", "inputs", "outputs", "judging, journal"]
    return table([*head, "calls", "ms a call"], rows)


def protocols(run: Run) -> list[str]:
    """What each timing protocol costs; nothing of a run that has one."""
    groups = run.samples.groupby("protocol", sort=False)["seconds"]
    costs = pd.DataFrame({"cells": groups.size(), "mean": groups.mean(), "sum": groups.sum()})
    rows = [
        [name, f"{blocks}", f"{row['cells'] / blocks:.0f}", f"{row['mean']:.3f}", f"{row['sum'] / blocks:.1f}"]
        for name, row in costs.iterrows()
        for blocks in [run.plan.blocks_of(str(name))]
    ]
    if len(rows) < 2:
        return []
    return table(["protocol", "blocks", "cells a block", "s a cell", "s a block"], rows)


def pairs(analysis: dict[str, Any]) -> list[str]:
    """How small an effect each pair could show, medians over the workloads."""
    rows = [
        [
            f"{pair['a']}, {pair['b']}",
            *(
                f"{100 * statistics.median(one[key] for one in pair['verdicts'] if one[key] is not None):.1f} %"
                for key in ("mde", "sd")
            ),
        ]
        for pair in analysis["pairs"]
        if any(one["mde"] is not None for one in pair["verdicts"])
    ]
    every = detectable(analysis)
    rows.append([f"**all {len(every)} comparisons**", f"**{percent(statistics.median(every))}** (goal 3 %)", ""])
    return table(["pair", "minimum detectable effect", "deviation between processes"], rows)


def detectable(analysis: dict[str, Any]) -> list[float]:
    """The minimum detectable effect of every pair on every workload."""
    return [one["mde"] for pair in analysis["pairs"] for one in pair["verdicts"] if one["mde"] is not None]


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def between(values: list[float], unit: str) -> str:
    return f"{min(values):.0f} to {max(values):.0f} {unit}" if values else "n/a"


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)] + [""]


def page(folders: Sequence[Path]) -> str:
    """Everything."""
    runs = [read(folder) for folder in folders]
    one = [run for run in runs if run.failed.empty][-1:] or runs[-1:]
    lines = [
        *blocks(runs),
        *decisions(runs),
        f"Of `{one[0].name}`, by participant and by pair:",
        "",
        *cells(one[0].samples[one[0].samples["protocol"] == one[0].plan.protocols[0]]),
        *protocols(one[0]),
        *pairs(one[0].analysis),
    ]
    return "\n".join(lines).rstrip("\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="*", help="recorded runs (default: all)")
    parser.add_argument("--write", action="store_true", help="rewrite the tables in docs/measurement.md")
    args = parser.parse_args()
    made = page(args.run or sorted(path.parent for path in RECORDED.glob("*/config.json")))
    if args.write:
        DOCUMENT.write_text(replace_marked(DOCUMENT.read_text(), "measured", made, DOCUMENT))
    else:
        print(made)


if __name__ == "__main__":
    main()
