"""Where a solution rounds: the casts that the strict gate's emulation repeats."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bakeoff.schema.base import Part

Cast = Literal["float32", "bfloat16", "fp8_block128"]
Casts = Annotated[tuple[Cast, ...], Field(min_length=1)]


class Rounding(Part):
    """The casts at three points, in order; float32 in between. fp8_block128 is e4m3 with a scale of amax / 448 per 128
    columns."""

    gemm1_output: Casts
    """What SwiGLU reads."""
    intermediate: Casts
    """What GEMM2 reads."""
    gemm2_output: Casts
    """What the weighted combine reads."""


EXACT = Rounding(gemm1_output=("float32",), intermediate=("float32",), gemm2_output=("float32",))
