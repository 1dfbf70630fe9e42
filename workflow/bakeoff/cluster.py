"""A Slurm cluster, as its own commands describe it: whether it can ever run what is about to be submitted.

Entry points: `require_possible` and `hold_run`, before the first job, and `hint`, what to do about a job's end. Slurm
leaves a job that no node can run in its queue, or refuses it with a word; here the mistake is named, with what there is
instead.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from bakeoff import locks
from bakeoff.errors import InputError

DOCUMENT = "docs/cluster.md"
# Slurm's word for how a job ended: what to do.
HINTS = {
    "TIMEOUT": "its time was up; finished cells are kept: raise the step's `runtime` in profiles/slurm, then the same "
    "command",
    "OUT_OF_MEMORY": "raise the step's `mem_mb` in profiles/slurm, then the same command",
    "NODE_FAIL": "the node is gone; finished cells are kept: the same command again",
    "CANCELLED": "somebody cancelled it; finished cells are kept: the same command again",
    "PREEMPTED": "Slurm took the node for another job; finished cells are kept: the same command again",
    "FAILED": "the reason stands at the end of its log",
}
_GONE = re.compile(r"down|drain|drng|fail|maint|inval|reboot|power", re.IGNORECASE)


@dataclass(frozen=True)
class Asked:
    """What the jobs of a step ask for; `mem_mb` in MB, `runtime` in minutes, 0 for the cluster's own default."""

    step: str
    partition: str | None = None
    constraint: str = ""
    gpu: int = 0
    gpu_model: str | None = None
    mem_mb: int = 0
    runtime: int = 0


@dataclass(frozen=True)
class Node:
    """A node in one of its partitions, a line of `sinfo`."""

    partition: str
    is_default: bool
    name: str
    state: str
    features: frozenset[str]
    gpus: dict[str, int] = field(hash=False)  # model (empty where the cluster names none): how many
    mem_mb: int
    limit: int | None  # minutes; None without a limit

    @classmethod
    def of(cls, line: str) -> Node:
        """A line as `sinfo --format FORMAT` prints it."""
        partition, name, state, features, gres, memory, limit = line.split("|")
        gpus: dict[str, int] = {}
        for model, count in re.findall(r"\bgpu(?::([^:,()\s]+(?=:)))?:(\d+)", gres):
            gpus[model] = gpus.get(model, 0) + int(count)
        return cls(
            partition.rstrip("*"),
            partition.endswith("*"),
            name,
            state,
            frozenset(features.split(",")) - {"(null)", ""},
            gpus,
            int(re.sub(r"\D", "", memory) or 0),
            _minutes(limit),
        )


FORMAT = "%P|%N|%T|%f|%G|%m|%l"


def require_possible(asked: Iterable[Asked]) -> list[str]:
    """InputError for what no node of this cluster could ever run; a sentence for each step whose nodes are all out of
    service now."""
    nodes = _nodes()
    return [said for one in dict.fromkeys(asked) for said in _possible(one, nodes)]


def hold_run(run: Path) -> AbstractContextManager[None]:
    """Hold a run's folder against a second Snakemake for it, which is an InputError there and names this one."""

    def refuse(said: str) -> NoReturn:
        raise InputError(
            run,
            found=said.removeprefix("waiting for "),
            expected="one Snakemake for a run",
            hint="wait for it, or end it (its jobs too: `squeue --me`); or give this run another name: "
            "--config run=NAME",
        )

    return locks.hold(run / ".lock", f"the run {run.name}", refuse)


def hint(message: str) -> str | None:
    """What to do about a job that ended as the message says; None where it tells of no job's end."""
    found = re.search(r"SLURM status is: '(\w+)", message)
    return HINTS.get(found.group(1), f"see {DOCUMENT}") if found else None


def _nodes() -> list[Node]:
    try:
        said = subprocess.run(["sinfo", "-h", "-N", "-o", FORMAT], capture_output=True, text=True, timeout=60)
        problem = said.stderr.strip().splitlines()[-1:] if said.returncode else []
    except (OSError, subprocess.TimeoutExpired) as error:
        said, problem = None, [str(error)]
    if said is None or problem or not said.stdout.strip():
        raise InputError(
            "Slurm",
            found=f"sinfo does not answer: {problem[0]}" if problem else "sinfo names no node",
            expected="a login node of a Slurm cluster whose controller runs",
            hint=f"log in where `sinfo` lists the nodes, or run without `--profile profiles/slurm` ({DOCUMENT})",
        )
    return [Node.of(line) for line in said.stdout.splitlines()]


def _possible(asked: Asked, nodes: list[Node]) -> list[str]:
    """Narrow the nodes down, condition by condition; the first that leaves none is the mistake."""
    if asked.partition:
        left = [node for node in nodes if node.partition == asked.partition]
    else:
        left = [node for node in nodes if node.is_default] or nodes
    _require(asked, "slurm_partition", asked.partition, left, {node.partition for node in nodes})
    there = {model for node in left for model in node.gpus if model}
    if asked.gpu_model:
        left = [node for node in left if asked.gpu_model in node.gpus]
        _require(asked, "gpu_model", asked.gpu_model, left, there)
    if asked.gpu:
        left = [node for node in left if sum(node.gpus.values()) >= asked.gpu]
        _require(asked, "gpu", asked.gpu, left, {f"a node with {asked.gpu} GPU"})
    words = set(re.findall(r"[A-Za-z_][\w.:-]*", asked.constraint))
    known = {feature for node in left for feature in node.features}
    if unknown := sorted(words - known):
        _require(asked, "constraint", ", ".join(unknown), [], known)
    if not re.search(r"[|!(\[]", asked.constraint):
        left = [node for node in left if words <= node.features]
        _require(asked, "constraint", asked.constraint, left, {"features that one node has together"})
    most = max(node.mem_mb for node in left)
    left = [node for node in left if node.mem_mb >= asked.mem_mb]
    _require(asked, "mem_mb", asked.mem_mb, left, {f"at most {most}"})
    longest = max((node.limit or 0) for node in left)
    left = [node for node in left if node.limit is None or node.limit >= asked.runtime]
    _require(asked, "runtime", asked.runtime, left, {f"at most {longest} minutes"})
    if all(_GONE.search(node.state) for node in left):
        states = ", ".join(sorted({f"{node.name} {node.state}" for node in left}))
        return [f"{asked.step} waits until a node that it can run on is in service again: {states}"]
    return []


def _require(asked: Asked, key: str, value: object, left: list[Node], there: set[str]) -> None:
    if not left:
        raise InputError(
            f"step {asked.step}: {key}",
            found=f"{value}, which no node has",
            expected=f"what this cluster has: {', '.join(sorted(there)) or 'nothing of the kind'}",
            hint="correct it in profiles/slurm/profile.yaml, or in a copy of that folder for --profile; "
            f"`sinfo -N -o '{FORMAT}'` lists the nodes",
        )


def _minutes(limit: str) -> int | None:
    """Slurm's days-hours:minutes:seconds as minutes; None for `infinite`."""
    days, _, rest = limit.rpartition("-")
    parts = rest.split(":")
    if not all(part.isdigit() for part in parts):
        return None
    hours, minutes = ([0, *map(int, parts[:-1])] if len(parts) < 3 else [*map(int, parts[:2])])[-2:]
    return (int(days or 0) * 24 + hours) * 60 + minutes
