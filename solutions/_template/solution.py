"""Entry point: checks the arguments, picks the backend for the tensors' device, calls cpu.py or cuda.py."""

from __future__ import annotations

from .common.checks import entry_point

BACKENDS = ("cpu",)
run = entry_point(__package__, BACKENDS)
