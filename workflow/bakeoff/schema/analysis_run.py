"""Parts of the analysis document: what was run, where, and what came out of every cell."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field

from bakeoff.schema.base import Estimate, Part
from bakeoff.schema.build import KernelRecord
from bakeoff.schema.gates import Gate, Numerics
from bakeoff.schema.outcomes import Outcome

Status = Literal["ok", "warning", "failed", "not_applicable"]
Scalar = str | int | float | bool | None
# A check of ten thousand cells names the first few; the cells have the rest.
MOST_ITEMS = 20


class RunHeader(Part):
    """What was run. A published table fills what it recorded and leaves the rest null."""

    kind: Literal["run", "published"]
    """`run`: made by this project; `published`: a table of speedups without its samples."""
    id: str
    """Short name, unique among results: the run's name or the published folder's."""
    title: str
    """One line for headings."""
    date: str | None = None
    """Day of the published measurement (YYYY-MM-DD); null for a run, whose documents hold no time."""
    backend: str
    """`cpu`, `sm_90a` or `sm_100a`."""
    hardware: str | None = None
    """Model of the GPU (or, on the cpu backend, of the CPU); null if it was not recorded."""
    definition: str
    """Name of the definition."""
    definition_axes: dict[str, int] = Field(default_factory=dict)
    """The definition's constant axes; empty if the definition is not among the traces."""
    dataset: str | None = None
    """`synthetic`, or `public` for the flashinfer-trace data set; null if it was not recorded."""
    protocol: str | None = None
    """Timing protocol of the figures here (`robust` or `fib-0.1.2`)."""
    other_protocols: list[str] = Field(default_factory=list)
    """Protocols that the run measured as well; they are analysed on their own."""
    families: list[str] = Field(default_factory=list)
    """Value families that were verified; the first is the timed one."""
    seeds: list[int] = Field(default_factory=list)
    """Seeds of the input values that were verified; the first is the timed one."""
    blocks: int
    """Blocks planned; 1 for a published table; the number of samples where runs are analysed together. Verdicts need at
    least 5."""
    gpus: int = 1
    """GPUs that the figures rest on."""
    unit: Literal["block", "gpu"] = "block"
    """What one sample is: a block, so that intervals speak for these GPUs; or a GPU's mean, so that they speak for the
    model."""
    timeout_s: int | None = None
    """Limit for one cell, in seconds."""
    rtol: float | None = None
    """Relative tolerance of the published gate."""
    atol: float | None = None
    """Absolute tolerance of the published gate."""
    required_matched_ratio: float | None = None
    """Share of elements that must match in the published gate."""
    image: str | None = None
    """Container image digest; null outside containers."""
    time_tier: str | None = None
    """Which time the latencies are (`cupti_span_us`, `event_us`, `wall_us`); null if it was not recorded."""


@dataclass(frozen=True)
class Fact:
    """One recorded fact about the environment."""

    group: Literal["host", "gpu", "software", "inputs", "run"]
    """Where it belongs."""
    key: str
    """Name, e.g. `driver` or `torch`."""
    value: Scalar
    """The value; null if it is known that nothing was recorded."""
    unit: str | None = None
    """Unit of a number."""


@dataclass(frozen=True)
class Check:
    """One condition for the run to be valid, and how it came out."""

    code: Literal[
        "cells_complete",  # every planned cell has an outcome
        "cells_passed",  # every planned cell PASSED
        "verifications_passed",  # every further family and seed PASSED
        "blocks_enough",  # verdicts were possible
        "blocks_complete",  # every cell with figures has them from every planned block; given only if one has not
        "samples_disturbed",  # samples discarded for throttling or a foreign process
        "tiers_missing",  # time tiers that the host could not record
        "gate_power",  # the strict gate kills enough mutants
        "twins_same",  # no solution is called faster or slower than itself under another name
        "same_reference",  # the reference was measured in every block
        "values_recorded",  # published tables: what the publication did not record
    ]
    """Which condition."""
    status: Status
    """`failed` makes the run's figures unusable as a comparison; a `warning` is shown beside them."""
    found: int | float | None = None
    """Count or share found."""
    of: int | float | None = None
    """Count that was due, or the bound."""
    items: list[str] = field(default_factory=list)
    """What was affected (`solution/workload`, a tier, an unrecorded fact), at most 20."""
    more: int = 0
    """Further ones that `items` has no room for."""

    @classmethod
    def over(cls, affected: Sequence[str], **fields: Any) -> "Check":
        """A condition with all that was affected, of which it lists the first."""
        return cls(items=list(affected[:MOST_ITEMS]), more=max(0, len(affected) - MOST_ITEMS), **fields)


