"""humming's grouped GEMMs with Triton kernels around them: the FP8 grouped GEMMs that vLLM offers."""

from __future__ import annotations

from .common.checks import entry_point

BACKENDS = ("cpu", "sm_90a")
run = entry_point(__package__, BACKENDS)
