"""`bakeoff measure RUN --block K`: what is left of a block, run, journalled, and closed with a manifest.

Entry point: `measure_block`. Writes samples/block-KK/: host.json, a journal per participant and, last, manifest.json;
scratch/ holds what workers leave while they run, cache/ what compilers keep for the next block.
"""

import shutil
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from bakeoff import locks
from bakeoff.config import under_root
from bakeoff.core.bounds import bounds
from bakeoff.core.confine import WALLS
from bakeoff.core.device.opening import TEST_DOUBLE, double
from bakeoff.core.moe.geometry import Geometry
from bakeoff.errors import InputError
from bakeoff.files import model_json, read_bytes, read_json, remove_tree, sha256_bytes, write_atomic
from bakeoff.planned import block_cells, block_order, packed_solution, problem_of, read_plan
from bakeoff.runs import block_host
from bakeoff.runs.coverage import journal_digest, line_digests
from bakeoff.runs.journal import Journal, block_folder, journal_path
from bakeoff.schema.outcomes import HINTS, UNFINISHED, Outcome, Reason
from bakeoff.schema.plan import Participant, Plan, PlannedCell
from bakeoff.schema.sample import Manifest, Record, Spent
from bakeoff.supervisor.block import run_block
from bakeoff.supervisor.settings import BlockSettings, Task, utc_now
from bakeoff.traces.store import TraceRoot

Say = Callable[[str], None]


def say(text: str) -> None:
    """Progress goes to standard error, a line at a time."""
    print(text, file=sys.stderr, flush=True)


def measure_block(run: Path, block: int, again: bool = False, tell: Say = say) -> Manifest:
    """Run what is missing of a block. `again`: cells that did not pass count as missing. A host that is short of
    something is an InputError, and finished cells are kept."""
    try:
        return _measure_block(run, block, again, tell)
    except (OSError, MemoryError) as error:
        place = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
        raise InputError(
            f"block {block} of {run}",
            found=f"{getattr(error, 'strerror', None) or 'no memory left'}{place}",
            expected="enough open files, processes, memory and disk for a block",
            hint="give it what it lacks (`ulimit -a`, `free -h`, `df -h -i`) and run the same command again: finished "
            "cells are kept",
        ) from error


def _measure_block(run: Path, block: int, again: bool, tell: Say) -> Manifest:
    started = time.monotonic()
    run = run.resolve()
    plan = read_plan(run)
    cells = block_cells(plan, block)
    here = block_host.require_alike(run, plan)
    with locks.hold(block_folder(run, block) / ".lock", f"block {block} of {run}", tell):
        path = block_folder(run, block) / "manifest.json"
        journals = BlockJournals(run, plan, block, cells, again, tell)
        begun = block_host.begun_on(run, block)
        if journals.is_open and begun and begun != journals.gpu:
            journals.close()
            block_host.set_aside(run, block, begun, tell)
            journals = BlockJournals(run, plan, block, cells, again, tell)
        try:
            if journals.is_open:
                path.unlink(missing_ok=True)  # of a block that was complete before its inputs changed
                block_host.write(run, block, here, journals.gpu)
            seconds = journals.complete()
            if seconds is None and path.is_file():
                spent = read_json(path, Manifest).spent  # nothing ran: what was spent stays as it was
            else:
                timed = {"total": time.monotonic() - started, "lock": 0.0, "timed": 0.0, "judged": 0.0} | (
                    seconds or {}
                )
                spent = {what: round(value, 3) for what, value in timed.items()}
            manifest = journals.manifest(spent)
            write_atomic(path, model_json(manifest))
        finally:
            journals.close()
    return manifest


