"""The sample table: a run's journals, or a published table, as pandas frames. The one way from files to numbers.

Entry points: `load` (also `bakeoff.load`), and `Journals`, from which a run is assembled, checked, analysed and
compared. Nothing is written; a damaged file is an InputError.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bakeoff.core.protocols import per_process_latency, primary_tier
from bakeoff.errors import InputError
from bakeoff.planned import no_run, read_plan
from bakeoff.runs.journal import journal_path, read_journal
from bakeoff.runs.published import read_published
from bakeoff.runs.samples import COLUMNS, CellFigures, Samples
from bakeoff.schema.gates import Numerics
from bakeoff.schema.outcomes import UNFINISHED, Outcome
from bakeoff.schema.plan import Plan
from bakeoff.schema.sample import SPENT, TIERS, BlockTimes, CellResult, Record

# What a cell of one protocol, and one verification, is.
CELL = ["participant", "workload", "protocol"]
CHECK = ["participant", "workload", "family", "seed"]
_CELL = ["solution", "role", "workload", "seq_len", "offset", "outcome", "reason"]
_JUDGED = ("outcome", "reason", "published_gate", "strict_gate")
_STATE = ("sm_mhz", "memory_mhz", "celsius", "watts")
_PROCESS = [
    *("block", "participant", "workload", "protocol", "family", "seed", "outcome", "reason", *TIERS),
    *("calls", "discarded", *_STATE, "state_of_calls", "reasons", "started", "seconds"),
    *(f"{what}_s" for what in SPENT),
]


@dataclass(frozen=True)
class SampleTable:
    """A run as tidy frames. Times are in microseconds; NaN or None where there is none."""

    samples: pd.DataFrame
    """One row per process and workload: block, participant, workload, seq_len, protocol, outcome, a column per time
    tier, calls, discarded, the GPU's state (medians; clock event `reasons`; `state_of_calls`: of the timed calls
    alone), and the seconds that it took, with the worker's share by what it did."""
    checks: pd.DataFrame
    """One row per verification: participant, workload, family, seed, outcome, reason, the answers of both gates and
    the figures that they judge; the worst over blocks where values are verified in each."""
    cells: pd.DataFrame
    """One row per solution and workload, with the figures that are decided from: latency, its median, the reference's
    latency and the speedup, each with its 95 % interval, and the number of blocks that they rest on."""


def load(folder: str | Path, protocol: str | None = None) -> SampleTable:
    """The frames of a run's folder, just made or recorded, or of a published table, which fills `cells` alone.

    protocol: whose figures `cells` holds; default the run's first one.
    """
    folder = Path(folder)
    if (folder / "meta.yaml").is_file():
        table = read_published(folder)
        outcome = Outcome.PASSED if table.meta.passed else Outcome.NOT_RUN
        rows = [
            (name, "contestant", what.id, what.seq_len, what.offset, outcome, None)
            for name, what in product(table.samples.solutions, table.workloads)
        ]
        return SampleTable(pd.DataFrame(), pd.DataFrame(), _cell_frame(rows, table.samples))
    if not (folder / "config.json").is_file():
        raise no_run(folder, or_published=True)
    plan = read_plan(folder)
    journals = Journals.read(folder, plan)
    measured = journals.processes[journals.processes["protocol"].notna()].drop(columns=["family", "seed"])
    sizes = {what.id: what.seq_len for what in plan.workloads}
    measured.insert(3, "seq_len", measured["workload"].map(sizes))
    return SampleTable(
        samples=measured.reset_index(drop=True),
        checks=journals.checks(),
        cells=journals.cells(protocol or plan.protocols[0]),
    )


