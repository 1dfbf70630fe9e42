"""host.json: what results depend on outside the checkout."""

from typing import Literal

from pydantic import Field

from bakeoff.schema.base import Part


class Gpu(Part):
    """One GPU, as NVML describes it."""

    name: str
    uuid: str
    memory_mib: int | None
    """Null where the GPU does not tell."""
    capability: str
    """CUDA compute capability, such as 9.0."""
    vbios: str | None
    power_limit_w: float | None
    """Limit that is enforced now."""
    max_sm_mhz: int | None
    max_memory_mhz: int | None
    ecc: bool | None
    """Whether error correction is on; null where the GPU has none."""
    mig: bool | None
    """Whether the GPU is partitioned."""


class Host(Part):
    """host.json: what results depend on outside the checkout."""

    schema_: Literal["bakeoff/host/1"] = Field("bakeoff/host/1", alias="schema")
    cpu: str
    """Model name of the processor."""
    cores: int
    """Logical cores that this process may use."""
    architecture: str
    system: str
    """Distribution."""
    kernel: str
    python: str
    gpus: list[Gpu]
    driver: str | None
    """NVIDIA driver; null without one."""
    cuda_driver: str | None
    """Newest CUDA version that the driver offers."""
    packages: dict[str, str]
    """Installed versions; a package that is not installed is not listed."""
    fingerprint: str
    """sha256 of everything above."""