class BlockJournals:
    """The journals of one block: what is done, what is due, and the line that is written next."""

    def __init__(self, run: Path, plan: Plan, block: int, cells: list[PlannedCell], again: bool, tell: Say) -> None:
        self.run, self.plan, self.block, self.cells, self.tell = run, plan, block, cells, tell
        self.journals = {
            who.name: Journal.open(journal_path(run, block, who.name), tell) for who in plan.present(block)
        }
        self._due = [cell for cell in cells if not self._done(cell, again)]
        self._progress = Progress(plan, block, cells, self._due, tell)
        self._settings = replace(settings_of(plan, run, block), tell=tell)
        self._files = {path: _state(path) for path in self._guarded()}

    def _done(self, cell: PlannedCell, again: bool) -> bool:
        last = self.journals[cell.participant].last(cell.key)
        return last is not None and last.outcome not in UNFINISHED and not (again and last.outcome != Outcome.PASSED)

    @property
    def is_open(self) -> bool:
        """Whether a cell is due."""
        return bool(self._due)

    @property
    def gpu(self) -> str | None:
        """UUID of the GPU that the block has to itself; None on the cpu backend."""
        return self._settings.gpu

    def complete(self) -> dict[str, float] | None:
        """Run the cells that are due; returns where the time went, or None if no worker had to run."""
        waiting = {name: deque(cell for cell in self._due if cell.participant == name) for name in self.journals}
        tasks = []
        for name in block_order(self.plan, self.block):
            who = next(participant for participant in self.plan.participants if participant.name == name)
            if why := _no_process(self.plan, who):
                for cell in waiting[name]:
                    self.add(_without_process(cell, self.block, *why))
            elif waiting[name]:
                solution = packed_solution(self.run, self.plan, who) if who.build else None
                tasks.append(Task(who, solution, waiting[name]))
        if not self._due:
            self.tell(self._complete())
        if not tasks:
            return None
        seconds = run_block(self._settings, tasks, self)
        remove_tree(self._settings.scratch)
        return seconds

    def add(self, record: Record) -> None:
        """Journal a record, then show progress."""
        journal = self.journals[record.participant]
        journal.append(record)
        self._files[journal.path] = _state(journal.path)
        self._progress.show(record)

    def tampered(self) -> str | None:
        """A sentence if a journal, the plan or a packed solution is not as this process left it."""
        changed = [path for path, state in self._files.items() if _state(path) != state]
        for path in changed:
            self._files[path] = _state(path)
        names = ", ".join(path.relative_to(self.run).as_posix() for path in changed)
        return f"files of the run changed during the cell: {names}" if names else None

    def manifest(self, spent: Spent) -> Manifest:
        """The block's manifest; every cell is there by now."""
        finals = self._finals()
        outcomes = _outcomes(finals)
        newest = {cell.key: record.outcome for cell, record in finals.items() if record}
        digests = {
            name: journal_digest([cell for cell in self.cells if cell.participant == name], newest)
            for name in self.journals
        }
        return Manifest(
            block=self.block,
            order=block_order(self.plan, self.block),
            journals=digests,
            samples={name: sha256_bytes(read_bytes(one.path)) for name, one in self.journals.items()},
            lines={name: line_digests(read_bytes(one.path)) for name, one in self.journals.items()},
            outcomes=dict(sorted(outcomes.items())),
            gpu=self.gpu,
            walls=_walls(record for cell, record in finals.items() if record and cell.participant == "reference"),
            spent=spent,
        )

    def _finals(self) -> dict[PlannedCell, Record | None]:
        return {cell: self.journals[cell.participant].last(cell.key) for cell in self.cells}

    def _complete(self) -> str:
        """What is said of a block in which nothing is left to do."""
        passed = _outcomes(self._finals())[Outcome.PASSED.value]
        others = "" if passed == len(self.cells) else "; --again measures the others once more"
        head = f"measure  block {self.block + 1}/{self.plan.blocks}"
        return f"{head}  complete: all {len(self.cells)} cells are recorded, {passed} PASSED{others}"

    def close(self) -> None:
        for journal in self.journals.values():
            journal.close()

    def _guarded(self) -> list[Path]:
        built = [self.run / who.build for who in self.plan.present(self.block) if who.build]
        files = [
            self.run / "config.json",
            self.run / "host.json",
            *built,
            *(journal.path for journal in self.journals.values()),
        ]
        return [path for path in files if path.exists()]


