"""Triton kernels alone, with a grouped GEMM that gathers its rows: what a user without a GEMM library would write."""

from __future__ import annotations

from .common.checks import entry_point

BACKENDS = ("cpu", "sm_90a")
run = entry_point(__package__, BACKENDS)