@dataclass(frozen=True)
class Journals:
    """The final records of a run's planned cells, and the same as a frame: row n of `processes` is record n."""

    plan: Plan
    records: list[Record]
    processes: pd.DataFrame

    @classmethod
    def read(cls, run: Path, plan: Plan) -> "Journals":
        """From every block that has a journal, by block, then participant in the plan's order."""
        keys = {cell.key for cell in plan.cells}  # other keys belong to inputs that have changed since
        records = [
            record
            for block in range(plan.blocks)
            for who in plan.present(block)
            for record in _finals(journal_path(run, block, who.name), block)
            if record.key in keys
        ]
        processes = pd.DataFrame(map(_process, records), columns=_PROCESS)
        for row in processes[(processes[[*TIERS]] <= 0).any(axis=1)].itertuples():
            raise InputError(
                f"{journal_path(run, row.block, row.participant)}: {row.workload}",
                found="a time of 0 or less",
                expected="times above 0, in microseconds",
                hint="delete its line, and measure the block again",
            )
        return cls(plan, records, processes)

    def of(self, rows: Iterable[int]) -> list[Record]:
        return [self.records[row] for row in rows]

    def measured(self, protocol: str) -> pd.DataFrame:
        """The processes' rows under one protocol."""
        return self.processes[self.processes["protocol"] == protocol]

    def verifications(self) -> Iterator[Record]:
        """The worst record of each solution, workload and set of values, in the plan's order; the timed values count
        under the first protocol."""
        plan, protocol = self.plan, self.processes["protocol"]
        judged = self.processes[protocol.isna() | (protocol == plan.protocols[0])]
        groups = judged.groupby(CHECK, sort=False).groups
        workloads = [what.id for what in plan.workloads]
        for place in product([who.name for who in plan.solutions], workloads, plan.families, plan.seeds):
            if place in groups:
                yield worst(self.of(groups[place]))

    def checks(self) -> pd.DataFrame:
        """A row per verification, as `SampleTable.checks` describes."""
        return pd.DataFrame(map(_check, self.verifications()), columns=[*CHECK, *_JUDGED, *Numerics.model_fields])

    def results(self, protocol: str) -> dict[tuple[str, str], CellResult]:
        """What became of each measured (solution, workload) under one protocol, with the times that this rests on; in
        the plan's order."""
        groups = self.measured(protocol).groupby(CELL[:2], sort=False).groups
        times = dict(list(self.times(protocol).groupby(["solution", "workload"])))
        places = product([who.name for who in self.plan.solutions], [what.id for what in self.plan.workloads])
        backend = self.plan.backend
        return {at: _result(self.of(groups[at]), times.get(at), backend) for at in places if at in groups}

    def times(self, protocol: str) -> pd.DataFrame:
        """Times of the PASSED processes beside the reference's of the same block and tier, in the columns of
        `samples.COLUMNS`; a block that only one of the two has is there as well. None of a cell that its solution
        failed in any block.

        A cell's tier is the best one that all of its processes with a time have.
        """
        processes = self.measured(protocol)
        failed = processes[~processes["outcome"].isin({Outcome.PASSED, *UNFINISHED})][CELL[:2]]
        stands = ~pd.MultiIndex.from_frame(processes[CELL[:2]]).isin(pd.MultiIndex.from_frame(failed))
        processes = processes[stands & processes[[*TIERS]].notna().any(axis=1)]
        have = processes.groupby(CELL[:2], sort=False)[list(TIERS)].count()
        have = have.eq(processes.groupby(CELL[:2], sort=False).size(), axis=0)
        tiers = [
            (*place, primary_tier(protocol, set(have.columns[row])))
            for place, row in zip(have.index, have.to_numpy(dtype=bool), strict=True)
        ]
        cells = pd.DataFrame(tiers, columns=["solution", "workload", "tier"])
        passed = processes[processes["outcome"] == Outcome.PASSED].rename(columns={"participant": "solution"})
        place = ["solution", "workload", "block", "tier"]
        long = passed.melt(place[:3], list(TIERS), var_name="tier", value_name="latency_us").dropna()
        reference = long[long["solution"] == "reference"].rename(columns={"latency_us": "reference_us"})
        own = cells.merge(long, on=["solution", "workload", "tier"])
        beside = cells.merge(reference.drop(columns="solution"), on=["workload", "tier"])
        found = own.merge(beside, on=place, how="outer")
        return found[found["solution"] != "reference"][COLUMNS]

    def samples(self, protocol: str) -> Samples:
        """The times as arrays, of all solutions and workloads of the plan."""
        times = self.times(protocol)
        return Samples.of(
            times[times["latency_us"].notna()],
            [who.name for who in self.plan.solutions],
            [what.id for what in self.plan.workloads],
        )

    def cells(self, protocol: str) -> pd.DataFrame:
        """One row per solution and workload of the plan, with the cell's figures under one protocol."""
        groups = self.measured(protocol).groupby(["participant", "workload"], sort=False).groups
        rows = []
        for who, what in product(self.plan.solutions, self.plan.workloads):
            place = (who.name, what.id)
            record = worst(self.of(groups[place])) if place in groups else None
            outcome, reason = (record.outcome, record.reason) if record else (Outcome.NOT_RUN, None)
            rows.append((who.name, who.role, what.id, what.seq_len, what.offset, outcome, reason))
        return _cell_frame(rows, self.samples(protocol))


