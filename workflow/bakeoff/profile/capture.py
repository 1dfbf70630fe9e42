"""`bakeoff profile RUN`: one process per solution and tier over all cells that are not profiled yet, read at once and kept as a summary.

Entry points: `profile_run`, `planned` (the commands, for a dry run). Writes profile/<solution>.json after every process, and the raw
captures under profile/raw/, which may be deleted. Resuming: a cell whose key is in the summary is not profiled again. A profile
never times: its figures say where time goes, and no latency is taken from it. Nothing on the host is changed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bakeoff.config import under_root
from bakeoff.errors import InputError
from bakeoff.files import PROJECT_ROOT, canonical_json, pretty_json, read_json, sha256_bytes, sha256_tree, write_atomic
from bakeoff.measure import locks
from bakeoff.measure.block import say
from bakeoff.measure.children import environment
from bakeoff.plan import Participant, Plan, read_plan
from bakeoff.profile import counters, cupti, ncu, nsys
from bakeoff.profile.check import coverage
from bakeoff.profile.child import Done, Job
from bakeoff.profile.summary import Ceilings, CellProfile, Failure, SolutionProfile, cell_profile, with_counters
from bakeoff.profile.tiers import Facts, Name, Tier, choose, gather, judge
from bakeoff.profile.timeline import Timeline, calls
from bakeoff.traces.store import TraceRoot

Say = Callable[[str], None]
WARMUPS = 3  # calls that compile, load modules and grow buffers
MARKED = {"nsys": 5, "cupti": 5, "ncu": 1}  # marked calls per cell; counters are replayed, so one call says it all
GRACE_S = 120  # for starting, and for a profiler to write its report after the last call
# Modules that decide what a cell's profile says; a change there makes it stale.
SOURCES = ("profile/capture.py", "profile/child.py", "profile/counters.py", "profile/cupti.py", "profile/ncu.py", "profile/nsys.py",
           "profile/stages.py", "profile/summary.py", "profile/timeline.py", "measure/cell.py", "measure/cuda.py", "measure/participant.py")  # fmt: skip


@dataclass(frozen=True)
class Piece:
    """One process under one profiler."""

    participant: Participant
    tier: Tier
    workloads: list[str]
    folder: Path
    output: Path
    command: list[str]
    job: Job


def profile_folder(run: Path) -> Path:
    return run / "profile"


def summary_path(run: Path, solution: str) -> Path:
    return profile_folder(run) / f"{solution}.json"


def profile_run(run: Path, solutions: Sequence[str] | None, workloads: Sequence[str] | None, requested: str | None,
                limit_s: float | None, tell: Say = say) -> int:  # fmt: skip
    """Profile what is due of a run; returns how many due cells are left (time limit) or failed."""
    begun, run = time.monotonic(), run.resolve()
    plan = read_plan(run)
    if not _wanted(plan, requested, tell):
        return 0
    facts = gather()
    tiers = judge(facts)
    chosen = choose(requested or plan.profile.tier, tiers)
    _tell_tiers(tiers, chosen, tell)
    due = _due_workloads(plan, workloads)
    left = 0
    with (
        locks.hold(profile_folder(run) / ".lock", f"the profile of {run}"),
        locks.hold(locks.gpu_lock(facts.gpu_uuid or "none"), f"GPU {facts.gpu}", tell),
    ):
        ceilings = _ceilings(run, tell)
        for who in _participants(plan, solutions):
            ledger = Ledger(run, plan, who, facts, tiers, ceilings)
            for tier in chosen:
                remaining = None if limit_s is None else limit_s - (time.monotonic() - begun)
                left += ledger.complete(tier, due, remaining, requested, tell)
    if not left:
        _write_manifest(run, plan)
    return left


def planned(
    run: Path, solutions: Sequence[str] | None, workloads: Sequence[str] | None, requested: str | None
) -> list[list[str]]:
    """The commands that `profile_run` would start now. A tier that this host lacks is shown with the tool's plain name."""
    run = run.resolve()
    plan = read_plan(run)
    tier = requested or plan.profile.tier
    if plan.backend == "cpu" or tier == "none":
        return []
    facts = gather(trial=False)
    tiers = judge(facts)
    names: list[Name] = [tier] if tier in ("nsys", "cupti") else ["nsys" if tiers["nsys"].usable else "cupti", "ncu"]  # type: ignore[list-item]
    found = []
    for who in _participants(plan, solutions):
        ledger = Ledger(run, plan, who, facts, tiers, None)
        for name in names:
            pending = ledger.pending(name, _due_workloads(plan, workloads))
            if pending:
                piece = ledger.piece(tiers[name], pending, None)
                found += [piece.command, *_after(piece)]
    return found