class Progress:
    """A line for a cell: stage, block, how many of all cells are done, the cell, its outcome, time left. On a terminal
    it takes the place of the one before it; elsewhere each tenth of the work gets one. What did not pass stays."""

    def __init__(self, plan: Plan, block: int, cells: list[PlannedCell], due: list[PlannedCell], tell: Say) -> None:
        self._head, self._total = f"measure  block {block + 1}/{plan.blocks}", len(cells)
        self._due, self._done, self._first, self._tell = len(due), 0, 0.0, tell

    def show(self, record: Record) -> None:
        self._done += 1
        now = time.monotonic()
        if self._done == 1:
            self._first = now  # imports came before the first cell, and come only once
        each = (now - self._first) / max(1, self._done - 1)
        left = each * max(0, self._due - self._done)
        cell = f"{record.participant} {record.workload} {record.family} {record.protocol or 'verify'}"
        result = f"{record.outcome}{f' ({record.reason})' if record.reason else ''}"
        minutes, seconds = divmod(round(left), 60)
        remaining = f"  {minutes}:{seconds:02} left" if self._done > 1 else ""
        complete = self._total - self._due + self._done
        text = f"{self._head}  {complete:>{len(str(self._total))}}/{self._total}  {cell:<52} {result}{remaining}"
        kept = record.outcome != Outcome.PASSED or self._done == self._due
        if self._tell is say and sys.stderr.isatty():
            cut = text[: shutil.get_terminal_size().columns - 1]
            print(f"\x1b[2K{cut}", end="\n" if kept else "\r", file=sys.stderr, flush=True)
        elif kept or self._done * 10 // self._due > (self._done - 1) * 10 // self._due:
            self._tell(text)


def settings_of(plan: Plan, run: Path, block: int) -> BlockSettings:
    """The plan's side of what a block's workers share."""
    geometry = Geometry.of(TraceRoot(under_root(plan.traces_root)).definition(plan.definition))
    stand_in = double()
    if stand_in and plan.backend != "cpu":
        raise InputError(
            f"environment variable {TEST_DOUBLE}",
            found=str(stand_in.__file__),
            expected=f"nothing: this run is measured on {plan.backend}",
            hint="unset the variable: a test double gives times that nothing took",
        )
    return BlockSettings(
        block=block,
        folder=run,
        **problem_of(plan),
        geometry=geometry,
        tokens={workload.id: workload.seq_len for workload in plan.workloads},
        timeout_s=plan.timeout_s,
        emulates=geometry.hidden < bounds().strict.full_width_from,
        overlaps=plan.backend == "cpu" and stand_in is None,
        gpu=block_host.gpu_of(run, plan, block),
        clock=stand_in.now if stand_in else utc_now,
        lock_clocks_mhz=plan.lock_clocks_mhz,
    )


def _walls(records: Iterable[Record]) -> list[str]:
    """The walls around the workers of a block, by what was remarked of the reference's, which has nothing to hide; none
    where no cell of it passed, since then its walls may never have been raised."""
    passed = [record for record in records if record.outcome == Outcome.PASSED]
    said = [text for record in passed for text in record.warnings]
    if not passed:
        return []
    return [wall for wall, missing in WALLS.items() if not any(text.startswith(missing) for text in said)]


def _outcomes(finals: dict[PlannedCell, Record | None]) -> Counter[str]:
    return Counter(record.outcome.value if record else Outcome.NOT_RUN.value for record in finals.values())


def _no_process(plan: Plan, who: Participant) -> tuple[Outcome, Reason, str] | None:
    """Why nothing of a solution is run here; None where it is."""
    if not who.supported:
        return Outcome.UNSUPPORTED, Reason.NO_BACKEND, f"solution.yaml declares no backend {plan.backend}"
    flaw = plan.unpacked.get(who.twin_of or who.name)
    return (Outcome.COMPILE_ERROR, Reason.NOT_PACKED, flaw) if flaw else None


def _without_process(cell: PlannedCell, block: int, outcome: Outcome, reason: Reason, detail: str) -> Record:
    return Record(
        **cell.model_dump(),
        block=block,
        outcome=outcome,
        reason=reason,
        detail=detail,
        hint=HINTS[reason],
        started=utc_now(),
        seconds=0.0,
    )


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
