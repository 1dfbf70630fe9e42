"""Preallocated buffers, the grouped GEMM of sgl_kernel, and Triton kernels for all that stands around it."""

from __future__ import annotations

from .common.checks import entry_point

BACKENDS = ("cpu", "sm_90a", "sm_100a")
run = entry_point(__package__, BACKENDS)
