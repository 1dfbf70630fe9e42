"""CuTeDSL flat 2D grouped GEMM over 128-aligned expert groups, with a quantization kernel of its own after GEMM1."""

from __future__ import annotations

from .common.checks import entry_point

BACKENDS = ("cpu", "sm_90a", "sm_100a")
run = entry_point(__package__, BACKENDS)
