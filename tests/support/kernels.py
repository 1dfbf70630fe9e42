"""The kernels of the solutions for GPUs, built once for all tests: the workflow's cache has them if it ran."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bakeoff import locks
from bakeoff.build.compile import DEFAULT_CACHE, build_solution
from bakeoff.files import PROJECT_ROOT
from bakeoff.schema.build import BuildRecord, KernelRecord
from support.solution_support import made_folder, spec_of

FULL = PROJECT_ROOT / "traces/definitions/moe/moe_fp8_block_scale_ds_routing_topk8_ng8_kg4_e32_h7168_i2048.json"


@dataclass(frozen=True)
class Kernel:
    """One compiled kernel: what the build says of it, and its code."""

    record: KernelRecord
    ptx: str
    cubin: Path


@cache
def build(name: str, arch: str) -> tuple[BuildRecord, Path]:
    """The build of a solution for sm_90a or sm_100a at full width, and its folder."""
    into = made_folder() / f"{name}-{arch}"
    with locks.hold(DEFAULT_CACHE.parent / f"{name}-{arch}.lock", name, lambda _: None):
        return build_solution(spec_of(name), arch, FULL, into)[0], into


@cache
def kernels(name: str, arch: str) -> dict[str, Kernel]:
    """Name -> kernel, of a solution that builds."""
    record, folder = build(name, arch)
    assert record.status == "ok", record.message
    return {one.name: Kernel(one, (folder / one.ptx).read_text(), folder / one.cubin) for one in record.kernels}
