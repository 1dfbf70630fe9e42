"""The host of a block: alike the one that the run was planned for, with one GPU for the whole block.

Entry points: `require_alike`, `gpu_of`, `write` and `set_aside`. Blocks of a run may come from several hosts of one
kind; which one and which GPU it was stands in samples/block-KK/host.json.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bakeoff import host
from bakeoff.config import backend_of
from bakeoff.errors import InputError
from bakeoff.files import read_json, unwritable
from bakeoff.runs.journal import block_folder
from bakeoff.schema.host import Host
from bakeoff.schema.plan import Plan
from bakeoff.schema.sample import Manifest

FILE = "host.json"


def require_alike(run: Path, plan: Plan) -> Host:
    """This host; InputError, with what differs, unless its times can be compared with those of the planned one."""
    here = host.probe()
    if here.fingerprint == plan.host_fingerprint:
        return here
    planned = read_json(run / FILE, Host) if (run / FILE).is_file() else None
    told = host.differences(here, planned) if planned and planned.fingerprint == plan.host_fingerprint else []
    raise InputError(
        run / "config.json",
        found=f"planned for the host {plan.host_fingerprint[:12]}, this one ({here.node}) is {here.fingerprint[:12]}"
        + (f": {'; '.join(told)}" if told else ""),
        expected="the same GPU model, driver, power limit, CPU model and packages for all blocks of a run",
        hint="on a cluster, leave this node out (docs/cluster.md) and run again: finished blocks are kept. Elsewhere, "
        "run `bakeoff probe` and `bakeoff plan` again (Snakemake does): cells of the earlier host are measured anew",
    )


def gpu_of(run: Path, plan: Plan, block: int) -> str | None:
    """UUID of the GPU that a block has to itself: the one that it began on, if that is visible here; else whole blocks
    go round the GPUs that the configuration asks for. None on the cpu backend."""
    if plan.backend == "cpu":
        return None
    gpus = [gpu.uuid for gpu in host.probe().gpus if backend_of(gpu) == plan.backend]
    if plan.gpus > len(gpus):
        raise InputError(
            "config: gpus",
            found=f"{plan.gpus} are asked for, this host has {len(gpus)} for {plan.backend}",
            expected="no more GPUs than there are",
            hint="lower `gpus` in the configuration, and plan again",
        )
    begun = begun_on(run, block)
    return begun if begun in gpus else gpus[block % plan.gpus]


def begun_on(run: Path, block: int) -> str | None:
    """UUID of the GPU that the block's samples are from; None before the first one, and on the cpu backend."""
    path, manifest = block_folder(run, block) / FILE, block_folder(run, block) / "manifest.json"
    if not path.is_file():  # as in older runs
        return read_json(manifest, Manifest).gpu if manifest.is_file() else None
    return next((gpu.uuid for gpu in read_json(path, Host).gpus), None)


def write(run: Path, block: int, here: Host, gpu: str | None) -> None:
    """Write the block's host.json: this host, with the block's GPU alone."""
    own = here.model_copy(update={"gpus": [one for one in here.gpus if one.uuid == gpu]})
    host.write_host(block_folder(run, block) / FILE, own)


def set_aside(run: Path, block: int, gpu: str, tell: Callable[[str], None]) -> None:
    """Begin a block anew whose GPU `gpu` is not here: its samples move to samples/block-KK/GPU-…/, where nothing reads
    them. Solutions are compared within a block, so that one GPU must give all of it."""
    folder = block_folder(run, block)
    try:
        (folder / gpu).mkdir(exist_ok=True)
        for path in [*folder.glob("*.jsonl"), folder / "manifest.json", folder / FILE]:
            if path.exists():
                path.replace(folder / gpu / path.name)
    except OSError as error:
        raise unwritable(folder, error) from error
    tell(f"block {block} began on {gpu}, which is not here: its samples move to {folder / gpu}, and it begins anew")
