"""What this host is: the facts that a result depends on, and their fingerprint.

Entry points: `probe` and `write_host`. Volatile facts (free memory, temperatures, clocks of the moment) are left out,
so that the file changes exactly when the host does. Nothing is changed on the host.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

from bakeoff.files import canonical_json, pretty_json, sha256_bytes, write_atomic
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
    """Describe this host."""
    gpus, driver, cuda_driver = _gpus()
    host = Host(
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0)),
        architecture=platform.machine(),
        system=_system(),
        kernel=platform.release(),
        python=platform.python_version(),
        gpus=gpus,
        driver=driver,
        cuda_driver=cuda_driver,
        packages=_packages(),
    )
    content = host.model_dump(mode="json", by_alias=True, exclude={"fingerprint"})
    return host.model_copy(update={"fingerprint": sha256_bytes(canonical_json(content))})


def write_host(path: Path, host: Host) -> bool:
    """Write host.json if its content differs from what is there; returns whether it did. An unchanged file keeps its
    time."""
    data = pretty_json(host.model_dump(mode="json", by_alias=True))
    if path.is_file() and path.read_bytes() == data:
        return False
    write_atomic(path, data)
    return True


def visible(gpus: list[Gpu]) -> list[Gpu]:
    """Those that CUDA_VISIBLE_DEVICES leaves to this process, in its order, read as CUDA reads it: numbers (in the
    order of the
    PCI bus) or beginnings of UUIDs; what follows an unknown one does not count. NVML itself lists all that the host
    has.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return gpus
    named = {str(number): gpu for number, gpu in enumerate(gpus)}
    found: list[Gpu] = []
    for token in chosen.split(","):
        fits = [gpu for gpu in gpus if token.strip().startswith("GPU-") and gpu.uuid.startswith(token.strip())]
        one = named.get(token.strip()) or (fits[0] if len(fits) == 1 else None)
        if one is None or one in found:
            break
        found.append(one)
    return found


def _gpus() -> tuple[list[Gpu], str | None, str | None]:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return [], None, None
    try:
        gpus = visible([_gpu(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount())])
        version = pynvml.nvmlSystemGetCudaDriverVersion_v2()
        return gpus, pynvml.nvmlSystemGetDriverVersion(), f"{version // 1000}.{version % 1000 // 10}"
    finally:
        pynvml.nvmlShutdown()


def _gpu(nvml: Any, index: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)

    def ask(function: str, *arguments: Any) -> Any:
        """The answer, or None where this GPU has no such thing."""
        try:
            return getattr(nvml, function)(handle, *arguments)
        except nvml.NVMLError:
            return None

    power, ecc, mig = ask("nvmlDeviceGetEnforcedPowerLimit"), ask("nvmlDeviceGetEccMode"), ask("nvmlDeviceGetMigMode")
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    return Gpu(
        name=nvml.nvmlDeviceGetName(handle),
        uuid=nvml.nvmlDeviceGetUUID(handle),
        memory_mib=nvml.nvmlDeviceGetMemoryInfo(handle).total >> 20,
        capability=f"{major}.{minor}",
        vbios=ask("nvmlDeviceGetVbiosVersion"),
        power_limit_w=None if power is None else power / 1000,
        max_sm_mhz=ask("nvmlDeviceGetMaxClockInfo", nvml.NVML_CLOCK_SM),
        max_memory_mhz=ask("nvmlDeviceGetMaxClockInfo", nvml.NVML_CLOCK_MEM),
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