class Ledger:
    """The summary of one solution, and what it still lacks."""

    def __init__(
        self, run: Path, plan: Plan, who: Participant, facts: Facts, tiers: dict[Name, Tier], ceilings: Ceilings | None
    ) -> None:
        self.run, self.plan, self.who, self.facts, self.tiers, self.ceilings = run, plan, who, facts, tiers, ceilings
        self.raw = profile_folder(run) / "raw" / who.name
        self.keys = {workload.id: _key(plan, who, workload.digest) for workload in plan.workloads}
        self.cells: dict[str, CellProfile] = {}
        self.failures: dict[str, Failure] = {}
        self.missing: dict[str, str] = {name: tier.missing for name, tier in tiers.items() if tier.missing}
        self.tools: dict[str, str] = {}
        path = summary_path(run, who.name)
        if path.is_file():
            before = read_json(path, SolutionProfile)
            self.cells = {cell.workload: cell for cell in before.cells if cell.key == self.keys.get(cell.workload)}
            self.tools = dict(before.tools)
            self.ceilings = self.ceilings or before.ceilings

    def pending(self, tier: Name, due: Sequence[str]) -> list[str]:
        """Workloads that this tier still owes. Counters are taken for cells that have a timeline, or will have one by then."""
        if tier == "ncu":
            return [name for name in due if name not in self.cells or self.cells[name].counters is None]
        return [name for name in due if name not in self.cells or self.cells[name].tier != tier]

    def complete(
        self, tier: Tier, due: Sequence[str], remaining_s: float | None, requested: str | None, tell: Say
    ) -> int:
        """Run what is pending of one tier; returns how many cells it still owes afterwards."""
        pending = self.pending(tier.name, due)
        if tier.name == "ncu":
            pending = [name for name in pending if name in self.cells]
        if not pending:
            return 0
        if remaining_s is not None and remaining_s <= 0:
            tell(f"profile  {self.who.name}  {tier.name}: {len(pending)} cells left for the next call (time limit)")
            return len(pending)
        piece = self.piece(tier, pending, remaining_s)
        tell(f"profile  {self.who.name}  {tier.name}: {len(pending)} cells in one process")
        begun = time.monotonic()
        self._run(piece)
        try:
            self._read(piece)
        except InputError as error:
            if tier.name == "ncu" and requested == "ncu":
                raise
            tell(f"profile  {self.who.name}  {tier.name}: {error}")
            self._lost(tier, pending, error)
        self.write()
        owed = [name for name in pending if name in self.pending(tier.name, due) and name not in self.failures]
        owed = owed if tier.name not in self.missing else []
        tell(
            f"profile  {self.who.name}  {tier.name}: {len(pending) - len(owed)} cells in {time.monotonic() - begun:.0f} s"
        )
        return len(owed)

    def piece(self, tier: Tier, workloads: list[str], remaining_s: float | None) -> Piece:
        """The next process: its job and its command line."""
        number = len(list(self.raw.glob(f"{tier.name}-*")))
        folder = self.raw / f"{tier.name}-{number:02d}"
        root = TraceRoot(under_root(self.plan.traces_root))
        dataset = (
            self.plan.dataset if self.plan.dataset == "synthetic" else str(under_root(self.plan.dataset).resolve())
        )
        output = folder / {"nsys": "timeline.sqlite", "cupti": "records.jsonl", "ncu": "counters.csv"}[tier.name]
        job = Job(
            tier=tier.name, participant=self.who.name, solution=str(self.run / str(self.who.build)), scratch=str(folder / "scratch"),
            cache=str(self.run / "cache" / self.who.name), backend=self.plan.backend, gpu=self.facts.gpu or "unknown", threads=self.plan.threads,
            traces_root=str(root.path.resolve()), definition=self.plan.definition,
            definition_path=str(root.definition_path(self.plan.definition).resolve()),
            dataset=dataset, family=self.plan.families[0], seed=self.plan.seeds[0], workloads=workloads, warmups=WARMUPS,
            calls=MARKED[tier.name], deadline_s=remaining_s, output=str(output), progress=str(folder / "progress.jsonl"),
        )  # fmt: skip
        child = [sys.executable, "-P", "-m", "bakeoff.profile.child", str(folder / "job.json")]
        path, stem = tier.path or tier.name, output.with_suffix("")
        if tier.name == "nsys":
            child = nsys.capture_command(path, stem, child)
        elif tier.name == "ncu":
            child = ncu.capture_command(path, stem, list(self._metrics(path).values()), child)
        return Piece(self.who, tier, workloads, folder, output, child, job)

    def write(self) -> None:
        """Write the summary: cells in the run's order, those of an older key left out."""
        order = [workload.id for workload in self.plan.workloads]
        document = SolutionProfile(
            solution=self.who.name, digest=self.who.digest, backend=self.plan.backend, gpu=self.facts.gpu or "unknown",
            tools=dict(sorted(self.tools.items())), tiers_missing=dict(sorted(self.missing.items())), ceilings=self.ceilings,
            cells=[self.cells[name] for name in order if name in self.cells],
            failures=[self.failures[name] for name in order if name in self.failures and name not in self.cells],
        )  # fmt: skip
        write_atomic(
            summary_path(self.run, self.who.name), pretty_json(document.model_dump(mode="json", by_alias=True))
        )

    def _metrics(self, path: str) -> dict[str, str]:
        """The metrics to ask for: those of the chip, as far as this ncu knows them."""
        asked = counters.wanted(self.plan.backend)
        try:
            command = ncu.query_command(path, counters.CHIPS[self.plan.backend])
            listing = subprocess.run(command, capture_output=True, text=True, timeout=GRACE_S, check=False).stdout
        except (OSError, subprocess.TimeoutExpired):
            return asked
        return counters.supported(asked, listing) if counters.available(listing) else asked

    def _run(self, piece: Piece) -> None:
        """Run the process and wait; its own end is no error here: what it left behind is read, and that decides."""
        for folder in (Path(piece.job.scratch), Path(piece.job.cache)):
            folder.mkdir(parents=True, exist_ok=True)
        write_atomic(piece.folder / "job.json", pretty_json(piece.job.model_dump(mode="json")))
        scratch, cache = Path(piece.job.scratch), Path(piece.job.cache)
        limit = None if piece.job.deadline_s is None else piece.job.deadline_s + self.plan.timeout_s + GRACE_S
        with (piece.folder / "log").open("ab") as log:
            variables = environment(self.plan.threads, scratch, cache, self.facts.gpu_uuid)
            # The profilers put sockets there, whose paths must be short.
            variables["TMPDIR"] = tempfile.gettempdir()
            _call(piece.command, variables, piece.folder, log.fileno(), limit)
            captured = Path(piece.job.progress).is_file()
            for command in _after(piece) if captured else []:
                target = None if piece.tier.name == "nsys" else piece.output
                _call(command, variables, piece.folder, log.fileno(), GRACE_S + self.plan.timeout_s, target)

    def _read(self, piece: Piece) -> None:
        """Take the piece's result into the summary."""
        progress = Path(piece.job.progress)
        lines = (
            [Done.model_validate_json(line) for line in progress.read_text().splitlines()] if progress.is_file() else []
        )
        failed = {line.workload: line.failed for line in lines if line.failed}
        done = [line.workload for line in lines if not line.failed]
        if not lines:
            self._nothing_done(piece)
        if piece.tier.name == "ncu":
            self._read_counters(piece, done)
        elif done:
            timeline = nsys.read(piece.output) if piece.tier.name == "nsys" else cupti.read(piece.output)
            self._take(piece.tier.name, timeline, done)
        for name, reason in failed.items():
            self.failures[name] = Failure(workload=name, reason=str(reason).strip())
        self.tools[piece.tier.name] = piece.tier.version or "unknown"

    def _nothing_done(self, piece: Piece) -> None:
        """A process that did not get through one workload: say what its log says."""
        log = (piece.folder / "log").read_text(errors="replace")
        denied = ncu.refusal(log) if piece.tier.name == "ncu" else None
        last = [line.strip() for line in log.splitlines() if line.strip() and not line.startswith("$ ")][-1:]
        raise InputError(
            piece.folder / "log", found=denied or f"no workload was profiled; the last line is: {''.join(last)}",
            expected="a profiled workload", hint="read the log; `bakeoff check SOLUTION` runs the solution without a profiler",
        )  # fmt: skip

    def _take(self, tier: Name, timeline: Timeline, done: Sequence[str]) -> None:
        found = calls(timeline)
        for name in done:
            mine = [call for call in found if call.mark.workload == name]
            cell = cell_profile(name, self.keys[name], tier, mine, self.who.stages)  # type: ignore[arg-type]
            if cell is None:
                self.failures[name] = Failure(workload=name, reason="its calls started no work on the GPU")
                continue
            before = self.cells.get(name)
            kept = {"counters": before.counters, "counters_missing": before.counters_missing} if before else {}
            self.cells[name] = cell.model_copy(update=kept)
            self.failures.pop(name, None)

    def _read_counters(self, piece: Piece, done: Sequence[str]) -> None:
        denied = ncu.refusal((piece.folder / "log").read_text(errors="replace"))
        if denied:
            raise InputError(
                piece.folder / "log",
                denied,
                "permission to read performance counters",
                self.tiers["ncu"].fix or "run as root",
            )
        asked = counters.wanted(self.plan.backend)
        report = piece.output.with_suffix(".ncu-rep")
        counted = ncu.read_csv(piece.output, asked) if piece.output.is_file() else ncu.read_report(report, asked)
        for name in done:
            mine = [kernel for kernel in counted if kernel.workload == name]
            if mine:
                lacking = [ours for ours in asked if all(kernel.metrics[ours] is None for kernel in mine)]
                self.cells[name] = with_counters(self.cells[name], mine, self.who.stages, lacking)

    def _lost(self, tier: Tier, workloads: Sequence[str], error: InputError) -> None:
        """A process gave nothing that can be read: its cells are failures, or lack their counters; other solutions go on."""
        if tier.name == "ncu":
            self.missing["ncu"] = error.found
            for name in workloads:
                self.cells[name] = self.cells[name].model_copy(update={"counters_missing": error.found})
        else:
            self.failures |= {
                name: Failure(workload=name, reason=f"{error.where}: {error.found}") for name in workloads
            }


