"""The fused MoE kernel of a newer FlashInfer for Blackwell, compiled from source where it runs."""

from __future__ import annotations

from .common.checks import entry_point

BACKENDS = ("cpu", "sm_100a")
run = entry_point(__package__, BACKENDS)
