"""build.json: what a build did. A pure data model, read by the analysis and shown in the report."""

from typing import Any, Literal

from pydantic import Field

from bakeoff.schema.base import Part, Said
from bakeoff.schema.solution import Backend, Stage


class KernelRecord(Part):
    """One compiled kernel: its files and what it uses. Registers, stack and spills are per thread, memory per block."""

    name: str
    """Name, unique within the solution and architecture."""
    stage: Stage
    """The stage that it belongs to."""
    cubin: str
    """File of the machine code, beside build.json."""
    ptx: str
    """File of the PTX, beside build.json."""
    registers: int
    """Registers per thread."""
    static_shared_bytes: int
    """Shared memory that the code declares."""
    dynamic_shared_bytes: int | None
    """Shared memory that the launch asks for; null where the solution does not say."""
    shared_bytes: int | None
    """Both together; null where one is unknown."""
    tmem_columns: int | None
    """Columns of tensor memory, 0 where none is used; null if unknown."""
    stack_bytes: int
    """Stack frame."""
    spill_bytes: int
    """Bytes stored to and loaded from local memory, each instruction counted once."""
    mma: dict[str, int]
    """Matrix instructions in the machine code: wgmma, tcgen05, mma.sync."""
    mma_expected: Literal["wgmma", "tcgen05", "mma.sync"] | None
    """The family that the kernel is written for; null for a kernel without matrix instructions."""
    meta: dict[str, Any]
    """What the solution says about the kernel: tile sizes, stages, threads."""


class BuildRecord(Part):
    """A solution packed, checked and, for a GPU, compiled."""

    schema_: Literal["bakeoff/build/1"] = Field("bakeoff/build/1", alias="schema")
    solution: str
    """The solution's name."""
    arch: Backend
    """Which backend was built."""
    definition: str
    """Definition that the solution is packed for."""
    digest: str
    """sha256 of the packed solution."""
    status: Literal["ok", "failed", "unsupported"]
    """unsupported: the solution has no such backend."""
    message: Said | None = None
    """Why it failed or is unsupported; null otherwise."""
    toolchain: dict[str, str] = Field(default_factory=dict)
    """Versions of what compiled it; empty if nothing was compiled."""
    kernels: list[KernelRecord] = Field(default_factory=list)
    """Every kernel, in the order in which the solution yields them."""