def _after(piece: Piece) -> list[list[str]]:
    """What turns the profiler's own report into the file that is read."""
    path, stem = piece.tier.path or piece.tier.name, piece.output.with_suffix("")
    if piece.tier.name == "nsys":
        return [nsys.export_command(path, stem.with_suffix(".nsys-rep"), piece.output)]
    return [ncu.csv_command(path, stem.with_suffix(".ncu-rep"))] if piece.tier.name == "ncu" else []


def _call(
    command: list[str],
    variables: dict[str, str],
    folder: Path,
    log: int,
    limit_s: float | None,
    output: Path | None = None,
) -> None:
    """Run a command with all that it starts in one process group, which is ended at the limit."""
    os.write(log, (f"$ {' '.join(command)}\n").encode())
    with output.open("wb") if output else os.fdopen(os.dup(log), "ab") as target:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=target,
            stderr=log,
            start_new_session=True,
        )
        try:
            process.wait(limit_s)
        except BaseException as error:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            os.write(log, f"ended after {limit_s:.0f} s\n".encode())


def _write_manifest(run: Path, plan: Plan) -> None:
    """Close the profile: written if every due cell of every solution is profiled or has failed."""
    profiled, failed, due = coverage(run, plan)
    if profiled + failed == due:
        document = {"schema": "bakeoff/profiled/1", "due": due, "profiled": profiled, "failed": failed}
        write_atomic(profile_folder(run) / "manifest.json", pretty_json(document))


