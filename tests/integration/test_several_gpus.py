"""Blocks of a host with two GPUs run beside each other, those of one GPU one after the other."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import pytest
from support.checkout import Checkout

# In place of the package's Python: `measure` holds a GPU for half a second; what is built needs no compiler.
STAND_IN = """#!/bin/sh
case "$3" in
measure)
    mkdir -p "$4/samples/block-0$6" && begun=$(date +%s.%N) && sleep 0.5
    echo "$6 $begun $(date +%s.%N)" >> {log}
    echo {{}} > "$4/samples/block-0$6/manifest.json" ;;
build)
    while [ $# -gt 1 ]; do shift; done
    into=$(dirname "$1")/triton_fused_moe_v2
    mkdir -p "$into" && echo {{}} > "$into/solution.json" && echo {{}} > "$into/build.json" ;;
probe | plan) while [ $# -gt 1 ]; do shift; done; echo {{}} > "$1" ;;
*) exec {python} "$@" ;;
esac
"""
NVML = """
from types import SimpleNamespace
NVML_ERROR_LIBRARY_NOT_FOUND, NVML_ERROR_DRIVER_NOT_LOADED = 12, 9
class NVMLError(Exception):
    value = 3
def nvmlInit(): pass
def nvmlShutdown(): pass
def nvmlDeviceGetCount(): return 2
def nvmlDeviceGetHandleByIndex(index): return index
def nvmlDeviceGetCudaComputeCapability(index): return (9, 0)
def nvmlDeviceGetName(index): return "GPU"
def nvmlDeviceGetUUID(index): return f"GPU-{index}"
def __getattr__(name):
    if not name.startswith("nvml"):
        return 0
    def refuse(*_): raise NVMLError
    return refuse
"""


@pytest.mark.timeout(300)
def test_two_gpus_measure_in_little_more_than_half_the_time_of_one(checkout: Checkout, tmp_path: Path) -> None:
    log, stand_in = tmp_path / "log", tmp_path / "python"
    stand_in.write_text(STAND_IN.format(log=log, python=sys.executable))
    stand_in.chmod(0o755)
    (tmp_path / "pynvml.py").write_text(NVML)
    chosen = [
        "backend=sm_90a",
        "gpus=2",
        "blocks=10",
        "solutions=[triton_fused_moe_v2]",
        "compile=[]",
        "profile={tier: none}",
    ]
    targets = [f"results/runs/sm_90a/samples/block-{block:02}/manifest.json" for block in range(10)]
    env = {"PYTHONPATH": f"{tmp_path}:{checkout.root / 'workflow'}", "BAKEOFF_PYTHON": str(stand_in)}
    checkout.snakemake(*targets, config=chosen, env=env)
    held = sorted((int(block), float(begun), float(ended)) for block, begun, ended in map(str.split, log.open()))
    assert [block for block, *_ in held] == list(range(10))
    alone = sum(ended - begun for _, begun, ended in held)
    together = max(ended for *_, ended in held) - min(begun for _, begun, _ in held)
    assert together <= 0.6 * alone
    for gpu in (0, 1):
        turns = sorted((begun, ended) for block, begun, ended in held if block % 2 == gpu)
        assert all(ended <= begun for (_, ended), (begun, _) in pairwise(turns))