def worst(records: Sequence[Record]) -> Record:
    """Of the records of one cell or verification, by block: the first that the solution failed, else the first that
    passed, else the first. A block that the host disturbed, or that was not run, says nothing about the solution."""
    judged = [record for record in records if record.outcome not in UNFINISHED] or records
    return next((record for record in judged if record.outcome != Outcome.PASSED), judged[0])


def _result(records: Sequence[Record], times: pd.DataFrame | None, backend: str) -> CellResult:
    record = worst(records)
    return CellResult(
        **{name: getattr(record, name) for name in ("outcome", "reason", "detail", "hint", "gates", "numerics")},
        tier=None if times is None else times["tier"].iloc[0],
        backend=backend,
        per_block=[] if times is None else _per_block(times),
        missing_tiers=record.missing_tiers,
        discarded=sum(each.discarded for each in records),
        warnings=list(dict.fromkeys(text for each in records for text in each.warnings)),
    )


def _per_block(times: pd.DataFrame) -> list[BlockTimes]:
    ordered = times.sort_values("block")
    rows = zip(ordered["block"].tolist(), _known(ordered["latency_us"]), _known(ordered["reference_us"]), strict=True)
    return [BlockTimes(block=block, latency_us=own, reference_us=reference) for block, own, reference in rows]


def _known(times: pd.Series) -> list[float | None]:
    return [None if np.isnan(us) else us for us in times.tolist()]


def _finals(path: Path, block: int) -> Iterable[Record]:
    """The newest record of each key; one of another block, or a second one after a pass, is an InputError, since no
    finished cell is measured twice."""
    newest: dict[str, Record] = {}
    for number, record in enumerate(read_journal(path), 1):
        earlier = newest.get(record.key)
        again = earlier is not None and earlier.outcome == Outcome.PASSED
        if again or record.block != block:
            what = f"{record.participant} {record.workload}"
            raise InputError(
                f"{path}:{number}",
                found=f"a second record of {what}, which had PASSED" if again else f"{what} in block {record.block}",
                expected=f"one final record per cell, of block {block}",
                hint="delete the line that does not belong there",
            )
        newest[record.key] = record
    return newest.values()


def _process(record: Record) -> dict[str, Any]:
    """One process on one workload. A tier's time is what the process gives: under `robust` the median of its calls."""
    state = record.gpu_state or {}
    protocol, spent_s = record.protocol or "", {str(what): seconds for what, seconds in record.spent_s.items()}
    times = {str(name): per_process_latency(protocol, calls) for name, calls in record.tiers.items() if calls}
    return {
        **{name: getattr(record, name) for name in _PROCESS if name in Record.model_fields},
        **{name: times.get(name, np.nan) for name in TIERS},
        "calls": max(map(len, record.tiers.values()), default=0),
        **{name: (state.get(name) or {}).get("median", np.nan) for name in _STATE},
        # Of `sustained`, whose calls are nearly all of its cell, it always was.
        "state_of_calls": bool(state.get("of_calls", protocol == "sustained")),
        "reasons": ", ".join(state.get("reasons", [])),
        **{f"{what}_s": spent_s.get(what, np.nan) for what in SPENT},
    }


def _check(record: Record) -> dict[str, Any]:
    return {
        **{name: getattr(record, name) for name in (*CHECK, "outcome", "reason")},
        **{f"{name}_gate": gate.passed for name, gate in record.gates.items()},
        **(record.numerics or Numerics()).model_dump(),
    }


def _cell_frame(cells: Sequence[tuple[Any, ...]], samples: Samples) -> pd.DataFrame:
    """cells: in the order of `samples`, by solution, then workload. One that did not pass has no figures."""
    frame, figures = pd.DataFrame(cells, columns=_CELL), CellFigures.of(samples)
    passed = (frame["outcome"] == Outcome.PASSED).to_numpy()
    times = {"latency": figures.latency, "median": figures.median, "reference": figures.reference}
    known = {f"{name}{{}}_us": times[name] for name in times} if samples.times_known else {}
    for name, interval in {**known, "speedup{}": figures.speedup}.items():
        for end, logs in (("", interval.value), ("_low", interval.low), ("_high", interval.high)):
            frame[name.format(end)] = np.where(passed, np.exp(logs).ravel(), np.nan)
    return frame.assign(blocks=np.where(passed, figures.blocks.ravel(), 0))
