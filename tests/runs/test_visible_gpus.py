"""The backend is that of GPUs that this process may use; where NVML does not answer its own words are heard."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from bakeoff import host
from bakeoff.config import Config, resolve
from bakeoff.errors import InputError


class NVMLError(Exception):
    def __init__(self, value: int = 3, words: str = "Not Supported") -> None:
        super().__init__(words)
        self.value = value


def nvml(*gpus: tuple[int, int] | str, init: NVMLError | None = None) -> Any:
    """A stand-in for NVML whose GPUs have these capabilities, or do not answer, with these words; a partition of each
    is named after it."""

    def refuse(*_: Any) -> Any:
        raise NVMLError

    def start() -> None:
        if init:
            raise init

    def handle(index: int) -> int:
        if isinstance(gpus[index], str):
            raise NVMLError(15, str(gpus[index]))
        return index

    def by_uuid(uuid: str) -> tuple[int]:
        if not uuid.startswith("MIG-"):
            raise NVMLError
        return (int(uuid.removeprefix("MIG-")),)

    class Module(SimpleNamespace):
        def __getattr__(self, name: str) -> Any:
            return refuse if name.startswith("nvml") else 0

    return Module(
        NVMLError=NVMLError,
        NVML_ERROR_LIBRARY_NOT_FOUND=12,
        NVML_ERROR_DRIVER_NOT_LOADED=9,
        nvmlInit=start,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetCount=lambda: len(gpus),
        nvmlDeviceGetHandleByIndex=handle,
        nvmlDeviceGetHandleByUUID=by_uuid,
        nvmlDeviceGetDeviceHandleFromMigDeviceHandle=lambda partition: partition[0],
        nvmlDeviceGetCudaComputeCapability=lambda index: gpus[index],
        nvmlDeviceGetName=lambda index: f"GPU of {gpus[index]}",
        nvmlDeviceGetUUID=lambda index: f"GPU-{index}",
        nvmlDeviceGetMemoryInfo=lambda one: SimpleNamespace(total=(10 if isinstance(one, tuple) else 80) << 30),
    )


A100, H100, B200 = (8, 0), (9, 0), (10, 0)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Any:
    def put(visible: str | None, *gpus: tuple[int, int] | str, init: NVMLError | None = None) -> None:
        monkeypatch.setitem(sys.modules, "pynvml", nvml(*gpus, init=init))
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    return put


@pytest.mark.parametrize(
    ("visible", "gpus", "backend", "said"),
    [
        (None, [H100], "sm_90a", ""),
        (None, [B200, H100], "sm_100a", ""),
        (None, [A100, H100], "sm_90a", ""),
        ("1", [A100, H100], "sm_90a", ""),
        ("GPU-1", [A100, H100], "sm_90a", ""),
        ("0", [A100, H100], "cpu", "no backend for GPU of (8, 0)"),
        ("1,0", [H100, B200], "sm_100a", ""),
        ("", [H100], "cpu", "CUDA_VISIBLE_DEVICES='' leaves no GPU visible"),
        ("7", [H100], "cpu", "CUDA_VISIBLE_DEVICES='7' leaves no GPU visible"),
        ("MIG-1", [A100, H100], "sm_90a", ""),
        ("MIG-0", [A100, H100], "cpu", "no backend"),
        (None, [], "cpu", ""),
        ("0", [H100, "GPU is lost"], "sm_90a", ""),
    ],
)
def test_auto_is_the_backend_of_a_visible_gpu_and_says_which_it_leaves_alone(
    here: Any, visible: str | None, gpus: list[Any], backend: str, said: str
) -> None:
    here(visible, *gpus)
    told: list[str] = []
    assert resolve(Config(), told.append).backend == backend
    assert said in "".join(told) and bool(told) is bool(said)


@pytest.mark.parametrize(
    ("visible", "gpus", "offered"),
    [
        ("", [H100], "no GPU that is visible"),
        ("0", [A100, H100], "no GPU"),
        (None, [B200], "sm_100a"),
        (None, [], "no"),
    ],
)
def test_a_gpu_that_is_not_visible_cannot_be_asked_for(
    here: Any, visible: str | None, gpus: list[Any], offered: str
) -> None:
    here(visible, *gpus)
    with pytest.raises(InputError, match=f"sm_90a is asked for, this host offers {offered}"):
        resolve(Config(backend="sm_90a"))
    assert resolve(Config(backend="cpu")).backend == "cpu"


@pytest.mark.parametrize("backend", ["auto", "sm_90a"])
@pytest.mark.parametrize("broken", ["driver", "gpu"])
def test_nvmls_own_words_are_heard(here: Any, backend: Any, broken: str) -> None:
    words = "Driver/library version mismatch" if broken == "driver" else "GPU 1: GPU is lost"
    if broken == "driver":
        here(None, H100, init=NVMLError(18, words))
    else:
        here(None, H100, "GPU is lost")
    with pytest.raises(InputError, match=words):
        resolve(Config(backend=backend))
    assert resolve(Config(backend="cpu")).backend == "cpu"
    assert host.probe().gpus == []


@pytest.mark.parametrize("value", [9, 12])
def test_a_host_without_a_driver_is_a_cpu_host_without_a_word(here: Any, value: int) -> None:
    here(None, init=NVMLError(value, "not there"))
    told: list[str] = []
    assert resolve(Config(), told.append).backend == "cpu" and told == []


def test_a_partition_is_a_gpu_of_its_own(here: Any) -> None:
    here("MIG-1", A100, H100)
    (found,) = host.probe().gpus
    assert (found.uuid, found.memory_mib, found.capability, found.mig) == ("MIG-1", 10240, "9.0", True)
    assert host.probe().cuda_driver is None, "what the driver does not tell is unknown"
