"""A run's config.json: the plan as it is read back, and what follows from it.

Entry points: `read_plan`, `readable` and `no_run`; `block_order` and `block_cells`, in which a block runs; `problem_of`
and `packed_solution`, which its processes are given.
"""

from pathlib import Path
from typing import Any

from bakeoff.config import under_root
from bakeoff.core import protocols
from bakeoff.core.loader import digest
from bakeoff.errors import InputError
from bakeoff.files import canonical_json, parse_json, read_bytes, read_json, sha256_bytes, strict_json
from bakeoff.schema.plan import Participant, Plan, PlannedCell
from bakeoff.traces.models import Solution

SCHEMA = "bakeoff/plan/1"


def readable(run: Path) -> bool:
    """Whether a run's folder is of this version, as far as its config.json says; a published one has none and is."""
    path = run / "config.json"
    return not path.is_file() or _version(path) == SCHEMA


def _version(path: Path) -> Any:
    try:
        return strict_json(read_bytes(path)).get("schema")
    except (ValueError, AttributeError, RecursionError):
        return SCHEMA  # not JSON or no mapping: parse_json words it


def no_run(folder: Path, or_published: bool = False) -> InputError:
    """What to say of a folder that holds no run, where one is needed, or a published table."""
    return InputError(
        folder,
        found="neither config.json nor meta.yaml" if or_published else "no config.json",
        expected="a run's folder" + (", or one of results/published/" if or_published else ""),
        hint="give results/runs/NAME or results/recorded/NAME" + (" or results/published/NAME" if or_published else ""),
    )


def read_plan(run: Path) -> Plan:
    """A run folder's config.json; a folder without one and another schema version are InputErrors."""
    path = run / "config.json"
    if not path.is_file():
        raise no_run(run)
    version = _version(path)
    if version != SCHEMA:
        raise InputError(
            f"{path}: field schema",
            found=repr(version),
            expected=repr(SCHEMA),
            hint="the run was made by another version of bakeoff: read it with that version, or run again into a new "
            "folder",
        )
    return parse_json(read_bytes(path), Plan, path)


def block_order(plan: Plan, block: int) -> list[str]:
    """The participants of a block in the order in which they run."""
    names = [who.name for who in plan.present(block)]
    return protocols.block_order(plan.run, block // plan.shards, names, plan.balanced)


def block_cells(plan: Plan, block: int) -> list[PlannedCell]:
    """The cells of a block in the order in which they run; a block that the run does not have is an InputError."""
    if not 0 <= block < plan.blocks:
        raise InputError(
            "option --block",
            found=str(block),
            expected=f"a block of this run: 0 to {plan.blocks - 1}",
            hint="correct the number, or raise `blocks` in the configuration and plan again",
        )
    workloads = [workload.id for workload in plan.workloads]
    order = block_order(plan, block)
    return protocols.cell_order(plan.due(block), plan.run, block, order, workloads, plan.families, plan.seeds)


def packed_solution(run: Path, plan: Plan, who: Participant) -> Path:
    """The packed solution that a process runs; InputError unless it is the one that the plan names by its digest."""
    path = run / str(who.build)
    again = f"run `bakeoff build {who.twin_of or who.name} --arch {plan.backend} -o {path.parent}`"
    if not path.is_file():
        raise InputError(path, "no packed solution", "the one that the plan names", again)
    packed = digest(read_json(path, Solution))
    found = twin_digest(packed) if who.twin_of else packed
    if found != who.digest:
        raise InputError(
            path,
            found=f"a packed solution with the digest {found[:12]}",
            expected=f"{str(who.digest)[:12]}, which config.json plans: what is planned is what runs",
            hint=f"{again}, then `bakeoff plan`; or run Snakemake, which does both",
        )
    return path


def problem_of(plan: Plan) -> dict[str, Any]:
    """What a process must know to make a plan's inputs, the files by their full paths, and what it computes with."""
    root, data = (under_root(path).resolve() for path in (plan.traces_root, plan.dataset))
    return {
        "traces_root": root,
        "definition": plan.definition,
        "dataset": plan.dataset if plan.dataset == "synthetic" else str(data),
        "backend": plan.backend,
        "threads": plan.threads,
    }


def twin_digest(packed: str) -> str:
    """The digest of a twin, from its original's."""
    return sha256_bytes(canonical_json({"twin": packed}))
