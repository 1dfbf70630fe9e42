"""`bakeoff profile RUN`: one process per solution and tier over all cells that are not profiled yet, read at once and
kept as a summary.

Entry points: `profile_run`, `planned` (the commands, for a dry run). Writes profile/<solution>.json after every
process, the raw captures under profile/raw/, which may be deleted, and profile/manifest.json when nothing is owed.
Resuming: a cell whose key is in the summary is not profiled again. A profile never times: its figures say where time
goes, and no latency is taken from it. Nothing on the host is changed.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bakeoff import locks
from bakeoff.errors import InputError
from bakeoff.files import pretty_json, read_json, write_atomic
from bakeoff.planned import read_plan
from bakeoff.profile import due
from bakeoff.profile.collect import Collection
from bakeoff.profile.process import GRACE_S, Target, commands, make_piece, run_piece
from bakeoff.profile.tiers import HOST, Name, Tier, choose, gather, offered, wanted
from bakeoff.runs.block_run import say
from bakeoff.schema.plan import Plan
from bakeoff.schema.profile import Ceilings

Say = Callable[[str], None]


def profile_run(
    run: Path,
    solutions: Sequence[str] | None,
    workloads: Sequence[str] | None,
    requested: str | None,
    limit_s: float | None,
    tell: Say = say,
) -> int:
    """Profile what is due of a run; returns how many cells are left for the next call (time limit). None stands for
    all, or for what the run's configuration says."""
    deadline = None if limit_s is None else time.monotonic() + limit_s
    run = run.resolve()
    plan = read_plan(run)
    if not due.wanted(plan, requested):
        why = "the cpu backend has no GPU time to explain" if plan.backend == "cpu" else "the configuration says `none`"
        tell(f"profile  nothing to do: {why}")
        return 0
    chosen_solutions, names = due.solutions(plan, solutions), due.workloads(plan, workloads)
    facts = gather()
    tiers = offered(facts)
    chosen = choose(requested or plan.profile.tier, tiers)
    _tell_tiers(tiers, chosen, tell)
    left = 0
    with (
        locks.hold(run / "profile" / ".lock", f"the profile of {run}", tell),
        locks.hold_gpu(facts.gpu_uuid or "none", f"GPU {facts.gpu}", tell),
    ):
        ceilings = _ceilings(run, tell)
        for who in chosen_solutions:
            collection = Collection(Target(run, plan, who, facts), tiers, ceilings)
            tasks = (_complete(collection, tier, names, deadline, requested, tell) for tier in (HOST, *chosen))
            left += max(tasks)
    if not left:
        _write_manifest(run, plan)
    return left


def planned(
    run: Path, solutions: Sequence[str] | None, workloads: Sequence[str] | None, requested: str | None, tell: Say = say
) -> list[list[str]]:
    """The commands that `profile_run` would start if all goes well; which tiers this host has is told. A tool that it
    lacks is shown by its plain name."""
    run = run.resolve()
    plan = read_plan(run)
    if not due.wanted(plan, requested):
        return []
    facts = gather(trial=False)
    tiers = offered(facts)
    names = wanted(requested or plan.profile.tier, tiers, counters=True)
    _tell_tiers(tiers, [tiers[name] for name in names], tell)
    asked, found = due.workloads(plan, workloads), []
    for who in due.solutions(plan, solutions):
        collection = Collection(Target(run, plan, who, facts), tiers, None)
        new = collection.pending(names[0], asked)
        for tier in (HOST, *(tiers[name] for name in names)):
            after = new if tier.name == "ncu" else []  # counters are owed once there is a timeline
            pending = [name for name in asked if name in after or name in collection.pending(tier.name, asked)]
            if pending:
                found += commands(make_piece(collection.target, tier, pending, None))
    return found


def _complete(
    collection: Collection,
    tier: Tier,
    names: Sequence[str],
    deadline: float | None,
    requested: str | None,
    tell: Say,
) -> int:
    """Run what one tier owes for one solution; returns how many cells are left when time is up. A process that dies
    costs the cell it was at: the rest goes on in a new one."""
    target = collection.target
    head, pending = f"profile  {target.who.name}  {tier.name}", collection.pending(tier.name, names)
    while pending:
        remaining_s = None if deadline is None else deadline - time.monotonic()
        if remaining_s is not None and remaining_s <= 0:
            tell(f"{head}: {len(pending)} cells left for the next call (time limit)")
            return len(pending)
        tell(f"{head}: {len(pending)} cells in one process")
        begun = time.monotonic()
        piece = make_piece(target, tier, pending, remaining_s)
        run_piece(piece, target.plan.timeout_s, target.facts.gpu_uuid)
        try:
            collection.take(piece)
        except InputError as error:
            if tier.name == "ncu" and requested == "ncu":
                raise
            tell(f"{head}: {error}")
        finally:
            collection.write()
        after = collection.pending(tier.name, names)
        tell(f"{head}: {len(pending) - len(after)} cells settled in {time.monotonic() - begun:.0f} s")
        if len(after) == len(pending) and deadline is None:
            raise InputError(piece.log, "a process that neither did nor failed any cell", "progress", "read the log")
        pending = after
    return 0


def _write_manifest(run: Path, plan: Plan) -> None:
    """Close the profile: written if every due cell of every solution is profiled or has failed."""
    covered = due.coverage(plan, due.documents(run, plan))
    profiled, failed = sum(one.profiled for one in covered), sum(len(one.failures) for one in covered)
    asked = sum(one.due for one in covered)
    if profiled + failed == asked:
        document = {"schema": "bakeoff/profiled/1", "due": asked, "profiled": profiled, "failed": failed}
        write_atomic(run / "profile" / "manifest.json", pretty_json(document))


def _ceilings(run: Path, tell: Say) -> Ceilings | None:
    """What this GPU reaches, measured once per run; None (with a notice) if that fails, which no profile waits for."""
    path = run / "profile" / "ceilings.json"
    if not path.is_file():
        tell("profile  measuring ceilings: copy bandwidth, FP8 matrix rate, launch cost")
        command = [sys.executable, "-m", "bakeoff.profile.ceilings", str(path)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=GRACE_S, check=False)
        except subprocess.TimeoutExpired:
            tell(f"profile  no ceilings: not done after {GRACE_S} s")
            return None
        if done.returncode:
            tell(f"profile  no ceilings: {''.join(done.stderr.strip().splitlines()[-1:])}")
            return None
    return read_json(path, Ceilings)


def _tell_tiers(tiers: dict[Name, Tier], chosen: Sequence[Tier], tell: Say) -> None:
    for tier in tiers.values():
        use = "used" if tier in chosen else "not asked for"
        state = f"{use} ({tier.version})" if tier.usable else f"missing: {tier.missing}; to have it: {tier.fix}"
        tell(f"profile  {tier.name:<5} {state}")