def _wanted(plan: Plan, requested: str | None, tell: Say) -> bool:
    if plan.backend == "cpu":
        tell("profile  nothing to do: the cpu backend has no GPU time to explain")
        return False
    if (requested or plan.profile.tier) == "none":
        tell("profile  nothing to do: the configuration says `profile: {tier: none}`")
        return False
    return True


def _participants(plan: Plan, names: Sequence[str] | None) -> list[Participant]:
    """The solutions to profile, in the run's order; the reference is not one of them."""
    there = {who.name: who for who in plan.participants if who.role != "reference"}
    unknown = [name for name in names or [] if name not in there]
    if unknown:
        raise InputError(
            "option --solution", ", ".join(unknown), f"solutions of this run: {', '.join(there)}", "correct the name"
        )
    return [who for who in there.values() if who.supported and (not names or who.name in names)]


def _due_workloads(plan: Plan, names: Sequence[str] | None) -> list[str]:
    there = [workload.id for workload in plan.workloads]
    asked = list(names) if names else there if plan.profile.cells == "all" else list(plan.profile.cells)
    unknown = [name for name in asked if name not in there]
    if unknown:
        where = "option --workload" if names else "config: profile.cells"
        raise InputError(where, ", ".join(unknown), f"workloads of this run: {', '.join(there)}", "correct the name")
    return [name for name in there if name in asked]


