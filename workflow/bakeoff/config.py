"""The configuration: one pydantic model, the single source of the JSON Schema and of the table in config/README.md.

Entry points: `load(path)`, `resolve(settings)`, which replaces every `auto` by what the measuring host has, and
`resolve_for_jobs`. Nothing is written.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import psutil
from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from bakeoff import host
from bakeoff.core.protocols import PROTOCOLS
from bakeoff.errors import InputError
from bakeoff.files import PROJECT_ROOT, validate, yaml_mapping
from bakeoff.schema.base import Part
from bakeoff.schema.host import Gpu, Host
from bakeoff.schema.plan import LEADING, ProfileConfig
from bakeoff.schema.solution import Backend

DEFINITIONS = {
    "full": "moe_fp8_block_scale_ds_routing_topk8_ng8_kg4_e32_h7168_i2048",
    "narrow": "moe_fp8_block_scale_ds_routing_topk8_ng8_kg4_e32_h512_i256",
}
# YAML's true, 1.0 and "1" are no whole numbers.
Whole = Annotated[int, Field(strict=True)]
# No longer than a folder's name may be (255 bytes), with room for what is appended to it.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=200)]


def _nameable(path: str) -> str:
    """A path that a file system can have: parts of at most 255 bytes, and no control characters."""
    if not path.isprintable():
        raise ValueError("a path without control characters")
    if any(len(os.fsencode(part)) > 255 for part in path.split("/")):
        raise ValueError("a path whose parts have at most 255 bytes")
    return path


def _protocol(name: str) -> str:
    if name not in PROTOCOLS:
        raise ValueError(" or ".join(repr(known) for known in PROTOCOLS))
    return name


ProtocolName = Annotated[str, AfterValidator(_protocol), Field(json_schema_extra={"enum": list(PROTOCOLS)})]
BlocksOfOne = Annotated[dict[ProtocolName, Annotated[Whole, Field(ge=1, le=100)]], Field(min_length=1, max_length=1)]
FolderPath = Annotated[str, StringConstraints(min_length=1, max_length=2000), AfterValidator(_nameable)]
# Streaming multiprocessor architectures that have a backend, by CUDA compute capability.
ARCH_OF_CAPABILITY: dict[str, Backend] = {"9.0": "sm_90a", "10.0": "sm_100a"}


class Config(Part):
    """Every key of config/config.yaml; the descriptions are the documentation."""

    run: Literal["auto"] | Name = "auto"
    """Name of the run's folder under results/runs/. auto: the backend's name."""
    backend: Literal["auto"] | Backend = "auto"
    """Where the solutions run. auto: the architecture of the first visible GPU that has one, else cpu."""
    definition: Literal["auto", "full", "narrow"] | Name = "auto"
    """The benchmark's definition. auto: full (H 7168, I 2048) on a GPU, narrow (H 512, I 256) on the cpu backend."""
    dataset: FolderPath = "synthetic"
    """Routing inputs: synthetic (seeded, the same bits everywhere) or the path of a flashinfer-trace checkout."""
    solutions: Literal["all"] | Annotated[list[Name], Field(min_length=1)] = "all"
    """Solutions to run: all folders of solutions/, or a list of names."""
    workloads: Literal["all", "grid"] | Annotated[list[Name], Field(min_length=1)] = "all"
    """All 19 published ones; the grid of further ones (even routing between them, and all experts of a token local); or
    ids of both (T901_o96, T2048_o96_even, ...)."""
    mix: dict[Name, Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]] = Field({})
    """How often each workload is called where the solutions will run (`{T1_o32: 100, T901_o96: 3}`): a mean of
    latencies with these weights then stands beside geometric mean and sum. Others count nothing."""
    protocols: Literal["auto"] | Annotated[list[ProtocolName | BlocksOfOne], Field(min_length=1)] = "auto"
    """Timing protocols, each a name, or a name with a number of blocks (`{graph: 3}`); the first is the primary one,
    which the report shows. auto: robust, on a GPU graph, warm and sustained beside it. Unless said, graph, warm and
    realistic are measured in 5 blocks, sustained in 3, the others in all."""
    families: list[Literal["fib", "realistic"]] = Field(["fib", "realistic"], min_length=1)
    """Value families that are verified; the first is the one that is timed."""
    seeds: list[Annotated[Whole, Field(ge=0, le=2**31 - 1)]] = Field([2], min_length=1)
    """Seeds of the synthetic values; each is verified, the first is timed. Why 2: docs/numerics.md."""
    blocks: Literal["auto"] | Annotated[Whole, Field(ge=1, le=100)] = "auto"
    """Blocks, each holding every solution once in a fresh process. auto: 10 on a GPU, 1 on the cpu backend (no
    verdicts)."""
    twins: list[str] = Field([])
    """Solutions that enter a second time, as NAME.twin: what such a pair (A/A) shows is noise."""
    timeout_s: Annotated[Whole, Field(ge=1, le=7 * 24 * 3600)] = 1200
    """Longest time for one cell, in seconds; then it is TIMEOUT."""
    threads: Literal["auto"] | Annotated[Whole, Field(ge=1, le=1024)] = "auto"
    """CPU threads of a worker. auto: all cores on the cpu backend, 1 on a GPU."""
    compile: list[Literal["sm_90a", "sm_100a"]] = Field(["sm_90a", "sm_100a"])
    """Architectures that every solution's kernels are compiled for, GPU or not."""
    profile: ProfileConfig = Field(default_factory=ProfileConfig)
    """What is profiled, apart from timing."""
    shards: Annotated[Whole, Field(ge=1, le=100)] = 1
    """Parts that many solutions are dealt into, for jobs that run beside each other: a block then holds one part, the
    reference and the anchors, and there are `shards` times `blocks` of them."""
    anchors: Literal["auto"] | list[Name] = "auto"
    """Solutions that every other one is compared with where there are many, and that every shard holds. auto: the
    contestants, if they are at most 5."""
    selection: FolderPath | None = None
    """selection.json that `bakeoff select` made of a screening run: this run is then of its solutions and anchors, on
    fresh blocks (docs/candidates.md). null: no screening came before."""
    leading: Annotated[Whole, Field(ge=1, le=100)] = LEADING
    """Of more than 20 solutions: how many of the fastest are compared with each other and stand on the report's page,
    beside the contestants, if these are at most 5. All stand in the tables beside the page."""
    gpus: Annotated[Whole, Field(ge=1, le=64)] = 1
    """GPUs of this host to spread whole blocks over; `CUDA_VISIBLE_DEVICES` says which, as for any CUDA program."""
    cluster: bool = False
    """Whether steps are jobs of a cluster, which profiles/slurm sets: then Snakemake's own host decides nothing, and
    `backend` has to be named."""
    lock_clocks_mhz: Annotated[Whole, Field(ge=100, le=10_000)] | None = None
    """SM clock to lock for the run, in MHz, and to restore afterwards. null: clocks stay as found."""
    image: str | None = None
    """Digest of the container image that the run is made in. null: no container."""
    solutions_root: FolderPath | Annotated[list[FolderPath], Field(min_length=1)] = "solutions"
    """Folder of the solutions, or a list of such folders."""
    traces_root: FolderPath = "traces"
    """Folder of definitions and workloads, in flashinfer-trace layout."""

    @property
    def solution_roots(self) -> list[str]:
        """The folders of the solutions, as they are configured."""
        return [self.solutions_root] if isinstance(self.solutions_root, str) else self.solutions_root

    @field_validator("seeds", mode="before")
    @classmethod
    def _numbers(cls, value: Any) -> Any:
        """Snakemake's command line makes text of the numbers in a list: `--config seeds=[1]`."""
        if not isinstance(value, list):
            return value
        return [int(each) if isinstance(each, str) and each.isascii() and each.isdigit() else each for each in value]

    @field_validator("protocols")
    @classmethod
    def _order_of_protocols(cls, value: Any) -> Any:
        """What counts only after `robust` is measured beside it, and is not what the report is about."""
        names = (
            [] if value == "auto" else [name for each in value for name in (each if isinstance(each, dict) else [each])]
        )
        if len(set(names)) != len(names):
            raise ValueError("an entry appears twice")
        later = [name for name in names if PROTOCOLS[name].in_place]
        if later and ("robust" not in names or names[0] in later):
            raise ValueError(f"{later[0]} counts only where `robust` has passed: name `robust` before it")
        return value

    @model_validator(mode="after")
    def _values_of_protocols(self) -> Self:
        names = [] if self.protocols == "auto" else self.protocol_blocks
        for name, family in ((name, PROTOCOLS[name].family) for name in names):
            if family is not None and family not in self.families:
                raise ValueError(f"protocols: {name} times values of the family {family}: add it to `families`")
        return self

    @property
    def protocol_blocks(self) -> dict[str, int]:
        """The protocols, each with the number of its blocks; `auto` is `robust` until it is resolved."""
        found: dict[str, int] = {}
        for each in ["robust"] if self.protocols == "auto" else self.protocols:
            name, asked = next(iter(each.items())) if isinstance(each, dict) else (each, PROTOCOLS[each].blocks)
            most = 100 if self.blocks == "auto" else self.blocks
            found[name] = min(asked or most, most)
        return found

    @field_validator("solutions", "workloads", "families", "seeds", "compile", "twins", "solutions_root", "anchors")
    @classmethod
    def _no_duplicates(cls, value: Any) -> Any:
        if isinstance(value, list) and len(set(value)) != len(value):
            raise ValueError("an entry appears twice")
        return value


