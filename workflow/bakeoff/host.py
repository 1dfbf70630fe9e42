"""What this host is: the facts that a result depends on, and their fingerprint.

Entry points: `probe`, `write_host`, `differences` and `gpus`. Volatile facts (free memory, temperatures, clocks of the
moment) are left out, so that the file changes exactly when the host does. Nothing is changed on the host.
"""

import importlib.metadata
import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from bakeoff.files import canonical_json, model_json, sha256_bytes, write_atomic
from bakeoff.schema.host import Gpu, Host

# Distributions whose version can change a result, on the CPU or on a GPU.
PACKAGES = (
    "torch",
    "triton",
    "numpy",
    "nvidia-cutlass-dsl",
    "apache-tvm-ffi",
    "sglang-kernel",
    "sgl-kernel",
    "sgl-deep-gemm",
    "flashinfer-python",
    "flashinfer-cubin",
    "cupti-python",
    "nvidia-ml-py",
    "flashinfer-bench",
    "snakemake",
)


def probe() -> Host:
    """Describe this host. One whose NVML does not answer has no GPU: whoever asks for one is told why (config)."""
    try:
        gpus, driver, cuda_driver = _gpus()
    except NvmlError:
        gpus, driver, cuda_driver = [], None, None
    host = Host(
        cpu=_cpu_model(),
        cores=len(psutil.Process().cpu_affinity()),
        architecture=platform.machine(),
        system=_system(),
        kernel=platform.release(),
        node=os.environ.get("SLURMD_NODENAME") or platform.node(),
        python=platform.python_version(),
        gpus=gpus,
        driver=driver,
        cuda_driver=cuda_driver,
        packages=_packages(),
        fingerprint="",
    )
    return host.model_copy(update={"fingerprint": sha256_bytes(canonical_json(host.comparable()))})


def differences(here: Host, planned: Host) -> list[str]:
    """What keeps times of the two from being compared, a phrase for each fact."""
    sides = here.comparable(), planned.comparable()
    found: list[str] = []
    for key in sides[0]:
        ours, theirs = sides[0][key], sides[1][key]
        if key == "packages":
            found += [
                f"{name} {ours.get(name, 'not installed')} instead of {theirs.get(name, 'none')}"
                for name in sorted({**ours, **theirs})
                if ours.get(name) != theirs.get(name)
            ]
        elif key == "gpus" and len(ours) == len(theirs):
            found += [
                f"GPU {fact.replace('_', ' ')} {one[fact]} instead of {other[fact]}"
                for one, other in zip(ours, theirs, strict=True)
                for fact in one
                if one[fact] != other[fact]
            ]
        elif ours != theirs:
            names = (
                [", ".join(gpu["name"] for gpu in some) or "none" for some in (ours, theirs)] if key == "gpus" else []
            )
            found.append(f"{key} {' instead of '.join(names or map(str, (ours, theirs)))}")
    return found


def write_host(path: Path, host: Host) -> bool:
    """Write host.json if its content differs from what is there; returns whether it did. An unchanged file keeps its
    time."""
    data = model_json(host)
    if path.is_file() and path.read_bytes() == data:
        return False
    write_atomic(path, data)
    return True


class NvmlError(Exception):
    """NVML is there and does not answer; says in its own words why."""


def gpus() -> list[Gpu]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves to this process; none without a driver. Raises NvmlError."""
    return _gpus()[0]


def visible(
    gpus: Sequence[Gpu | NvmlError], partition: Callable[[str], Gpu | None] = lambda uuid: None
) -> list[Gpu | NvmlError]:
    """Those that CUDA_VISIBLE_DEVICES leaves to this process, in its order, read as CUDA reads it: numbers (in the
    order of the PCI bus), beginnings of UUIDs, or whole UUIDs of MIG partitions; what follows an unknown one does not
    count. NVML itself lists all that the host has.

    gpus: all, an error in place of one that does not answer; partition: the MIG partition of a UUID, as a GPU of its
    own, None if there is none.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return list(gpus)
    named = {str(number): gpu for number, gpu in enumerate(gpus)}
    told = [gpu for gpu in gpus if isinstance(gpu, Gpu)]
    found: list[Gpu | NvmlError] = []
    for token in (each.strip() for each in chosen.split(",")):
        fits = [gpu for gpu in told if token.startswith("GPU-") and gpu.uuid.startswith(token)]
        one = named.get(token) or (fits[0] if len(fits) == 1 else None)
        if token.startswith("MIG-"):
            one = partition(token)
        if one is None or one in found:
            break
        found.append(one)
    return found


