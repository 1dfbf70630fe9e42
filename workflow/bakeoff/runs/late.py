"""Samples that a shared file system shows later than the file that says that they are there.

Entry point: `wait_for_samples`. Snakemake waits for a block's manifest alone, which is written last; on another host
the journals beside it may still be missing, or be short.
"""

import time
from collections.abc import Callable
from pathlib import Path

from bakeoff.errors import InputError
from bakeoff.files import read_json, sha256_bytes
from bakeoff.runs.journal import block_folder, journal_bytes, journal_path
from bakeoff.schema.plan import Plan
from bakeoff.schema.sample import Manifest

LOOK_S = 0.5  # between two looks


def wait_for_samples(run: Path, plan: Plan, wait_s: float, tell: Callable[[str], None]) -> None:
    """Wait until every journal is here as its block's manifest sealed it, `wait_s` at most. One that is still missing
    then is an InputError; one that differs is not: what became of it is `tampered`'s to say."""
    blocks, deadline, told = list(range(plan.blocks)), time.monotonic() + wait_s, False
    while late := {block: names for block in blocks if (names := _late(run, block))}:
        if time.monotonic() > deadline:
            break
        first = next(f"{block_folder(run, block)}/{names[0]}" for block, names in late.items())
        if not told:
            tell(f"waiting up to {wait_s:g} s for {first}: its manifest is here, and it is not, or not all of it")
        told, blocks = True, list(late)
        time.sleep(LOOK_S)
    missing = [
        journal_path(run, block, name)
        for block, names in late.items()
        for name in names
        if not _there(run, block, name)
    ]
    if missing:
        raise InputError(
            missing[0],
            found=f"no such file after {wait_s:g} s, and its block's manifest names it"
            + (f"; {len(missing)} are missing" if len(missing) > 1 else ""),
            expected="every journal of a block that is complete",
            hint="a shared file system may show it later: run the same command again, and raise `latency-wait` in "
            "profiles/slurm/profile.yaml; if it was deleted, delete its manifest.json too, and its cells are measured "
            "again",
        )


def _late(run: Path, block: int) -> list[str]:
    """Participants whose journal is not what the block's manifest sealed; none without a manifest of today's form."""
    path = block_folder(run, block) / "manifest.json"
    if not path.is_file():
        return []
    list(path.parent.iterdir())  # asks a file server anew, which a look for one name need not
    sealed = read_json(path, Manifest).samples or {}
    return [name for name, digest in sealed.items() if not _there(run, block, name, digest)]


def _there(run: Path, block: int, name: str, digest: str | None = None) -> bool:
    data = journal_bytes(journal_path(run, block, name))
    return data is not None and digest in (None, sha256_bytes(data))
