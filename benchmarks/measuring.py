"""What a recorded run says of the measuring itself, in Markdown: where the time went, how small an effect it could see.

    python benchmarks/measuring.py results/recorded/NAME            prints it
    python benchmarks/measuring.py results/recorded/NAME --write    puts it between the marks in docs/measurement.md

Cells of more than 1,000 tokens are left out of the second table: there the kernels themselves take the time.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bakeoff.files import replace_marked
from bakeoff.measure.block import block_folder, journal_path
from bakeoff.measure.journal import read_journal
from bakeoff.measure.records import Record
from bakeoff.plan import Plan, read_plan

DOCUMENT = Path(__file__).parents[1] / "docs" / "measurement.md"
SMALL = 1000
FIVE = 5  # blocks that a run in CI has


def blocks(run: Path, plan: Plan) -> list[str]:
    """The run as a whole."""
    spent = [
        json.loads((block_folder(run, block) / "manifest.json").read_bytes())["spent"] for block in range(plan.blocks)
    ]
    busy = [one["gpu_busy"] for one in spent if one.get("gpu_busy") is not None]
    rows = [
        ["blocks", str(plan.blocks), "10"],
        [f"wall time of the first {FIVE} blocks", f"{sum(one['total'] for one in spent[:FIVE]):.0f} s", "540 s"],
        ["wall time of a block", between([one["total"] for one in spent], "s"), ""],
        ["lock held in a block", between([one["lock"] for one in spent], "s"), ""],
        ["GPU busy under the lock, by NVML", between([100 * one for one in busy], "%"), "70 %"],
        ["answers and verdicts, in a block", between([one["judged"] for one in spent], "s"), ""],
    ]
    return table(["what", "measured", "goal"], rows)


def cells(records: Iterable[Record], tokens: dict[str, int]) -> list[str]:
    """A small cell's seconds, by participant."""
    by_name: dict[str, list[Record]] = {}
    for record in records:
        if record.kind == "measure" and tokens[record.workload] <= SMALL and record.spent_s:
            by_name.setdefault(record.participant, []).append(record)
    rows = []
    for name, found in sorted(by_name.items()):
        parts = {
            what: statistics.fmean(one.spent_s.get(what, 0.0) for one in found)
            for what in ("inputs", "checks", "calls", "outputs")
        }
        count = statistics.fmean(len(one.tiers["event_us"]) for one in found)
        total = statistics.fmean(one.seconds for one in found)
        rest = total - sum(parts.values())
        seconds = [
            f"{value:.3f}"
            for value in (total, parts["calls"], parts["checks"], parts["inputs"], parts["outputs"], rest)
        ]
        rows.append([name, *seconds, f"{count:.0f}", f"{1000 * parts['calls'] / count:.1f}"])
    head = [
        "participant",
        "cell, s",
        "timed calls",
        "guarded calls",
        "inputs",
        "outputs",
        "judging, journal",
        "calls",
        "ms a call",
    ]
    return table(head, rows)


def pairs(analysis: dict[str, Any]) -> list[str]:
    """How small an effect each pair could show, medians over the workloads."""
    rows = [
        [f"{pair['a']}, {pair['b']}",
         *(f"{100 * statistics.median(one[key] for one in pair['verdicts'] if one[key] is not None):.1f} %" for key in ("mde", "sd"))]
        for pair in analysis["pairs"]
    ]  # fmt: skip
    every = [one["mde"] for pair in analysis["pairs"] for one in pair["verdicts"] if one["mde"] is not None]
    rows.append([f"**all {len(every)} comparisons**", f"**{100 * statistics.median(every):.1f} %** (goal 3 %)", ""])
    return table(["pair", "minimum detectable effect", "deviation between processes"], rows)


def between(values: list[float], unit: str) -> str:
    return f"{min(values):.0f} to {max(values):.0f} {unit}" if values else "n/a"


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)] + [""]


def page(run: Path) -> str:
    """Everything."""
    plan = read_plan(run)
    tokens = {workload.id: workload.seq_len for workload in plan.workloads}
    records = [
        record
        for block in range(plan.blocks)
        for who in plan.participants
        for record in read_journal(journal_path(run, block, who.name))
    ]
    analysis = json.loads((run / "analysis.json").read_bytes())
    discarded = sum(record.discarded for record in records)
    lines = [
        *blocks(run, plan),
        *cells(records, tokens),
        *pairs(analysis),
        f"Discarded calls: {discarded}. Run: `{run.resolve().name}`.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a recorded run")
    parser.add_argument("--write", action="store_true", help="rewrite the tables in docs/measurement.md")
    args = parser.parse_args()
    made = page(args.run)
    if args.write:
        DOCUMENT.write_text(replace_marked(DOCUMENT.read_text(), "measured", made, DOCUMENT))
    else:
        print(made)


if __name__ == "__main__":
    main()
