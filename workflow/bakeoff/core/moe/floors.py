"""The least that a workload can cost: bytes that must cross the memory bus and FLOPs, from its own routing.

Counted once: inputs that some output depends on (weights of active experts, activations of active tokens) and the
output. Not counted: anything that stays on the chip in an ideal fusion, such as GEMM1's output. So a floor is a bound,
not a goal. `floor` is that of a whole workload, `stage_floors` those of its stages.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from bakeoff.core.moe.geometry import Geometry
from bakeoff.schema.gates import Rounding


class Work(Protocol):
    """What a workload's routing gives the rank (bakeoff.traces.models.RoutingStats has it); fractions are
    expectations."""

    @property
    def local_pairs(self) -> float: ...
    @property
    def active_tokens(self) -> float: ...
    @property
    def active_experts(self) -> float: ...


@dataclass(frozen=True)
class Peak:
    """A GPU's sourced peaks. bandwidth: bytes per second; fp8: dense FP8 FLOP per second; source: where they are
    published."""

    bandwidth: float
    fp8: float
    source: str


@dataclass(frozen=True)
class LowerBound:
    """bytes: to or from memory; flops: of the GEMMs; parts: the bytes by what they are, where that is told."""

    bytes: float
    flops: float
    parts: Mapping[str, int] = field(default_factory=dict)

    def us(self, peak: Peak) -> float:
        """Time at a GPU's peaks, microseconds: memory traffic and arithmetic overlap perfectly."""
        return max(self.bytes / peak.bandwidth, self.flops / peak.fp8) * 1e6

    def at_memory(self, peak: Peak) -> bool:
        """Whether the traffic takes longer, not the arithmetic."""
        return self.bytes / peak.bandwidth >= self.flops / peak.fp8


_H100_SHEET = "NVIDIA H100 Tensor Core GPU data sheet; FP8 is printed with sparsity, twice the dense rate"
_H200_SHEET = "NVIDIA H200 Tensor Core GPU data sheet; FP8 is printed with sparsity, twice the dense rate"
_DGX_B200_SHEET = "NVIDIA DGX B200 data sheet, an eighth of the system: 64 TB/s, 72 PFLOPS of FP8 with sparsity"

# By the name that the driver (NVML) gives the GPU.
PEAKS: dict[str, Peak] = {
    "NVIDIA B200": Peak(8.0e12, 4500e12, _DGX_B200_SHEET),
    "NVIDIA H200": Peak(4.8e12, 1979e12, f"{_H200_SHEET} (SXM: 4.8 TB/s, 3958 TFLOPS)"),
    "NVIDIA H200 NVL": Peak(4.8e12, 1670.5e12, f"{_H200_SHEET} (NVL: 4.8 TB/s, 3341 TFLOPS)"),
    "NVIDIA H100 80GB HBM3": Peak(3.35e12, 1979e12, f"{_H100_SHEET} (SXM: 3.35 TB/s, 3958 TFLOPS)"),
    "NVIDIA H100 NVL": Peak(3.9e12, 1670.5e12, f"{_H100_SHEET} (NVL: 3.9 TB/s, 3341 TFLOPS)"),
    "NVIDIA H100 PCIe": Peak(2.0e12, 1513e12, f"{_H100_SHEET} (PCIe: 2 TB/s, 3026 TFLOPS)"),
}
# Of H100 and H200 (NVIDIA H100 white paper: 50 MB), and of B200 as CUDA reports it (126 MB).
L2_BYTES = {"sm_90a": 50 << 20, "sm_100a": 126 << 20}

# What is published of a B200 differs by board and power limit: the lowest and the highest of it.
B200_RANGE = (
    Peak(7.7e12, 4500e12, "HGX B200 of 180 GB, 1,000 W"),
    Peak(8.0e12, 5000e12, "as in a GB200, 1,200 W"),
)


def b200_range(least: LowerBound) -> tuple[float, float]:
    """The least that a workload takes a B200, microseconds: at the highest and at the lowest published rates."""
    slow, fast = (least.us(peak) for peak in B200_RANGE)
    return fast, slow


def floor(geometry: Geometry, seq_len: int, stats: Work) -> LowerBound:
    """Least bytes and FLOPs of `seq_len` tokens whose routing gives `stats`."""
    g = geometry
    weight = 3 * g.intermediate * g.hidden  # W1 (2I x H) and W2 (H x I) of one expert, one byte each
    weight_scale = 4 * 3 * g.intermediate_blocks * g.hidden_blocks
    parts = {
        "weights": stats.active_experts * (weight + weight_scale),
        "activations": stats.active_tokens * (g.hidden + 4 * g.hidden_blocks),
        "routing": seq_len * g.experts * 4 + g.experts * 2,
        "output": seq_len * g.hidden * 2,  # also the rows that are zero
    }
    rounded = {name: round(value) for name, value in parts.items()}
    return LowerBound(sum(rounded.values()), round(2 * weight * stats.local_pairs), rounded)


def stage_floors(
    geometry: Geometry, seq_len: int, stats: Work, rounding: Rounding, l2_bytes: int
) -> dict[str, LowerBound]:
    """Least bytes and FLOPs of each stage as kernels of its own; `other` has none.

    Unlike the workload's floor they count what one stage hands to the next, in the format that the solution declares,
    but only what an L2 cache of `l2_bytes` cannot hold: a stage may find that much of what it reads there, and leave
    that much of what it writes. Inputs and weights come from memory. The zero rows of tokens without a local expert
    stand in no stage's floor, because any stage may write them.
    """
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
        "routing": LowerBound(seq_len * g.experts * 4 + g.experts * 2, 0),
        "permute": LowerBound(stats.active_tokens * (g.hidden + 4 * g.hidden_blocks) + rows, 0),
        "gemm1": LowerBound(rows + experts * w1 * (1 + scale_bytes) + first, 2 * pairs * w1),
        "activation_quant": LowerBound(first + sum(2 * size for size in further) + middle, 0),
        "gemm2": LowerBound(middle + experts * w2 * (1 + scale_bytes) + last, 2 * pairs * w2),
        "combine": LowerBound(last + summed, 0),
    }


def _element_bytes(cast: str, block: int) -> float:
    return {"float32": 4.0, "bfloat16": 2.0, "fp8_block128": 1 + 4 / block}[cast]
