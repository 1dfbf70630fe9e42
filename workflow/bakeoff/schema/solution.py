"""What a solution declares: where it runs, and which stage a kernel belongs to."""

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import StringConstraints, field_validator

from bakeoff.schema.base import Part
from bakeoff.schema.gates import Rounding

Stage = Literal["routing", "permute", "gemm1", "activation_quant", "gemm2", "combine", "other"]
Backend = Literal["cpu", "sm_90a", "sm_100a"]
FileFunction = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_/]+\.py::[A-Za-z_][A-Za-z0-9_]*$")]


class StageRule(Part):
    """Which stage a kernel belongs to; the first rule that matches wins."""

    kernel: str
    """Regular expression, searched in the kernel's name."""
    stage: Stage
    """The stage."""

    @field_validator("kernel")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return value


@dataclass(frozen=True)
class BackendSpec:
    """One backend of a solution."""

    design: str
    """What runs there, in a few words."""
    rounding: Rounding
    """The casts at the three points; the strict gate compares with an emulation of them."""
    compile: FileFunction | None = None
    """`file::function` that compiles every kernel without a GPU; empty where nothing is compiled."""