def load(path: Path) -> Config:
    """Read and validate a YAML configuration; any mistake is an InputError that names the key."""
    return parse(yaml_mapping(path), path)


def parse(document: Any, where: str | Path) -> Config:
    """Validate an already parsed configuration, for instance Snakemake's merged one."""
    return validate(document, Config, where)


def resolve(
    config: Config,
    tell: Callable[[str], None] = lambda text: print(text, file=sys.stderr),
    measures: Host | None = None,
) -> Config:
    """Replace every `auto` by the host's value; asking for a GPU that is not there is an InputError.

    tell: hears of GPUs that `backend: auto` leaves alone; measures: the host, if it is another than this one.
    """
    gpus = _visible_gpus if measures is None else lambda: measures.gpus
    backend = _auto(gpus(), tell) if config.backend == "auto" else config.backend
    if backend != "cpu" and backend not in (found := [backend_of(gpu) for gpu in gpus()]):
        offered = ", ".join(dict.fromkeys(one for one in found if one)) or "no GPU that is visible and has a backend"
        where = f"the host {measures.node}" if measures else "this host"
        raise InputError(
            "config: backend",
            found=f"{backend} is asked for, {where} offers {offered}",
            expected="a visible NVIDIA GPU of that architecture and its driver",
            hint="set `backend: cpu` (or auto), correct CUDA_VISIBLE_DEVICES, or run where `nvidia-smi` lists the GPU",
        )
    known = resolve_for_jobs(config.model_copy(update={"backend": backend}))
    cores = measures.cores if measures else len(psutil.Process().cpu_affinity())
    threads = 1 if backend != "cpu" else cores
    return known.model_copy(update={"threads": threads if config.threads == "auto" else config.threads})


