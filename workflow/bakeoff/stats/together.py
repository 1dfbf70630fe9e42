"""Runs of one GPU model as one: what a solution does on that model, with the GPU as a random effect.

Entry point: `together`. From three GPUs on, a GPU's mean over its blocks is one sample: an interval then speaks for the
model, since it holds what differs from GPU to GPU. With fewer the blocks of all runs stand side by side, and intervals
speak for these GPUs alone.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bakeoff.errors import InputError
from bakeoff.runs.intervals import Floats, block_means
from bakeoff.runs.samples import Samples
from bakeoff.schema.analysis_run import AnalysedCell, Check
from bakeoff.schema.outcomes import Outcome
from bakeoff.stats.rundata import RunData

# Two GPUs have one degree of freedom, whose interval says nothing.
LEAST_GPUS = 3


def together(runs: Sequence[RunData]) -> RunData:
    """One run's data of several; InputError for runs that are not of one GPU model, plan and set of solutions."""
    first = runs[0]
    for other in runs[1:]:
        _refuse_others(first, other)
    samples = [_by_gpu(run) for run in runs]
    units = sorted({gpu for one in samples for gpu in one})
    parts = [[one[gpu] for one in samples if gpu in one] for gpu in units]
    random = len(units) >= LEAST_GPUS
    times, references = (
        np.concatenate(
            [_unit([part[side] for part in some], [part[0] for part in some], random=random) for some in parts], axis=-1
        )
        for side in (0, 1)
    )
    cells = [_worst([run.cells[row] for run in runs]) for row in range(len(first.cells))]
    failed = np.array([cell.outcome != Outcome.PASSED for cell in cells]).reshape(times.shape[:2])
    times[failed], references[failed] = np.nan, np.nan
    count = times.shape[-1]
    return replace(
        first,
        header=first.header.model_copy(
            update={
                "id": " + ".join(run.header.id for run in runs),
                "blocks": count,
                "gpus": len(units),
                "unit": "gpu" if random else "block",
                "other_protocols": [],
            }
        ),
        cells=cells,
        samples=replace(first.samples, blocks=list(range(count)), log_time=times, log_reference=references),
        checks=_checks(runs),
        journals=None,
        verifications=[entry for run in runs for entry in run.verifications],
    )


def _refuse_others(first: RunData, other: RunData) -> None:
    facts: dict[str, list[Any]] = {
        "GPU model": [run.header.hardware for run in (first, other)],
        "protocol": [run.header.protocol for run in (first, other)],
        "inputs": [(run.header.dataset, run.workload_digests) for run in (first, other)],
        "solutions": [{who.name: who.digest for who in run.participants} for run in (first, other)],
    }
    differ = [name for name, (one, two) in facts.items() if one != two]
    tiers = first.samples.tier, other.samples.tier
    if not differ and ((tiers[0] != tiers[1]) & (tiers[0] != "") & (tiers[1] != "")).any():
        differ = ["clock"]
    if differ or not first.performance_shown:
        raise InputError(
            f"{first.header.id} and {other.header.id}",
            found=f"another {', '.join(differ)}" if differ else "runs without performance",
            expected="runs of the same solutions on the same inputs, on GPUs of one model",
            hint="analyse them one by one, or hold one against the other with `bakeoff compare`",
        )


def _by_gpu(run: RunData) -> dict[str, tuple[Floats, Floats]]:
    """GPU -> log times and log reference times of its blocks, (solutions, workloads, blocks)."""
    samples: Samples = run.samples
    owner = np.array([run.block_gpus.get(block, "") for block in samples.blocks])
    return {
        gpu: (samples.log_time[:, :, owner == gpu], samples.log_reference[:, :, owner == gpu])
        for gpu in sorted(set(owner.tolist()))
    }


def _unit(parts: list[Floats], times: list[Floats], *, random: bool) -> Floats:
    """Of one GPU all blocks, or as a random effect their mean; of a reference over the blocks that hold a time."""
    logs = np.concatenate(parts, axis=-1)
    timed = ~np.isnan(np.concatenate(times, axis=-1))
    return block_means(np.where(timed, logs, np.nan)).mean[..., None] if random else logs


def _worst(cells: Sequence[AnalysedCell]) -> AnalysedCell:
    """Of a cell in several runs: the first that did not pass, else the first; what was discarded in all."""
    found = next((cell for cell in cells if cell.outcome != Outcome.PASSED), cells[0])
    return found.model_copy(update={"discarded": sum(cell.discarded for cell in cells)})


def _checks(runs: Sequence[RunData]) -> list[Check]:
    """Each condition over all runs: met if every one meets it."""
    order = ("failed", "warning", "not_applicable", "ok")
    found = []
    for checks in zip(*(run.checks for run in runs), strict=True):
        worst = min(checks, key=lambda check: order.index(check.status))
        items = [f"{run.header.id}: {item}" for run, check in zip(runs, checks, strict=True) for item in check.items]
        count = sum(check.found or 0 for check in checks)
        found.append(Check.over(items, code=worst.code, status=worst.status, found=count))
    return found
