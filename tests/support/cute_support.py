"""Loads the CuTeDSL modules as a package of their own, and the row counts of the benchmark's workloads."""

from __future__ import annotations

import functools
import importlib
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bakeoff.core.moe.geometry import Geometry
from bakeoff.core.moe.inputs import make_routing
from bakeoff.core.moe.routing import local_pairs, route
from bakeoff.traces.store import TraceRoot
from support.kernels import Kernel, kernels

ROOT = Path(__file__).parents[2]
PACKAGE = "cute_common"
FULL = Geometry(7168, 2048)
SHAPES = [(4096, 7168), (7168, 2048), (512, 512), (512, 256)]  # N, K: both GEMMs at full and at narrow width
# Sizes on both sides of every tile boundary, empty experts, one busy expert, none at all.
EDGES = {
    "boundaries": [1, 15, 16, 17, 63, 64, 65, 127, 128, 129, 300, 0, 0, 2, 7, 31, 32, 33, 256, 257, *[0, 5, 8, 9] * 3],
    "one expert": [0] * 20 + [513] + [0] * 11,
    "first and last": [1] + [0] * 30 + [1],
    "none": [0] * 32,
}


def module(name: str) -> Any:
    """solutions/common/<name>.py, imported as a solution would: relative imports work, `bakeoff` is not needed."""
    if PACKAGE not in sys.modules:
        package = types.ModuleType(PACKAGE)
        package.__path__ = [str(ROOT / "solutions" / "common")]
        sys.modules[PACKAGE] = package
    return importlib.import_module(f"{PACKAGE}.{name}")


def workloads() -> list[Any]:
    """The 19 workloads."""
    return TraceRoot(ROOT / "traces").workloads(FULL.name)


@functools.cache
def row_counts(seq_len: int, offset: int) -> list[int]:
    """Rows of each local expert in one workload."""
    case = next(case for case in workloads() if (case.seq_len, case.offset) == (seq_len, offset))
    logits, bias = make_routing(FULL, case)
    pairs = local_pairs(route(logits, bias, case.factor, FULL), offset, FULL)
    return torch.bincount(pairs.expert, minlength=FULL.local_experts).tolist()


def starts(counts: list[int]) -> list[int]:
    """First row of each expert's group, and the end of the last."""
    rows = [0]
    for count in counts:
        rows.append(rows[-1] + (count + 127) // 128 * 128)
    return rows


maps = module("cute_maps")
gemm = module("cute_gemm")


def built_form(arch: str, form: Any) -> Kernel:
    """GEMM1 in one of its forms, as the solution that has it builds it."""
    name = "cutedsl_moe_fp8_v3_2" if form.fp8_out else "cutedsl_moe_fp8_v3"
    return kernels(name, arch)[gemm.kernel_name("gemm1", arch, form)]


ARCHES = {"sm_90a": 132, "sm_100a": 148}  # multiprocessors of an H100 and a B200


def tile_of(local, tiles_m, tiles_n, rank, form):
    if form.cluster == 1:
        return maps.row_tile(local, tiles_m), maps.column_tile(local, tiles_m)
    cluster = form.cluster
    if local < maps.row_pair_jobs(tiles_m, tiles_n, cluster):
        return maps.paired_row_tile(local, tiles_m, rank, cluster), maps.paired_column_tile(local, tiles_m, cluster)
    lone = maps.lone_row_tile(local, tiles_m, tiles_n, cluster)
    return lone, maps.lone_column_tile(local, tiles_m, tiles_n, rank, cluster)


def schedule(counts, n, form, processors):
    """(expert, row tile, column tile) of every tile in the order of the blocks, by the maps alone."""
    tiles_n = n // form.tile_n
    tiles_m = np.array([maps.row_tiles(c, form.tile_m) for c in counts])
    ends = np.cumsum(maps.jobs(tiles_m, tiles_n, form.cluster))
    grid = processors // form.cluster
    for cluster in range(grid):
        for job in range(cluster, int(ends[-1]), grid):
            e = int((ends <= job).sum())  # the device counts with a ballot
            local = job - (int(ends[e - 1]) if e else 0)
            for rank in range(form.cluster):
                yield e, *tile_of(local, int(tiles_m[e]), tiles_n, rank, form)