def _gpus() -> tuple[list[Gpu], str | None, str | None]:
    """The visible GPUs, the driver's version, and the newest CUDA version that it offers."""
    import pynvml as nvml

    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        if error.value in (nvml.NVML_ERROR_LIBRARY_NOT_FOUND, nvml.NVML_ERROR_DRIVER_NOT_LOADED):
            return [], None, None
        raise NvmlError(str(error)) from error
    try:
        there = [_gpu_or_error(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]
        version = _ask(nvml, "nvmlSystemGetCudaDriverVersion_v2")
        cuda = None if version is None else f"{version // 1000}.{version % 1000 // 10}"
        gpus = []
        for gpu in visible(there, lambda uuid: _partition(nvml, uuid)):
            if isinstance(gpu, NvmlError):
                raise gpu
            gpus.append(gpu)
        return gpus, _ask(nvml, "nvmlSystemGetDriverVersion"), cuda
    except nvml.NVMLError as error:
        raise NvmlError(str(error)) from error
    finally:
        nvml.nvmlShutdown()


def _ask(nvml: Any, function: str, *arguments: Any) -> Any:
    """NVML's answer, or None where this GPU or driver has no such thing."""
    try:
        return getattr(nvml, function)(*arguments)
    except nvml.NVMLError:
        return None


def _memory_mib(nvml: Any, handle: Any) -> int | None:
    found = _ask(nvml, "nvmlDeviceGetMemoryInfo", handle)
    return None if found is None else found.total >> 20


def _partition(nvml: Any, uuid: str) -> Gpu | None:
    """A MIG partition as a GPU of its own, with what NVML tells of the GPU that it is a part of."""
    try:
        handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
        whole = _gpu(nvml, nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle))
    except nvml.NVMLError:
        return None
    return whole.model_copy(update={"uuid": uuid, "memory_mib": _memory_mib(nvml, handle), "mig": True})


def _gpu_or_error(nvml: Any, index: int) -> Gpu | NvmlError:
    try:
        return _gpu(nvml, nvml.nvmlDeviceGetHandleByIndex(index))
    except nvml.NVMLError as error:
        return NvmlError(f"GPU {index}: {error}")


def _gpu(nvml: Any, handle: Any) -> Gpu:
    power = _ask(nvml, "nvmlDeviceGetEnforcedPowerLimit", handle)
    ecc, mig = _ask(nvml, "nvmlDeviceGetEccMode", handle), _ask(nvml, "nvmlDeviceGetMigMode", handle)
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    return Gpu(
        name=nvml.nvmlDeviceGetName(handle),
        uuid=nvml.nvmlDeviceGetUUID(handle),
        memory_mib=_memory_mib(nvml, handle),
        capability=f"{major}.{minor}",
        vbios=_ask(nvml, "nvmlDeviceGetVbiosVersion", handle),
        power_limit_w=None if power is None else power / 1000,
        max_sm_mhz=_ask(nvml, "nvmlDeviceGetMaxClockInfo", handle, nvml.NVML_CLOCK_SM),
        max_memory_mhz=_ask(nvml, "nvmlDeviceGetMaxClockInfo", handle, nvml.NVML_CLOCK_MEM),
        ecc=None if ecc is None else bool(ecc[0]),
        mig=None if mig is None else bool(mig[0]),
    )


def _packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


def _system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")
    except OSError:
        return "unknown"
