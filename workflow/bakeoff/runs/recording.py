"""A finished run as a folder that can be committed: its facts and raw samples, small enough for a repository.

Entry point: `record_run`. Journals are compressed as they are, seals included; traces and verifications are made from
the compressed ones, so that what stands beside the samples is what they give.
"""

import gzip
import shutil
from pathlib import Path

from bakeoff.errors import InputError
from bakeoff.files import read_bytes, unwritable, write_atomic
from bakeoff.planned import read_plan
from bakeoff.runs.assemble import assemble_run
from bakeoff.runs.coverage import gaps
from bakeoff.runs.journal import COMPRESSED, block_folder, journal_path
from bakeoff.runs.table import Journals

# What a run may have beside its samples: profile summaries, resource tables of the compiled kernels, the gates' power.
OPTIONAL = ("profile/*.json", "build/**/build.json", "gate_power.json", "samples/block-*/host.json")


def record_run(run: Path, target: Path) -> None:
    """Write the run to `target`, a new folder. A run whose plan is not complete, or one of the cpu backend, is an
    InputError."""
    plan = read_plan(run)
    if plan.backend == "cpu":
        raise InputError(
            run / "config.json",
            found="backend cpu",
            expected="a run on a GPU",
            hint="a cpu run needs no record: `make reproduce` makes it anew anywhere",
        )
    if target.exists():
        raise InputError(target, "a folder that exists", "a new one", "choose another name, or delete it first")
    _check_complete(run)
    try:
        for name in ("config.json", "host.json"):
            write_atomic(target / name, read_bytes(run / name))
        for block in range(plan.blocks):
            write_atomic(
                block_folder(target, block) / "manifest.json", read_bytes(block_folder(run, block) / "manifest.json")
            )
            for who in plan.present(block):
                packed = gzip.compress(read_bytes(journal_path(run, block, who.name)), compresslevel=9, mtime=0)
                path = journal_path(target, block, who.name)
                write_atomic(path.with_name(path.name + COMPRESSED), packed)
        for pattern in OPTIONAL:
            for path in sorted(run.glob(pattern)):
                write_atomic(target / path.relative_to(run), read_bytes(path))
    except OSError as error:
        shutil.rmtree(target, ignore_errors=True)
        raise unwritable(target, error) from error
    assemble_run(target)


def _check_complete(run: Path) -> None:
    found = gaps(run, Journals.read(run, read_plan(run)))
    if found:
        raise InputError(
            run,
            found=f"{found[0]}{f' (and {len(found) - 1} more such gaps)' if len(found) > 1 else ''}",
            expected="a complete run",
            hint="run `bakeoff measure` for every block of the plan, then record it",
        )
