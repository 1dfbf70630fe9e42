"""The least that each stage can cost as kernels of its own: its bytes to and from memory, and its FLOPs.

Entry points: `stage_floors` and `L2_BYTES`. Unlike the workload's floor these count what one stage hands to the next,
in the format that the solution declares, but only what the L2 cache cannot hold: a stage may find that much of what it
reads there, and leave that much of what it writes. Inputs and weights come from memory. The zero rows of tokens without
a local expert stand in no stage's floor, because any stage may write them. Counted with `moe.floors`' conventions.
"""

from __future__ import annotations

from dataclasses import dataclass

from bakeoff.core.moe.floors import Peak, Work
from bakeoff.core.moe.geometry import Geometry
from bakeoff.schema.rounding import Rounding

# Of H100 and H200 (NVIDIA H100 white paper: 50 MB), and of B200 as CUDA reports it (126 MB).
L2_BYTES = {"sm_90a": 50 << 20, "sm_100a": 126 << 20}


@dataclass(frozen=True)
class StageFloor:
    """bytes: to or from memory; flops: 0 where a stage multiplies no matrices."""

    bytes: float
    flops: float

    def us(self, peak: Peak) -> float:
        """Microseconds at the given rates; traffic and arithmetic overlap perfectly."""
        return max(self.bytes / peak.bandwidth, self.flops / peak.fp8) * 1e6

    def limit(self, peak: Peak) -> str:
        """Which of the two takes longer: `memory` or `tensor`."""
        return "memory" if self.bytes / peak.bandwidth >= self.flops / peak.fp8 else "tensor"


def stage_floors(
    geometry: Geometry, seq_len: int, stats: Work, rounding: Rounding, l2_bytes: int
) -> dict[str, StageFloor]:
    """Floors of the six named stages; `other` has none."""
    g, pairs, experts = geometry, stats.local_pairs, stats.active_experts
    hidden, inner = pairs * g.hidden, pairs * g.intermediate

    def moved(elements: float, cast: str) -> float:
        """Bytes of a tensor between a stage and memory: those that the cache cannot hold."""
        return max(0.0, elements * _element_bytes(cast, g.block) - l2_bytes)

    rows = moved(hidden, "fp8_block128")
    w1, w2 = 2 * g.intermediate * g.hidden, g.hidden * g.intermediate
    scale_bytes = 4 / g.block**2  # one float32 for a block of 128 x 128 weights
    first, *further = (moved(2 * inner, cast) for cast in rounding.gemm1_output)
    middle = moved(inner, rounding.intermediate[-1])
    last = moved(hidden, rounding.gemm2_output[-1])
    summed = moved(stats.active_tokens * g.hidden, "bfloat16")
    return {
        "routing": StageFloor(seq_len * g.experts * 4 + g.experts * 2, 0),
        "permute": StageFloor(stats.active_tokens * (g.hidden + 4 * g.hidden_blocks) + rows, 0),
        "gemm1": StageFloor(rows + experts * w1 * (1 + scale_bytes) + first, 2 * pairs * w1),
        "activation_quant": StageFloor(first + sum(2 * size for size in further) + middle, 0),
        "gemm2": StageFloor(middle + experts * w2 * (1 + scale_bytes) + last, 2 * pairs * w2),
        "combine": StageFloor(last + summed, 0),
    }


def _element_bytes(cast: str, block: int) -> float:
    return {"float32": 4.0, "bfloat16": 2.0, "fp8_block128": 1 + 4 / block}[cast]
