"""`bakeoff time NAME…`: right or wrong on one workload, and how long it takes beside another solution, within a minute.

Entry point: `time_solutions` (the verb). Solutions run as in a run: packed, confined, judged outside, in blocks of
fresh processes in random order, at most `PART` beside each other. The few blocks give a range and no verdict; nothing
is kept but compilers' caches, and the lines of `--into`.
"""

import argparse
import json
import math
from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from bakeoff import host, locks
from bakeoff.build.names import solution_folder, workload_id
from bakeoff.build.pack import pack
from bakeoff.build.spec import read_spec, require_backend
from bakeoff.config import Config, resolve, under_root
from bakeoff.core.device.opening import double
from bakeoff.core.protocols import per_process_latency, primary_tier
from bakeoff.errors import InputError
from bakeoff.files import json_document, read_bytes, unwritable, validate
from bakeoff.plan import checked_plan
from bakeoff.planned import block_order
from bakeoff.runs.block_run import say, settings_of
from bakeoff.runs.check import alone
from bakeoff.schema.outcomes import SENTENCES, Outcome
from bakeoff.schema.plan import Plan
from bakeoff.schema.sample import Record
from bakeoff.supervisor.block import run_block
from bakeoff.supervisor.settings import Task
from bakeoff.tables import formats
from bakeoff.traces.models import document
from bakeoff.traces.store import TraceRoot

PART = 10  # solutions of one plan: what is known of them is said before the next ones begin
FOR_A_VERDICT = 5  # blocks


@dataclass
class Timed:
    """What is known of one solution so far; times in µs by block."""

    solution: str
    label: str
    failed: Record | None = None
    us: dict[int, float] = field(default_factory=dict)

    def over(self, other: "Timed") -> list[float]:
        """Its time over another one's, in each block that both have."""
        return [self.us[block] / other.us[block] for block in sorted(self.us.keys() & other.us.keys())]


class Stopwatch:
    """Takes the records of blocks and says what is known of a solution once all of its blocks are in."""

    def __init__(self, plan: Plan, against: str, timed: bool, tell: Callable[[dict[str, object], str], None]) -> None:
        """tell: is given the facts of a solution, and a sentence with them."""
        self.plan, self._timed, self._tell, self.beside = plan, timed, tell, against
        people = [who for who in plan.participants if who.role != "reference"]
        self.known = {who.name: Timed(who.name, who.label) for who in people}
        self.against = self.known.get(against)
        self._waiting = {who.name: plan.blocks for who in people}
        self._unsaid = [who.name for who in people if who.name != against or len(people) == 1]

    def add(self, record: Record) -> None:
        one = self.known[record.participant]
        if record.outcome != Outcome.PASSED:
            one.failed = one.failed or record
        elif record.tiers:
            tier = primary_tier(str(record.protocol), {name for name, calls in record.tiers.items() if calls})
            one.us[record.block] = per_process_latency(str(record.protocol), record.tiers[tier])  # type: ignore[index]
        self._waiting[one.solution] -= 1
        ready = self.against is None or not self._waiting[self.against.solution]
        for name in [name for name in self._unsaid if ready and not self._waiting[name]]:
            self._unsaid.remove(name)
            self._tell(self._facts(self.known[name]), self._sentence(self.known[name]))

    @property
    def waits(self) -> bool:
        """Whether something is left to be said."""
        return bool(self._unsaid)

    def leave_out(self, names: Collection[str]) -> None:
        """Of these solutions nothing is said."""
        self._unsaid = [name for name in self._unsaid if name not in names]

    def keys(self, solution: str) -> list[str]:
        """Keys of all that a solution's figures depend on: its cell, and that of the one it is compared with."""
        found = {cell.participant: cell.key for cell in self.plan.cells if cell.kind == "measure"}
        return [found[name] for name in (solution, self.beside) if name in found]

    def tampered(self) -> None:
        return None

    def _facts(self, one: Timed) -> dict[str, object]:
        ratios = one.over(self.against) if self.against else []
        return {
            **{"solution": one.solution, "workload": self.plan.workloads[0].id, "backend": self.plan.backend},
            **{"outcome": str(one.failed.outcome if one.failed else Outcome.PASSED), "us": list(one.us.values())},
            **{"against": self.against.solution if self.against else None, "blocks": self.plan.blocks},
            **{
                "keys": self.keys(one.solution),
                "ratio": geometric_mean(ratios) if ratios else None,
                "least": min(ratios, default=None),
                "most": max(ratios, default=None),
            },
        }

    def _sentence(self, one: Timed) -> str:
        place = self.plan.workloads[0].id
        if one.failed:
            detail = (one.failed.detail or "").strip().splitlines()
            said = f"{SENTENCES[one.failed.outcome]} {detail[-1] if detail else ''}".strip()
            return f"{one.solution} is not right at {place}: {said}"
        head = f"{one.solution} is right at {place} on {self.plan.backend}"
        if not self._timed:
            return f"{head}, at the narrow width and without its kernels; how long it takes, only a GPU tells"
        blocks = formats.plural(len(one.us), "block")
        few = f": a verdict needs {FOR_A_VERDICT}" if len(one.us) < FOR_A_VERDICT else ": for a verdict, make a run"
        ratios = one.over(self.against) if self.against else []
        if self.against is None or not ratios:
            ends = f"{formats.duration(min(one.us.values()))} to {formats.duration(max(one.us.values()))}"
            return f"{head}: {formats.duration(geometric_mean(one.us.values()))}, range {ends}, {blocks}"
        return (
            f"{one.solution} takes {geometric_mean(ratios):.3f} × the time of {self.against.solution} at {place}, "
            f"range {min(ratios):.3f} to {max(ratios):.3f}, {blocks}{few}"
        )


