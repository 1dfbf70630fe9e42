"""One process under one profiler: its job, its command lines, running it, and what it left behind.

Entry points: `make_piece`, `commands` (all command lines of a piece, for a dry run), `run_piece`, `progress`. Side
effects: the piece's folder with job.json, log and captures.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bakeoff.core.environment import environment
from bakeoff.errors import InputError
from bakeoff.files import model_json, write_atomic
from bakeoff.planned import packed_solution, problem_of
from bakeoff.processes.groups import group
from bakeoff.profile import ncu, nsys
from bakeoff.profile.child import MARKED, Job, ProfiledCall
from bakeoff.profile.tiers import Facts, Tier
from bakeoff.schema.plan import Participant, Plan

GRACE_S = 120  # for starting, and for a profiler to write its report after the last call
CAPTURES = {"host": "progress.jsonl", "nsys": "timeline.sqlite", "cupti": "records.jsonl", "ncu": "counters.csv"}


@dataclass(frozen=True)
class Target:
    """What is profiled: a solution of a run on this host."""

    run: Path
    plan: Plan
    who: Participant
    facts: Facts


@dataclass(frozen=True)
class Piece:
    """One process: what it profiles with which tier, and where it writes."""

    tier: Tier
    job: Job
    folder: Path

    @property
    def tool(self) -> str:
        return self.tier.path or self.tier.name

    @property
    def capture(self) -> Path:
        """The file that is read."""
        return self.job.output

    @property
    def report(self) -> Path:
        """The file of nsys or ncu that the capture is made from."""
        return self.capture.with_suffix(f".{self.tier.name}-rep")

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def said(self) -> str:
        return self.log.read_text(errors="replace") if self.log.is_file() else ""

    def denial(self) -> str | None:
        """What the log says of counters that are not permitted."""
        return ncu.refusal(self.said()) if self.tier.name == "ncu" else None

    def last_line(self) -> str:
        lines = [line.strip() for line in self.said().splitlines() if line.strip() and not line.startswith("$ ")]
        return lines[-1] if lines else "(nothing)"


@dataclass(frozen=True)
class PieceProgress:
    """What a process says that it did."""

    done: list[str]
    failed: dict[str, str]
    host_us: dict[str, list[float]]
    """Host times of the calls of each workload that is done, for the tier host."""
    ended: bool
    """Whether it came to its end; otherwise it died, or was ended, in the workload after the last one here."""


def make_piece(of: Target, tier: Tier, workloads: Sequence[str], remaining_s: float | None) -> Piece:
    """The next piece of a solution and tier; folders are numbered."""
    raw = of.run / "profile" / "raw" / of.who.name
    folder = raw / f"{tier.name}-{len(list(raw.glob(f'{tier.name}-*'))):02d}"
    solution, scratch = packed_solution(of.run, of.plan, of.who), folder / "scratch"
    job = Job(
        tier=tier.name,
        worker=problem_of(of.plan) | {"participant": of.who.name, "solution": solution, "scratch": scratch},
        cache=of.run / "cache" / of.who.name,
        gpu=of.facts.gpu or "unknown",
        family=of.plan.families[0],
        seed=of.plan.seeds[0],
        workloads=list(workloads),
        calls=MARKED[tier.name],
        deadline_s=remaining_s,
        output=folder / CAPTURES[tier.name],
        progress=folder / "progress.jsonl",
    )
    return Piece(tier, job, folder)


def commands(piece: Piece) -> list[list[str]]:
    """The capture, then what turns the profiler's own report into the file that is read."""
    child = [sys.executable, "-P", "-m", "bakeoff.profile.child", str(piece.folder / "job.json")]
    stem = piece.capture.with_suffix("")
    if piece.tier.name == "nsys":
        return [
            nsys.capture_command(piece.tool, stem, child),
            nsys.export_command(piece.tool, piece.report, piece.capture),
        ]
    if piece.tier.name == "ncu":
        metrics = list(metrics_of(piece.tool, piece.job.worker["backend"]).values())
        return [ncu.capture_command(piece.tool, stem, metrics, child), ncu.csv_command(piece.tool, piece.report)]
    return [child]


def metrics_of(tool: str, backend: str) -> dict[str, str]:
    """The metrics to ask for: those of the chip, as far as this ncu knows them."""
    asked = ncu.wanted(backend)
    try:
        command = ncu.query_command(tool, ncu.CHIPS[backend])
        listing = subprocess.run(command, capture_output=True, text=True, timeout=GRACE_S, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return asked
    return ncu.supported(asked, listing) if ncu.available(listing) else asked


def run_piece(piece: Piece, timeout_s: int, gpu_uuid: str | None) -> None:
    """Run a piece and wait. How its processes end is no error here: what they left behind is read, and that decides."""
    job, scratch = piece.job, piece.job.worker["scratch"]
    for folder in (scratch, job.cache):
        folder.mkdir(parents=True, exist_ok=True)
    write_atomic(piece.folder / "job.json", model_json(job))
    variables = environment(job.worker["threads"], scratch, job.cache, gpu_uuid)
    # The profilers put sockets there, whose paths must be short.
    variables["TMPDIR"] = tempfile.gettempdir()
    cells_s = len(job.workloads) * timeout_s if job.deadline_s is None else job.deadline_s + timeout_s
    capture, *exports = commands(piece)
    with piece.log.open("ab") as log:
        _call(capture, variables, piece.folder, log.fileno(), cells_s + GRACE_S, None)
        for command in exports if job.progress.is_file() else []:
            target = piece.capture if piece.tier.name == "ncu" else None
            _call(command, {**variables, **ncu.LOCALE}, piece.folder, log.fileno(), timeout_s + GRACE_S, target)


def progress(piece: Piece) -> PieceProgress:
    """What the process wrote about itself; one that did nothing is an InputError with the end of its log."""
    path = piece.job.progress
    if not path.is_file():  # it is opened once the solution is loaded
        raise InputError(
            piece.log,
            found=piece.denial() or f"no workload was profiled; the log ends with: {piece.last_line()}",
            expected="a profiled workload",
            hint="read the log; `bakeoff check SOLUTION` runs the solution without a profiler",
        )
    lines = [ProfiledCall.model_validate_json(line) for line in path.read_text().splitlines()]
    cells = {line.workload: line for line in lines if line.workload is not None}
    done = [name for name, line in cells.items() if line.failed is None]
    failed = {name: line.failed.strip() for name, line in cells.items() if line.failed is not None}
    host_us = {name: line.host_us for name, line in cells.items() if line.host_us}
    ended = len(cells) < len(lines)
    # After a failure it may have stopped by itself: a poisoned context.
    if not ended and not (cells and lines[-1].failed):
        rest = next((name for name in piece.job.workloads if name not in cells), None)
        if rest is not None:
            failed[rest] = f"the process ended during it; the log ends with: {piece.last_line()}"
    return PieceProgress(done, failed, host_us, ended)


def _call(
    command: list[str], variables: dict[str, str], folder: Path, log: int, limit_s: float, output: Path | None
) -> None:
    """Run a command until its end or the limit. Output goes to a file or the log."""
    os.write(log, f"$ {' '.join(command)}\n".encode())
    streams = {"stdin": subprocess.DEVNULL, "stderr": log}
    with (
        output.open("wb") if output else os.fdopen(os.dup(log), "ab") as target,
        group(command, cwd=folder, env=variables, stdout=target, **streams) as process,
    ):
        try:
            process.wait(limit_s)
        except subprocess.TimeoutExpired:
            os.write(log, f"ended after {limit_s:.0f} s\n".encode())
