"""host.json: what results depend on outside the checkout."""

from typing import Any, Literal

from pydantic import Field

from bakeoff.schema.base import Part

# What tells hosts of one kind apart. It is recorded, and no part of any key.
INSTANCE = ("node", "kernel", "cores")


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
    node: str | None = None
    """The host's name; null in files of older runs."""
    python: str
    gpus: list[Gpu]
    driver: str | None
    """NVIDIA driver; null without one."""
    cuda_driver: str | None
    """Newest CUDA version that the driver offers."""
    packages: dict[str, str]
    """Installed versions; a package that is not installed is not listed."""
    fingerprint: str
    """sha256 of `comparable`; in files of older runs, of everything above."""

    def comparable(self) -> dict[str, Any]:
        """What two hosts must have in common for their times to be compared: everything but which one it is
        (`INSTANCE`, and the GPUs' UUIDs), each model of GPU once."""
        known = self.model_dump(mode="json", by_alias=True, exclude={*INSTANCE, "gpus", "fingerprint"})
        models = [gpu.model_dump(mode="json", exclude={"uuid"}) for gpu in self.gpus]
        return {**known, "gpus": [model for number, model in enumerate(models) if model not in models[:number]]}