def time_solutions(args: argparse.Namespace) -> int:
    """Time the named solutions, a part at a time; returns 0 if each is right, else 1."""
    root = under_root("solutions")
    folders = {folder.name: folder for name in args.solutions for folder in [solution_folder(name, root)]}
    against = solution_folder(args.against, root) if args.against else None
    config = resolve(
        validate(
            {
                "backend": args.backend,
                "families": ["fib"],
                "protocols": ["robust"],
                "timeout_s": math.ceil(args.timeout),
            },
            Config,
            "options",
        )
    )
    cases = TraceRoot(under_root(config.traces_root)).workloads(config.definition, further=True)
    workload = workload_id(args.workload, [case.id for case in cases])
    timed = config.backend != "cpu" or double() is not None
    if not timed:
        say(
            f"no GPU that the solutions run on: the {config.backend} backend tells right from wrong, "
            "not how long it takes"
        )
    config = config.model_copy(update={"workloads": [workload], "blocks": args.blocks if timed else 1})
    place = under_root(".cache/time")
    with locks.hold(place / ".lock", "bakeoff time of this checkout", say):
        batch = TimedBatch(config, place, against, timed, args.json, args.into)
        usable = [folder for folder in folders.values() if len(folders) == 1 or batch.usable(folder)]
        for first in range(0, len(usable), PART):
            batch.time(usable[first : first + PART])
    return 0 if batch.all_right else 1


class TimedBatch:
    """Solutions that are timed a part at a time, each part beside the one that all are compared with."""

    def __init__(
        self, config: Config, place: Path, against: Path | None, timed: bool, as_json: bool, into: Path | None
    ) -> None:
        self._config, self._place, self._against, self._timed = config, place, against, timed
        self._json, self._into = as_json, into
        self._known = _rows(into) if into and into.is_file() else []
        self._append("")  # what cannot be written is refused before anything is timed
        self.all_right = True

    def usable(self, folder: Path) -> bool:
        """Whether a solution can be packed for the backend; of one that cannot, a line says why."""
        try:
            spec = read_spec(folder)
            require_backend(spec, str(self._config.backend), folder)
            pack(spec, self._config.definition)
        except InputError as error:
            self.all_right = False
            facts: dict[str, object] = {"solution": folder.name, "workload": self._config.workloads[0]}
            facts |= {"backend": self._config.backend, "outcome": "UNUSABLE", "detail": str(error)}
            if facts in self._known:
                say(f"{folder.name}: known already, from {self._into}")
            else:
                self._say(facts, f"{folder.name} cannot be used: {error}")
            return False
        return True

    def time(self, folders: list[Path]) -> None:
        """One part, in as many blocks as are asked for."""
        together = {folder.name: folder for folder in [*folders, *([self._against] if self._against else [])]}
        solutions = alone(together.values(), self._place / "solutions")
        chosen = {"solutions": [*together], "solutions_root": str(solutions)}
        plan = checked_plan(self._config.model_copy(update=chosen), host.probe().fingerprint)
        watch = Stopwatch(plan, self._against.name if self._against else "", self._timed, self._say)
        known = [row for row in self._known if row.get("keys") == watch.keys(row["solution"])]
        done = {row["solution"] for row in known if row["blocks"] == plan.blocks} - {watch.beside}
        self.all_right &= all(row["outcome"] == Outcome.PASSED for row in known if row["solution"] in done)
        watch.leave_out(done)
        if done:
            say(f"{', '.join(sorted(done))}: known already, from {self._into}")
        if not watch.waits:
            return
        for block in range(plan.blocks):
            tasks = [
                task for task in _tasks(plan, block, self._place, self._timed) if task.participant.name not in done
            ]
            run_block(replace(settings_of(plan, self._place, block), tell=say), tasks, watch)
        self.all_right &= not any(one.failed for one in watch.known.values())

    def _say(self, facts: dict[str, object], sentence: str) -> None:
        print(json.dumps(facts) if self._json else sentence, flush=True)
        self._append(json.dumps(facts) + "\n")

    def _append(self, text: str) -> None:
        if self._into:
            try:
                with self._into.open("a", encoding="utf-8") as file:
                    file.write(text)
            except OSError as error:
                raise unwritable(self._into, error) from error


def _rows(into: Path) -> list[dict[str, Any]]:
    """The lines of an earlier batch; a file of another kind is an InputError."""
    lines = read_bytes(into).split(b"\n")
    rows = [json_document(line, f"{into}:{number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not all(isinstance(row, dict) and {"solution", "outcome"} <= row.keys() for row in rows):
        raise InputError(
            f"--into {into}",
            found="lines that are not of `bakeoff time`",
            expected="what --into wrote, or a file that is not there yet",
            hint="give another file",
        )
    return rows


def _tasks(plan: Plan, block: int, place: Path, timed: bool) -> Iterator[Task]:
    """The solutions of a block in its order, each with its one cell; without a clock it is only verified."""
    people = {who.name: who for who in plan.participants if who.role != "reference"}
    for name in (one for one in block_order(plan, block) if one in people):
        spec = read_spec(place / "solutions" / name)
        require_backend(spec, plan.backend, Path(name))
        packed = place / f"{name}.json"
        packed.write_bytes(document(pack(spec, plan.definition)))
        cells = [cell for cell in plan.cells if cell.participant == name and cell.kind == "measure"]
        if not timed:
            cells = [cell.model_copy(update={"kind": "verify", "protocol": None}) for cell in cells]
        yield Task(people[name], packed, deque(cells))
