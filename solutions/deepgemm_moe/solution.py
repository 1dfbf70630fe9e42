"""DeepGEMM's contiguous grouped GEMM with Triton kernels around it: what a Hopper user would pick instead.

DeepGEMM wants UE8M0 scales on Blackwell, which the definition does not have, so there is no backend for it.
"""

from __future__ import annotations

from .common.checks import entry_point

BACKENDS = ("cpu", "sm_90a")
run = entry_point(__package__, BACKENDS)
