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
from bakeoff.measure.samples.journal import block_folder, journal_path, read_journal
from bakeoff.measure.samples.records import Record
from bakeoff.plan import Plan, read_plan

DOCUMENT = Path(__file__).parents[1] / "docs" / "measurement.md"
SMALL = 1000
FIVE = 5  # blocks that a run in CI has


def blocks(run: Path, plan: Plan) -> list[str]:
    """The run as a whole."""
    spent = [
        json.loads((block_folder(run, block) / "manifest.json").read_bytes())["spent"] for block in range(plan.blocks)
    ]
    busy, idle = ([100 * one[what] for one in spent if one[what] is not None] for what in ("gpu_busy", "idle"))
    verified = [100 * one["verified"] / one["lock"] for one in spent]
    rows = [
        ["blocks", str(plan.blocks), "10"],
        [f"wall time of the first {FIVE} blocks", f"{sum(one['total'] for one in spent[:FIVE]):.0f} s", "540 s"],
        ["wall time of a block", between([one["total"] for one in spent], "s"), ""],
        ["lock held in a block", between([one["lock"] for one in spent], "s"), ""],
        ["under the lock: a kernel ran, by NVML", between(busy, "%"), ""],
        ["under the lock: something was being verified", between(verified, "%"), ""],
        ["under the lock: idle, neither of the two", between(idle, "%"), "30 %"],
    ]
    return table(["what", "measured", "goal"], rows)


def records(run: Path, plan: Plan, block: int) -> list[Record]:
    return [record for who in plan.participants for record in read_journal(journal_path(run, block, who.name))]


def cells(found: Iterable[Record], tokens: dict[str, int]) -> list[str]:
    """A small cell's seconds, by participant."""
    by_name: dict[str, list[Record]] = {}
    for record in found:
        if record.kind == "measure" and tokens[record.workload] <= SMALL and record.spent_s:
            by_name.setdefault(record.participant, []).append(record)
    rows = []
    for name, own in sorted(by_name.items()):
        parts = {
            what: statistics.fmean(one.spent_s.get(what, 0.0) for one in own)
            for what in ("inputs", "checks", "calls", "outputs")
        }
        count = statistics.fmean(len(one.tiers["event_us"]) for one in own)
        total = statistics.fmean(one.seconds for one in own)
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
    found = [record for block in range(plan.blocks) for record in records(run, plan, block)]
    analysis = json.loads((run / "analysis.json").read_bytes())
    discarded = sum(record.discarded for record in found)
    lines = [
        *blocks(run, plan),
        *cells(found, tokens),
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