def _key(plan: Plan, who: Participant, workload_digest: str) -> str:
    package = PROJECT_ROOT / "workflow" / "bakeoff"
    files = [package / name for name in SOURCES if (package / name).is_file()]
    return sha256_bytes(canonical_json({
        "participant": who.digest, "stages": [rule.model_dump() for rule in who.stages], "workload": workload_digest,
        "backend": plan.backend, "definition": plan.definition, "family": plan.families[0], "seed": plan.seeds[0],
        "host": plan.host_fingerprint, "image": plan.image, "profiler": sha256_tree(package, files),
    }))  # fmt: skip


def _ceilings(run: Path, tell: Say) -> Ceilings | None:
    """What this GPU reaches, measured once per run; None (with a notice) if that fails, which no profile waits for."""
    path = profile_folder(run) / "ceilings.json"
    if not path.is_file():
        tell("profile  measuring ceilings: copy bandwidth, FP8 matrix rate, launch cost")
        command = [sys.executable, "-m", "bakeoff.profile.ceilings", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=GRACE_S * 2, check=False)
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:]
            tell(f"profile  no ceilings: {''.join(last)}")
            return None
    return read_json(path, Ceilings)


def _tell_tiers(tiers: dict[Name, Tier], chosen: Sequence[Tier], tell: Say) -> None:
    for tier in tiers.values():
        use = "used" if tier in chosen else "not asked for"
        tell(
            f"profile  {tier.name:<5} "
            + (f"{use} ({tier.version})" if tier.usable else f"missing: {tier.missing}; to have it: {tier.fix}")
        )
