"""An analysis as a page needs it: participants numbered for their marks, cells by name, frames for the tables.

Nothing is computed here but look-ups and order.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import count
from typing import TYPE_CHECKING, Any

from bakeoff.files import PROJECT_ROOT, yaml_document
from bakeoff.schema.analysis import Analysis
from bakeoff.schema.analysis_figures import Pair, ProfileCurve, Summary, Winner
from bakeoff.schema.analysis_run import AnalysedCell, AnalysedWorkload
from bakeoff.schema.base import Estimate, Verdict
from bakeoff.schema.gates import Numerics
from bakeoff.schema.profile import CellProfile
from bakeoff.tables import formats as f
from bakeoff.tables.table import Column, flat, frame, number, without_nan

if TYPE_CHECKING:
    from pandas import DataFrame


@cache
def marks() -> dict[str, int]:
    """Solution -> number of its mark."""
    return dict(yaml_document(PROJECT_ROOT / "report_templates" / "marks.yaml"))


# A difference below this share is none that a page would point at.
RESTING = 0.01


@dataclass(frozen=True)
class Person:
    """A participant on the page; `index` decides its colour, dash and marker."""

    index: int
    name: str
    label: str
    role: str
    description: str
    twin_of: str | None = None
    elsewhere: bool = False

    @property
    def heading(self) -> str:
        """That of a column of figures; empty, so that only the CSV has it, for a peer that is not made for the chip."""
        return "" if self.elsewhere else self.label


@dataclass(frozen=True)
class RunView:
    """An analysis, and what pages look up in it."""

    a: Analysis
    whole: Analysis | None = None
    """Where `a` is cut down to those that a page shows: the document about all."""

    @property
    def everyone(self) -> Analysis:
        return self.whole or self.a

    @cached_property
    def people(self) -> list[Person]:
        """Contestants before peers, otherwise in the run's order. Indices are those of marks.yaml, so that a solution
        looks alike in every report; others follow by name, twins last."""
        listed, named = marks(), sorted(self.a.participants, key=lambda p: (p.twin_of is not None, p.name))
        index = {p.name: listed[p.name] for p in named if p.name in listed}
        free = (number for number in count() if number not in index.values())
        index |= {p.name: next(free) for p in named if p.name not in listed}
        ordered = sorted(self.a.participants, key=lambda p: p.role == "peer")
        times = Counter(p.label for p in ordered)  # two solutions with one label go by their names
        labels = {p.name: p.label if times[p.label] == 1 else p.name for p in ordered}
        return [
            Person(index[p.name], p.name, labels[p.name], p.role, p.description or "", p.twin_of, p.elsewhere)
            for p in ordered
        ]

    @cached_property
    def by_name(self) -> dict[str, Person]:
        return {person.name: person for person in self.people}

    @property
    def gpu(self) -> str:
        """Model of the GPU as people say it."""
        return (self.a.run.hardware or "hardware not recorded").removeprefix("NVIDIA ")

    @cached_property
    def facts(self) -> dict[str, str]:
        """Recorded facts about the environment by their key; those that are known to be missing are left out."""
        return {fact.key: str(fact.value) for fact in self.a.provenance if fact.value is not None}

    @cached_property
    def contestants(self) -> list[Person]:
        return [person for person in self.people if person.role == "contestant"]

    @cached_property
    def published_contestants(self) -> list[Person]:
        """Contestants that the published table has, which its form stays with; all, if the run stands beside none."""
        beside = [comparison for comparison in self.a.comparisons if comparison.rule == "published"]
        names = {cell.solution for comparison in beside for cell in comparison.cells}
        return [person for person in self.contestants if not names or person.name in names]

    @cached_property
    def cells(self) -> dict[tuple[str, str], AnalysedCell]:
        return {(cell.solution, cell.workload): cell for cell in self.a.cells}

    @cached_property
    def workloads(self) -> dict[str, AnalysedWorkload]:
        return {workload.id: workload for workload in self.a.workloads}

    @cached_property
    def winners(self) -> dict[str, Winner]:
        return {winner.workload: winner for winner in self.a.winners}

    @cached_property
    def summaries(self) -> dict[str, Summary]:
        return {summary.solution: summary for summary in self.a.summaries}

    @cached_property
    def pairs(self) -> dict[tuple[str, str], Pair]:
        return {(pair.a, pair.b): pair for pair in self.a.pairs}

    @cached_property
    def seq_len_is_unique(self) -> bool:
        """Whether seq_len alone names a workload of this run."""
        lengths = [workload.seq_len for workload in self.a.workloads]
        return len(set(lengths)) == len(lengths)

    @cached_property
    def outcomes(self) -> dict[str, int]:
        """Cells by outcome: PASSED first, then by name."""
        counts: Counter[str] = Counter(cell.outcome for cell in self.everyone.cells)
        return dict(sorted(counts.items(), key=lambda item: (item[0] != "PASSED", item[0])))

    @cached_property
    def clear_wins(self) -> int:
        """Workloads whose winner is shown to be 2 % or more ahead of every other contestant."""
        return sum(winner.verdict is Verdict.FASTER_2_PERCENT for winner in self.a.winners)

    @cached_property
    def draws(self) -> list[dict[str, int]]:
        """Per workload whose lead is not supported though blocks could tell: whether all who are tied are shown to be
        the same."""
        undecided = [w for w in self.a.winners if w.basis == "blocks" and w.tied]
        return [{"same": int(set(w.tied) == set(w.same))} for w in undecided]

    @cached_property
    def fates(self) -> dict[str, int]:
        """Cells that passed, failed, are not supported, or did not run; only those that occur."""
        quiet = {code: self.outcomes.get(code, 0) for code in ("UNSUPPORTED", "NOT_RUN")}
        passed = self.outcomes.get("PASSED", 0)
        found = {"passed": passed, "failed": len(self.everyone.cells) - passed - sum(quiet.values()), **quiet}
        return {fate: number for fate, number in found.items() if number}

    @cached_property
    def role(self) -> str:
        """Whose cells a verdict counts: the contestants', or the peers' where a run has no contestant."""
        return "contestant" if self.contestants else "peer"

    @cached_property
    def elsewhere(self) -> set[str]:
        """Peers that are not made for the chip."""
        return {who.name for who in self.everyone.participants if who.elsewhere}

    def passed(self, role: str) -> tuple[int, int]:
        """Cells that PASSED, and all cells, of the participants in a role."""
        names = {who.name for who in self.everyone.participants if who.role == role} - self.elsewhere
        found = [cell.outcome == "PASSED" for cell in self.everyone.cells if cell.solution in names]
        return sum(found), len(found)

    @cached_property
    def not_passed(self) -> list[AnalysedCell]:
        """Cells of contestants and peers that ended otherwise."""
        names = {who.name for who in self.everyone.participants if who.role in ("contestant", "peer")} - self.elsewhere
        return [cell for cell in self.everyone.cells if cell.solution in names and cell.outcome != "PASSED"]

    def standing(self, solution: str, workload: str) -> str:
        """How a solution stands at a workload: win (leads with support), lead, same, tie, ran, or none."""
        winner = self.winners.get(workload)
        if self.speedup(solution, workload) is None:
            return "none"
        if winner is None or winner.leader is None:
            return "ran"
        if winner.leader == solution:
            return "win" if winner.supported else "lead"
        if winner.basis != "blocks" or solution not in winner.tied:
            return "ran"
        return "same" if solution in winner.same else "tie"

    def fate(self, solution: str, workload: str) -> str:
        """What became of a cell: pass, fail, or none."""
        found = self.cells.get((solution, workload))
        if found is None or found.outcome in ("NOT_RUN", "UNSUPPORTED"):
            return "none"
        return "pass" if found.outcome == "PASSED" else "fail"

    @cached_property
    def kind(self) -> str:
        """`published`, `cpu` (correctness only) or `measured`."""
        if self.a.run.kind == "published":
            return "published"
        return "measured" if self.a.performance_shown else "cpu"

    @cached_property
    def block_counts(self) -> list[int]:
        """The numbers of blocks that cells rest on, least first; the planned one where no cell has a value."""
        # An anchor is in all shards, in more blocks than are planned for each.
        planned = self.a.run.blocks
        return sorted({min(cell.blocks, planned) for cell in self.a.cells if cell.blocks}) or [planned]

    @cached_property
    def repeated(self) -> bool:
        """Whether cells rest on more than one block, so that statistics could support something."""
        return self.block_counts[-1] > 1

    @cached_property
    def blocks_missing(self) -> bool:
        """Whether some cell rests on another number of blocks than planned."""
        return self.block_counts != [self.a.run.blocks]

    @cached_property
    def blocks_of(self) -> str:
        """How many blocks the figures rest on, of how many planned if that differs: "10", "8 of 10", "8 to 10 of
        10"."""
        least, most = self.block_counts[0], self.block_counts[-1]
        found = f.count(most) if least == most else f"{f.count(least)} to {f.count(most)}"
        return f"{found} of {f.count(self.a.run.blocks)}" if self.blocks_missing else found

    @cached_property
    def blocks(self) -> str:
        """The same with its noun: "8 of 10 blocks", or GPUs where each is one sample."""
        noun = {"block": "block", "gpu": "GPU"}[self.a.run.unit]
        return f"{self.blocks_of} {noun}{'' if self.a.run.blocks == 1 else 's'}"

    @cached_property
    def has_intervals(self) -> bool:
        return any(cell.speedup and cell.speedup.low is not None for cell in self.a.cells)

    def label(self, name: str) -> str:
        """A participant's label; a name that is no participant (the reference) stands for itself."""
        return self.by_name[name].label if name in self.by_name else name

    def labels(self, names: list[str]) -> list[str]:
        return [self.label(name) for name in names]

    def speedup(self, solution: str, workload: str) -> Estimate | None:
        found = self.cells.get((solution, workload))
        return found.speedup if found else None

    @cached_property
    def fastest(self) -> dict[str, str]:
        """Workload -> who has the highest speedup there, peers included; not those where nobody has one."""
        found: dict[str, str] = {}
        for person in self.people:
            for w in self.a.workloads:
                value, best = self.speedup(person.name, w.id), self.speedup(found.get(w.id, ""), w.id)
                if value and person.twin_of is None and (best is None or value.value > best.value):
                    found[w.id] = person.name
        return found

    @cached_property
    def _ratios(self) -> dict[tuple[str, str, str], Estimate]:
        """(a, b, workload) -> b's time over a's; over all workloads under the workload ""."""
        found: dict[tuple[str, str, str], Estimate] = {}
        for pair in self.a.pairs:
            for workload, ratio in [("", pair.ratio), *((one.workload, one.ratio) for one in pair.verdicts)]:
                if ratio:
                    found |= {(pair.a, pair.b, workload): ratio, (pair.b, pair.a, workload): ratio.inverse}
        return found

    @cached_property
    def leader(self) -> str | None:
        """The first of the ranking; None without one."""
        ranking = self.a.findings.ranking
        return ranking.order[0].solution if ranking and ranking.order else None

    def partly(self, solution: str) -> str:
        """Over how many workloads a solution's means are, where that is not all."""
        found = self.summaries.get(solution)
        return f"over {found.cells} of {found.due} workloads" if found and found.cells < found.due else ""

    def latency(self, solution: str, workload: str) -> Estimate | None:
        found = self.cells.get((solution, workload))
        return found.latency_us if found else None

    @cached_property
    def host_cells(self) -> list[CellProfile]:
        """The profiled cells of the first in the ranking whose host time was taken without a tracer."""
        cells = self.a.profiles.cells if self.a.profiles else []
        return [c for c in cells if c.solution == self.leader and not c.host_traced]

    def behind(self, solution: str, other: str, workload: str = "") -> Estimate | None:
        """The time of a solution over that of another one; without a workload the geometric mean over those that both
        have."""
        return Estimate(value=1.0) if solution == other else self._ratios.get((other, solution, workload))

    def rests_on(self, a: str, b: str, workload: str) -> str:
        """ "rests on one process" where most of the difference of two solutions is gone, or turned, without the
        processes that are outliers; else nothing."""
        pair = self.pairs.get((a, b)) or self.pairs.get((b, a))
        entry = next((one for one in pair.verdicts if one.workload == workload), None) if pair else None
        if entry is None or entry.ratio is None or entry.without_outliers is None:
            return ""
        difference, rest = math.log(entry.ratio.value), math.log(entry.without_outliers.value)
        if abs(difference) < RESTING or rest * math.copysign(1, difference) > abs(difference) / 2:
            return ""
        cells = (self.cells.get((name, workload)) for name in (a, b))
        outliers = sum(len(cell.outlier_blocks) for cell in cells if cell)
        return "rests on one process" if outliers == 1 else f"rests on {outliers} processes"

    def latency_ends(self, solution: str) -> tuple[AnalysedCell, AnalysedCell] | None:
        """A solution's cells of the smallest and the largest workload that has a time; None if it has no two."""
        timed = [
            found
            for w in sorted(self.a.workloads, key=lambda w: w.seq_len)
            if (found := self.cells.get((solution, w.id))) and found.latency_us
        ]
        return (timed[0], timed[-1]) if len(timed) > 1 else None

    def factor_everywhere(self, curve: ProfileCurve) -> float | None:
        """The factor within which a solution is of the fastest on every workload; None if a cell is missing."""
        return next((x for x, share in zip(curve.factors, curve.shares, strict=True) if share >= 1), None)

    def tick(self, workload: str) -> str:
        """A workload's name on an axis: its seq_len where that is enough, otherwise its id."""
        return f"{self.workloads[workload].seq_len:,}" if self.seq_len_is_unique else workload

    def who(self, key: str = "solution", heading: str = "Solution", *, marked: bool = True, **rest: Any) -> Column:
        """The column of a participant, by label, with its mark."""

        def mark(row: Mapping[str, Any]) -> int | None:
            return self.by_name[row[key]].index if row[key] in self.by_name else None

        return Column(key, heading, self.label, row_mark=mark if marked else None, **rest)

    @cached_property
    def cell_frame(self) -> "DataFrame":
        """One row per cell: its fields, and the figures of its output."""
        return frame({**flat(cell.numerics or Numerics()), **flat(cell)} for cell in self.a.cells)

    @cached_property
    def workload_frame(self) -> "DataFrame":
        """One row per workload, with its floor."""
        return frame({**flat(w), "workload": w.id, "expert_offset": w.offset} for w in self.a.workloads)

    def wide(self, *keys: str) -> "DataFrame":
        """The workloads' frame with a column SOLUTION:KEY for each participant and key of the cells' frame."""
        found, names = self.workload_frame, [person.name for person in self.people]
        for key in keys:
            cells = self.cell_frame.reindex(columns=["workload", "solution", key])
            values = cells.pivot(index="workload", columns="solution", values=key).reindex(columns=names)
            found = found.join(values.add_suffix(f":{key}"), on="workload")
        return without_nan(found)


def without(columns: list[Column], *keys: str) -> list[Column]:
    """Columns of which some stand in the CSV alone, so that the table fits on a page."""
    return [replace(column, heading="") if column.key in keys else column for column in columns]


def workload_columns(offset: str = "expert_offset") -> list[Column]:
    """The columns that name a workload; its id stands in the CSV alone."""
    return [
        Column("workload"),
        number("seq_len", "seq_len", f.count, head=True),
        number("expert_offset", offset),
    ]
