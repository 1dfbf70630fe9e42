"""FlashInfer's native fused MoE on Blackwell; on Hopper, where it does not run, a composition of FlashInfer's parts."""

from __future__ import annotations

from .common.checks import entry_point

BACKENDS = ("cpu", "sm_90a", "sm_100a")
run = entry_point(__package__, BACKENDS)
