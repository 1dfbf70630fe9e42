"""config.json: the cells of a run, each with the key of everything that its result depends on."""

from typing import Literal

from pydantic import Field

from bakeoff.schema.base import Part
from bakeoff.schema.gates import Rounding
from bakeoff.schema.selection import Selection
from bakeoff.schema.solution import Backend, StageRule
from bakeoff.traces.models import Workload
from bakeoff.traces.store import RoutingStats

LEADING = 10  # of many solutions, those that are compared with each other


class ProfileConfig(Part):
    """What is profiled. A profile never times."""

    tier: Literal["none", "auto", "nsys", "cupti", "ncu"] = "auto"
    """Source of the timeline and counters. auto: the best that the host permits; on the cpu backend nothing."""
    cells: Literal["all"] | list[str] = "all"
    """Workload ids to profile, or all."""
    solutions: Literal["all"] | list[str] = "all"
    """Solutions to profile, or all."""


class Participant(Part):
    """A solution that takes part in a run or stands in a published table, or the reference."""

    name: str
    """Folder name, or the published column's; the key in all other parts."""
    role: Literal["contestant", "peer", "reference"] = "contestant"
    """Winners, claims and the published form count contestants only; a published table has no others."""
    label: str
    """Short name for headings and charts."""
    description: str | None = None
    """One sentence on the design."""
    design: str | None = None
    """What runs on this run's backend; null for the reference."""
    digest: str | None = None
    """sha256 of the packed solution, or of the definition for the reference; null in published tables."""
    build: str | None = None
    """Packed solution, relative to the run's folder; null for the reference, and for what cannot be packed."""
    supported: bool = True
    """False where the solution declares no such backend: its cells are UNSUPPORTED."""
    rounding: Rounding | None = None
    """The casts that the backend declares; null for the reference and where they are unknown."""
    stages: list[StageRule] = Field(default_factory=list)
    """Kernel name pattern -> stage, first match wins."""
    twin_of: str | None = None
    """The solution that this one is again, under another name: what the two show against each other is noise."""
    shard: int | None = None
    """The shard that it is measured in; null where it is in all."""

    @property
    def elsewhere(self) -> bool:
        """Whether it is a peer that is not made for the run's chip: no verdict counts its cells, which are
        UNSUPPORTED; a contestant's count."""
        return self.role == "peer" and not self.supported


class PlannedWorkload(Part):
    """A workload with what its routing makes of it."""

    id: str
    seq_len: int
    offset: int
    """First of the 32 local experts."""
    factor: float
    """routed_scaling_factor."""
    uuid: str
    seed: int | None
    """Seed of the synthetic routing; null for a data set."""
    source: Workload | None = None
    """The data set's own workload; null for synthetic routing."""
    stats: RoutingStats
    digest: str


class PlannedCell(Part):
    """One thing to do. A measure cell is due in all blocks of its protocol and also verifies what it timed; a verify
    cell is due once, in block 0."""

    participant: str
    workload: str
    kind: Literal["measure", "verify"]
    protocol: str | None
    """null for a verify cell."""
    family: Literal["fib", "realistic"]
    seed: int
    key: str


class Plan(Part):
    """config.json: the resolved configuration and every cell that the run must have."""

    schema_: Literal["bakeoff/plan/1"] = Field("bakeoff/plan/1", alias="schema")
    run: str
    title: str
    backend: Backend
    definition: str
    dataset: str
    protocols: list[str]
    protocol_blocks: dict[str, int] = Field(default_factory=dict)
    """Blocks that measure a protocol, the first ones, where that is not all."""
    families: list[str]
    seeds: list[int]
    blocks: int
    balanced: bool = False
    """Whether the order of participants is balanced over blocks; older runs drew each."""
    mix: dict[str, float] = Field(default_factory=dict)
    """Weights of workloads in a mean of latencies beside the others."""
    shards: int = 1
    """Parts that the solutions are dealt into; a block is of one."""
    anchors: list[str] = Field(default_factory=list)
    """Solutions that are in every shard, and that every other one is compared with."""
    selection: Selection | None = None
    """The screening whose leading solutions this run confirms; null for any other run."""
    leading: int = LEADING
    """How many of many solutions are compared with each other and shown."""
    timeout_s: int
    threads: int
    gpus: int
    profile: ProfileConfig = Field(default_factory=ProfileConfig)
    lock_clocks_mhz: int | None
    image: str | None
    traces_root: str
    host_fingerprint: str
    harness: str
    commit: str | None = None
    """Commit of the checkout that planned the run, with -dirty where files differed; null outside of git and in older
    runs. No cell depends on it."""
    participants: list[Participant]
    unpacked: dict[str, str] = Field(
        default_factory=dict,
        description="Solutions that cannot be packed, and why: each of their cells is a COMPILE_ERROR.",
    )
    workloads: list[PlannedWorkload]
    cells: list[PlannedCell]

    @property
    def solutions(self) -> list[Participant]:
        """All that take part but the reference."""
        return [who for who in self.participants if who.role != "reference"]

    @property
    def blocks_each(self) -> int:
        """Blocks that a solution is in, if it is no anchor."""
        return self.blocks // self.shards

    def blocks_of(self, protocol: str | None) -> int:
        """In how many blocks, the first ones, a protocol's cells are due; those without one are verified in the first
        one that holds their solution."""
        return self.shards if protocol is None else self.protocol_blocks.get(protocol, self.blocks)

    def present(self, block: int) -> list[Participant]:
        """The participants of a block: of its shard, and those that are in all."""
        return [who for who in self.participants if who.shard in (None, block % self.shards)]

    def due(self, block: int) -> list[PlannedCell]:
        """The cells of a block, in the plan's order."""
        shard = {who.name: who.shard for who in self.present(block)}
        return [
            cell
            for cell in self.cells
            if cell.participant in shard
            and block < self.blocks_of(cell.protocol)
            and (cell.protocol or block == (shard[cell.participant] or 0))
        ]
