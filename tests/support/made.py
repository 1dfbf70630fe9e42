"""What a constructed run is like."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

from bakeoff.files import sha256_bytes

FULL = "moe_fp8_block_scale_ds_routing_topk8_ng8_kg4_e32_h7168_i2048"
NARROW = "moe_fp8_block_scale_ds_routing_topk8_ng8_kg4_e32_h512_i256"
# The rows of the published table: seq_len, local_expert_offset.
PAIRS = [
    (1, 32),
    (7, 192),
    (14, 0),
    (15, 32),
    (16, 224),
    (32, 32),
    (52, 160),
    (53, 32),
    (54, 128),
    (55, 128),
    (56, 64),
    (57, 96),
    (58, 64),
    (59, 160),
    (62, 96),
    (80, 96),
    (901, 96),
    (11948, 128),
    (14107, 32),
]
# Speed over the reference at few and at many tokens: close to the published table.
FOUR = {
    "cutedsl_moe_fp8_v3": (11.0, 10.6),
    "cutedsl_moe_fp8_v3_2": (11.8, 11.2),
    "flashinfer_moe": (31.5, 15.8),
    "triton_fused_moe_v2": (32.8, 5.0),
}


@dataclass
class Made:
    """A constructed run. `noise` is the standard deviation of a process's log time; `outliers` the share of processes
    that are 3-6 % slow."""

    name: str = "made"
    backend: str = "sm_90a"
    definition: str = FULL
    mix: dict[str, float] = field(default_factory=dict)
    protocols: list[str] = field(default_factory=lambda: ["robust"])
    slowed: dict[str | None, dict[str, float]] = field(default_factory=dict)
    """protocol -> solution -> what its times are multiplied by there."""
    rigid: list[tuple[str, str, int]] = field(default_factory=list)
    """(protocol, solution, seq_len) that cannot be timed so."""
    dataset: str = "synthetic"
    gpu: str = "NVIDIA H100 80GB HBM3"
    blocks: int = 10
    workloads: list[tuple[int, int]] = field(default_factory=lambda: list(PAIRS))
    speed: dict[str, tuple[float, float]] = field(default_factory=lambda: dict(FOUR))
    peers: list[str] = field(default_factory=list)
    noise: float = 0.004
    outliers: float = 0.02
    seed: int = 0
    factor: dict[tuple[str, int], float] = field(default_factory=dict)
    """(solution, seq_len): its time there is multiplied by this."""
    outcomes: dict[tuple[str, int], tuple[str, str | None]] = field(default_factory=dict)
    """(solution, seq_len): outcome and reason in place of PASSED; NOT_WRITTEN leaves the records out."""
    missing_blocks: dict[tuple[str, int], list[int]] = field(default_factory=dict)
    """(solution, seq_len): blocks without a sample."""
    unsupported: list[str] = field(default_factory=list)
    gate_power: bool = True
    shards: int = 1
    """Parts that the peers are dealt into; `blocks` is of all of them, and the contestants are in each."""
    selection: dict | None = None

    def shard(self, name: str) -> int | None:
        return sorted(self.peers).index(name) % self.shards if self.shards > 1 and name in self.peers else None

    def outcome(self, solution: str, seq_len: int) -> tuple[str, str | None]:
        if solution in self.unsupported:
            return "UNSUPPORTED", "no_backend"
        return self.outcomes.get((solution, seq_len), ("PASSED", None))


def identity(seq_len: int, offset: int) -> tuple[str, str]:
    """Workload id and uuid."""
    name = f"T{seq_len}_o{offset}"
    return name, str(uuid.uuid5(uuid.NAMESPACE_OID, name))


def key_of(name: str, seq_len: int, offset: int, family: str, protocol: str | None) -> str:
    return sha256_bytes(f"{name}/{seq_len}/{offset}/{family}/{protocol}".encode())