def resolve_for_jobs(config: Config) -> Config:
    """Replace what the backend decides, where jobs of a cluster measure: whether a node has the backend is checked in
    its job. `backend: auto` is an InputError."""
    if config.backend == "auto":
        raise InputError(
            "config: backend",
            found="auto, and jobs of a cluster measure",
            expected="the backend by name: a login node need not have the nodes' GPUs",
            hint="set `backend` in profiles/slurm/config.yaml, or give `--config backend=sm_90a`, say",
        )
    on_gpu = config.backend != "cpu"
    width = ("full" if on_gpu else "narrow") if config.definition == "auto" else config.definition
    return config.model_copy(
        update={
            "run": config.backend if config.run == "auto" else config.run,
            "definition": DEFINITIONS.get(width, width),
            "protocols": (["robust", "graph", "warm", "sustained"] if on_gpu else ["robust"])
            if config.protocols == "auto"
            else config.protocols,
            "blocks": (10 if on_gpu else 1) if config.blocks == "auto" else config.blocks,
        }
    )


def backend_of(gpu: Gpu) -> Backend | None:
    """The backend that runs on a GPU, if there is one."""
    return ARCH_OF_CAPABILITY.get(gpu.capability)


def _auto(gpus: list[Gpu], tell: Callable[[str], None]) -> Backend:
    """The backend of the first GPU that has one, else cpu."""
    found = next((backend for gpu in gpus if (backend := backend_of(gpu))), None)
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if found is None and gpus:
        tell(f"backend: auto is cpu: there is no backend for {', '.join(gpu.name for gpu in gpus)}")
    elif found is None and hidden is not None:
        tell(f"backend: auto is cpu: CUDA_VISIBLE_DEVICES={hidden!r} leaves no GPU visible")
    return found or "cpu"


def _visible_gpus() -> list[Gpu]:
    try:
        return host.gpus()
    except host.NvmlError as error:
        raise InputError(
            "config: backend",
            found=f"NVML says: {error}",
            expected="a driver that answers",
            hint="repair the driver (`nvidia-smi` must list the GPU), or set `backend: cpu`",
        ) from error


def under_root(path: str) -> Path:
    """A configured path; relative ones hang on the checkout, not on the current folder."""
    return PROJECT_ROOT / path