class AnalysedWorkload(Part):
    """One (seq_len, local_expert_offset) pair."""

    id: str
    """E.g. `T901_o96`."""
    seq_len: int
    """Tokens."""
    offset: int | None = None
    """First of the 32 local experts; null if the table did not say."""
    uuid: str | None = None
    """The workload's identifier in the traces; null in published tables."""
    seed: int | None = None
    """Seed of the synthetic routing; null for a data set and for published tables."""
    local_pairs: int | None = None
    """(token, local expert) pairs; null for a published table, whose routing is not here."""
    active_tokens: int | None = None
    """Tokens with at least one local expert."""
    active_experts: int | None = None
    """Local experts with at least one token."""
    floor_bytes: int | None = None
    """Bytes that must be moved at least, by its own routing; null where that is unknown, and on the cpu backend."""
    floor_flops: int | None = None
    """Floating point operations that must be done at least."""
    floor_us: float | None = None
    """Time of the two at the sourced peaks of this GPU; null if its peaks are not listed."""
    floor_bound: Literal["memory", "compute"] | None = None
    """Which peak sets `floor_us`."""
    reference_us: Estimate | None = None
    """Latency of the reference: geometric mean over blocks; null if performance is not shown."""


class AnalysedCell(Part):
    """One (solution, workload)."""

    solution: str
    """Name of the solution."""
    workload: str
    """Id of the workload."""
    outcome: Outcome
    """PASSED or why not (the closed list of outcomes; the worst over blocks); NOT_RUN for a missing cell."""
    reason: str | None = None
    """Code of the reason, if the outcome has one."""
    detail: str | None = None
    """What happened, in the harness's words."""
    hint: str | None = None
    """What to do about it."""
    published_gate: Gate | None = None
    """FlashInfer-Bench's gate; null where no output was judged."""
    strict_gate: Gate | None = None
    """The strict gate over rows with local experts; null where no output was judged."""
    numerics: Numerics | None = None
    """The worst over blocks; null where no output was judged."""
    latency_us: Estimate | None = None
    """Geometric mean of the processes' values over the blocks that the cell and the reference share. Null if the cell
    did not pass or performance is not shown."""
    median_us: Estimate | None = None
    """Median of the same values: a lone slow process does not move it."""
    block_us: list[float] = Field(default_factory=list)
    """The latency in each block's process, in their order; empty where performance is not shown."""
    speedup: Estimate | None = None
    """The reference's latency over the solution's, over the same blocks. A published value has no interval."""
    busy_speedup: Estimate | None = None
    """The same of busy times, in which no GPU waits for the host; null where the host gave none."""
    host_us: float | None = None
    """Time that the host spends in an eager call, microseconds; null where it was not timed."""
    blocks: int = 0
    """Blocks that latency and speedup rest on: they hold a time of the solution and of the reference. Without a
    speedup, those with a time of the solution."""
    mde: float | None = None
    """Least difference to `mde_against` that this many blocks find with power 0.8 at the corrected level (0.03 is 3
    %)."""
    mde_against: str | None = None
    """The fastest other contestant here; null if there is none."""
    outlier_blocks: list[int] = Field(default_factory=list)
    """Blocks whose process was an outlier: over 3 % and over 5 robust deviations off the median."""
    floor_share: float | None = None
    """Floor time over latency: 1 is as fast as can be; null without a floor."""
    discarded: int = 0
    """Samples thrown away as disturbed."""
    missing_tiers: dict[str, str] = Field(default_factory=dict)
    """Time tiers that are missing, each with the reason."""
    warnings: list[str] = Field(default_factory=list)
    """The harness's warnings for this cell."""


@dataclass(frozen=True)
class VerificationSummary:
    """All workloads of one solution under one value family and seed."""

    solution: str
    """Name of the solution."""
    family: str
    """Value family (`fib`, `realistic`)."""
    seed: int
    """Seed of the values."""
    due: int
    """Workloads that had to be verified."""
    passed: int
    """Of these, PASSED under both gates."""
    failed: list[str] = field(default_factory=list)
    """Workloads that did not pass, or are missing."""
    wrong: list[str] = field(default_factory=list)
    """Of `failed`, those with a wrong output."""
    worst_relative_l2: float | None = None
    """Largest relative L2 error."""
    worst_calc_diff: float | None = None
    """Largest calc_diff."""
    least_matched_active: float | None = None
    """Least matched ratio on active rows."""
    widest_scale: float | None = None
    """Best-fit scale farthest from 1."""


@dataclass(frozen=True)
class Build:
    """One solution compiled for one architecture."""

    solution: str
    """Name of the solution."""
    arch: str
    """`cpu`, `sm_90a` or `sm_100a`."""
    status: str
    """As the build wrote it (`ok`, `failed`, ...)."""
    digest: str | None = None
    """sha256 of the packed solution."""
    executed: bool = False
    """Whether this run ran it; otherwise it is compiled, never executed here."""
    kernels: list[KernelRecord] = field(default_factory=list)
    """Every compiled kernel; empty on the cpu backend."""
