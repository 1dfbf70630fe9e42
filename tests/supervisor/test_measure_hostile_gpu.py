"""Attacks that need a GPU's streams, around a real solution: pytest -m gpu
tests/supervisor/test_measure_hostile_gpu.py."""

from __future__ import annotations

import ctypes
import shutil
from pathlib import Path

import pytest
import torch
from bakeoff.core.device.cuda import PERSISTING_L2, CudaDevice
from bakeoff.files import PROJECT_ROOT
from support.hostile import HOSTILE, facts
from support.measure_runs import WRAPPER, measure, only, plan_run

ATTACKS = {name: source for name, source in HOSTILE.items() if facts(source)["DEVICE"] == "gpu"}
HONEST = "triton_fused_moe_v2"

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]


def solution(root: Path, name: str, source: str) -> None:
    """A copy of a real solution with an attack before it."""
    folder = root / name
    shutil.copytree(PROJECT_ROOT / "solutions" / HONEST, folder, ignore=shutil.ignore_patterns("__pycache__"))
    if not (root / "common").exists():
        (root / "common").symlink_to(PROJECT_ROOT / "solutions/common")
    path = folder / "solution.yaml"
    path.write_text(path.read_text().replace(f"name: {HONEST}", f"name: {name}", 1))
    (folder / "solution.py").rename(folder / "honest.py")
    (folder / "attack.py").write_text(source)
    (folder / "solution.py").write_text(WRAPPER)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gpu")
    for name, source in ATTACKS.items():
        solution(folder / "solutions", name, f"{source}\n\nrun_with = hostile\n")
        solution(folder / "solutions", f"{name}_neighbour", f"{source}\n\nrun_with = neighbour\n")
    run = plan_run(
        folder / "run",
        folder / "solutions",
        definition="auto",
        backend="auto",
        workloads=["T80_o96"],
        blocks=1,
        timeout_s=200,
    )
    done = measure(run)
    assert done.returncode == 0, done.stderr
    return run


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_on_streams_is_rejected_and_its_neighbour_passes(run: Path, name: str) -> None:
    attack, neighbour = only(run, name), only(run, f"{name}_neighbour")
    assert (attack.outcome, attack.reason) == facts(ATTACKS[name])["EXPECTED"], attack.detail
    assert neighbour.outcome == "PASSED", neighbour.detail


def test_nothing_that_a_call_made_persist_in_the_cache_outlives_the_flush() -> None:
    device, held = CudaDevice(trace=False), ctypes.c_size_t()
    driver = ctypes.CDLL("libcuda.so.1")
    assert driver.cuCtxSetLimit(PERSISTING_L2, ctypes.c_size_t(8 << 20)) == 0
    driver.cuCtxGetLimit(ctypes.byref(held), PERSISTING_L2)
    assert held.value > 0
    device.cold()
    device.synchronize()
    driver.cuCtxGetLimit(ctypes.byref(held), PERSISTING_L2)
    assert held.value == 0
