"""Attacks that need a GPU's streams and cache, around a real solution: pytest -m gpu
tests/supervisor/test_measure_hostile_gpu.py."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import statistics
import struct
from pathlib import Path

import pytest
import torch
from bakeoff.core.device.cuda import ACCESS_WINDOW, PERSISTING_L2, CudaDevice
from bakeoff.files import PROJECT_ROOT
from support.hostile import HOSTILE, facts
from support.measure_runs import measure, only, plan_run, put_before

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
    put_before(folder, source)


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
    device.begin()
    device.end()
    assert "may persist" in (device.kept() or "")
    device.synchronize()
    device.harvest()
    device.cold()
    device.synchronize()
    assert device.kept() is None
    driver.cuCtxGetLimit(ctypes.byref(held), PERSISTING_L2)
    assert held.value == 0


def test_a_window_and_another_stream_are_seen_after_the_call() -> None:
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        device = CudaDevice(trace=False)
        window = struct.pack("=QQfii36x", torch.zeros(1 << 20, device="cuda").data_ptr(), 1 << 20, 1.0, 2, 0)
        driver, handle = ctypes.CDLL("libcuda.so.1"), ctypes.c_void_p(side.cuda_stream)
        assert driver.cuStreamSetAttribute(handle, ACCESS_WINDOW, window) == 0
        device.begin()
        device.end()
        assert "access window" in (device.kept() or "")
        device.synchronize()
        device.harvest()
        device.cold()
        device.begin()
        device.end()
        assert device.kept() is None
        device.begin()
        with torch.cuda.stream(torch.cuda.Stream()):
            device.end()
        assert "another stream" in (device.kept() or "")
    torch.cuda.synchronize()


def test_work_on_a_side_stream_has_ended_before_the_flush() -> None:
    device, side, done = CudaDevice(trace=False), torch.cuda.Stream(), torch.cuda.Event()
    with torch.cuda.stream(side):
        torch.cuda._sleep(20_000_000)
        done.record()
    device.cold()
    assert done.query()


READS = """
import triton, triton.language as tl


@triton.jit
def read(data, sums, COUNT: tl.constexpr, POLICY: tl.constexpr):
    place = tl.program_id(0) * COUNT + tl.arange(0, COUNT)
    tl.store(sums + tl.program_id(0), tl.sum(tl.load(data + place, eviction_policy=POLICY)))
"""


def test_lines_that_a_kernel_asks_to_be_evicted_last_are_cold_after_the_flush(tmp_path: Path) -> None:
    """A read after the flush takes as long as after ordinary loads, and longer than without a flush."""
    (tmp_path / "reads.py").write_text(READS)
    spec = importlib.util.spec_from_file_location("reads", tmp_path / "reads.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    device, data, sums = CudaDevice(trace=False), torch.ones(4 << 20, device="cuda"), torch.empty(4096, device="cuda")

    def read(policy: str) -> None:
        module.read[(4096,)](data, sums, COUNT=1024, POLICY=policy)

    def once(policy: str, flush: bool) -> float:
        for _ in range(5):
            read(policy)
        device.synchronize()
        if flush:
            device.cold()
        device.lead_in(200.0)
        device.begin()
        read("")
        device.end()
        device.synchronize()
        return device.harvest()["event_us"][0]

    once("evict_last", True)
    warm, ordinary, last = (
        statistics.median(once(*how) for _ in range(30)) for how in (("", False), ("", True), ("evict_last", True))
    )
    print(f"16 MB read: warm {warm:.1f} us, after a flush {ordinary:.1f}, after evict_last and a flush {last:.1f}")
    assert warm < 0.9 * ordinary
    assert last > 0.97 * ordinary
