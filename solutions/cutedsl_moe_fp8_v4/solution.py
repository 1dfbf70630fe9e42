"""CuTeDSL MoE layer in four kernels and one host call: routing, GEMM1 with gather and SwiGLU, GEMM2, combine."""

from __future__ import annotations

from .common.checks import entry_point

BACKENDS = ("cpu", "sm_90a", "sm_100a")
run = entry_point(__package__, BACKENDS)
