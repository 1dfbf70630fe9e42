"""`bakeoff time NAME…`: right or wrong on one workload, and how long it takes beside another solution, within a minute.

Entry point: `time_solutions` (the verb). Solutions run as in a run: packed, confined, judged outside, in blocks of
fresh processes in random order. The few blocks give a range and no verdict; nothing is kept but compilers' caches.
"""

import argparse
import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import geometric_mean

from bakeoff import host, locks
from bakeoff.build.names import solution_folder, workload_id
from bakeoff.build.pack import pack
from bakeoff.build.spec import read_spec, require_backend
from bakeoff.config import Config, resolve, under_root
from bakeoff.core.device.opening import double
from bakeoff.core.protocols import per_process_latency, primary_tier
from bakeoff.files import validate
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

WORKLOAD = "T901_o96"
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

    def __init__(self, plan: Plan, against: str, timed: bool, as_json: bool) -> None:
        self.plan, self._timed, self._json = plan, timed, as_json
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
            print(
                json.dumps(self._facts(self.known[name])) if self._json else self._sentence(self.known[name]),
                flush=True,
            )

    def tampered(self) -> None:
        return None

    def _facts(self, one: Timed) -> dict[str, object]:
        ratios = one.over(self.against) if self.against else []
        return {
            **{"solution": one.solution, "workload": self.plan.workloads[0].id, "backend": self.plan.backend},
            **{"outcome": str(one.failed.outcome if one.failed else Outcome.PASSED), "us": list(one.us.values())},
            **{"against": self.against.solution if self.against else None, "blocks": self.plan.blocks},
            **{
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
    """Time the named solutions; returns 0 if each is right, else 1."""
    root = under_root("solutions")
    folders = {folder.name: folder for name in args.solutions for folder in [solution_folder(name, root)]}
    against = solution_folder(args.against, root) if args.against else None
    if against:
        folders[against.name] = against
    config = resolve(
        validate({"backend": args.backend, "families": ["fib"], "protocols": ["robust"]}, Config, "options")
    )
    cases = TraceRoot(under_root(config.traces_root)).workloads(config.definition, further=True)
    workload = workload_id(args.workload, [case.id for case in cases])
    timed = config.backend != "cpu" or double() is not None
    place = under_root(".cache/time")
    with locks.hold(place / ".lock", "bakeoff time of this checkout", say):
        solutions = alone(folders.values(), place / "solutions")
        chosen = {"solutions": [*folders], "solutions_root": str(solutions), "workloads": [workload]}
        blocks = args.blocks if timed else 1
        plan = checked_plan(config.model_copy(update={**chosen, "blocks": blocks}), host.probe().fingerprint)
        if not timed:
            say(
                f"no GPU that the solutions run on: the {plan.backend} backend tells right from wrong, "
                "not how long it takes"
            )
        watch = Stopwatch(plan, against.name if against else "", timed, args.json)
        for block in range(plan.blocks):
            run_block(replace(settings_of(plan, place, block), tell=say), [*_tasks(plan, block, place, timed)], watch)
    return 1 if any(one.failed for one in watch.known.values()) else 0


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
