"""The analysis document, analysis.json: everything that a report shows, as facts without wording.

Entry point: `Analysis`. Conventions, the same in every part:
- times are in microseconds; shares, deviations and effects are ratios (0.03 is 3 %), except where a field says percent;
- a comparison "a against b" is a speed ratio, b's time over a's: above 1 means that a is faster;
- null is "there is none" (not measured, not applicable, too few blocks), never zero; NaN and infinity are refused;
- lists keep the order of the run's configuration (participants, workloads), so that equal runs give equal bytes;
- nothing here holds a time stamp or names the machine that analysed.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from bakeoff.profile.section import ProfileSection

Scalar = str | int | float | bool | None


class Part(BaseModel):
    """Base of all parts; the text under a field is its description in the JSON Schema."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class Estimate(Part):
    """A figure, and how sure it is."""

    value: float
    """The figure itself, in the unit of the field that holds it."""
    low: float | None = None
    """Lower end of the 95 % interval; null with fewer than two blocks."""
    high: float | None = None
    """Upper end of the 95 % interval; null with fewer than two blocks."""


class Verdict(StrEnum):
    """What the data say about a against b."""

    FASTER = "FASTER"
    SLOWER = "SLOWER"
    SAME = "SAME"
    AMBIGUOUS = "AMBIGUOUS"


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
    """Blocks planned; 1 for a published table. Verdicts need at least 2."""
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


class Fact(Part):
    """One recorded fact about the environment."""

    group: Literal["host", "gpu", "software", "inputs", "run"]
    """Where it belongs."""
    key: str
    """Name, e.g. `driver` or `torch`."""
    value: Scalar
    """The value; null if it is known that nothing was recorded."""
    unit: str | None = None
    """Unit of a number."""


class Check(Part):
    """One condition for the run to be valid, and how it came out."""

    code: Literal[
        "cells_complete",  # every planned cell has an outcome
        "cells_passed",  # every planned cell PASSED
        "verifications_passed",  # every further family and seed PASSED
        "blocks_enough",  # verdicts were possible
        "samples_disturbed",  # samples discarded for throttling or a foreign process
        "tiers_missing",  # time tiers that the host could not record
        "gate_power",  # the strict gate kills enough mutants
        "same_reference",  # the reference was measured in every block
        "values_recorded",  # published tables: what the publication did not record
    ]
    """Which condition."""
    status: Literal["ok", "warning", "failed", "not_applicable"]
    """`failed` makes the run's figures unusable as a comparison; a `warning` is shown beside them."""
    found: int | float | None = None
    """Count or share found."""
    of: int | float | None = None
    """Count that was due, or the bound."""
    items: list[str] = Field(default_factory=list)
    """What was affected (`solution/workload`, a tier, an unrecorded fact), at most 20."""


class Casts(Part):
    """The roundings that a solution declares at the three points, in order; float32 in between."""

    gemm1_output: list[str]
    """Casts of what SwiGLU reads."""
    intermediate: list[str]
    """Casts of what GEMM2 reads."""
    gemm2_output: list[str]
    """Casts of what the weighted combine reads."""


class Participant(Part):
    """A solution (the reference is not listed)."""

    name: str
    """Folder name; the key in all other parts."""
    role: Literal["contestant", "peer"]
    """Winners, claims and the published form count contestants only."""
    label: str
    """Name in headings; short in published tables (`triton_v2`)."""
    description: str | None = None
    """One sentence on the design."""
    digest: str | None = None
    """sha256 of the packed solution; null in published tables."""
    supported: bool = True
    """False where the solution declares no backend for this run."""
    rounding: Casts | None = None
    """Declared casts; null if unknown."""


class Floor(Part):
    """The least that a workload can cost, from its own routing."""

    bytes: int
    """Bytes that must be moved at least."""
    flops: int
    """Floating point operations that must be done at least."""
    us: float | None = None
    """Time at the sourced peaks of this GPU; null if its peaks are not listed."""
    bound: Literal["memory", "compute"] | None = None
    """Which peak sets `us`."""


class Workload(Part):
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
    floor: Floor | None = None
    """Null where the routing is unknown, and on the cpu backend."""
    reference_us: Estimate | None = None
    """Latency of the reference: median over blocks; null if performance is not shown."""


class GateCheck(Part):
    """One condition of a gate."""

    value: float | int | None
    """What was measured; null if it could not be."""
    bound: float | int | list[float] | None
    """The bound, or [low, high]."""
    passed: bool
    """Whether the value respects the bound."""


class Gate(Part):
    """The answer of one correctness gate."""

    passed: bool
    """Whether all its conditions hold."""
    checks: dict[str, GateCheck] = Field(default_factory=dict)
    """By name of the condition."""


class Numerics(Part):
    """How far an output is from the float32 reference; the worst over blocks."""

    matched_ratio: float | None = None
    """Share of all elements within rtol and atol."""
    matched_ratio_active: float | None = None
    """The same on rows that have a local expert."""
    relative_l2: float | None = None
    """Relative L2 error of the active rows."""
    worst_row_l2: float | None = None
    """Largest relative L2 error of a single active row."""
    cosine: float | None = None
    """Cosine similarity of the active rows."""
    calc_diff: float | None = None
    """1 - 2<x,y>/(<x,x>+<y,y>)."""
    scale: float | None = None
    """Best-fit scale of the output against the reference."""
    max_abs: float | None = None
    """Largest absolute error."""
    max_rel: float | None = None
    """Largest relative error."""
    nonzero_inactive: int | None = None
    """Elements of inactive rows that are not exactly zero."""
    non_finite: int | None = None
    """Elements that are not finite."""
    active_rows: int | None = None
    """Rows with a local expert."""
    ambiguous_rows: int | None = None
    """Rows whose routing has more than one admissible answer."""


class Cell(Part):
    """One (solution, workload)."""

    solution: str
    workload: str
    outcome: str
    """PASSED or why not (the closed list of outcomes; the worst over blocks); NOT_RUN for a missing cell."""
    reason: str | None = None
    """Code of the reason, if the outcome has one."""
    detail: str | None = None
    """What happened, in the harness's words."""
    hint: str | None = None
    """What to do about it."""
    published_gate: Gate | None = None
    strict_gate: Gate | None = None
    numerics: Numerics | None = None
    """Null where no output was judged."""
    latency_us: Estimate | None = None
    """Median over blocks of per-process medians. Null if the cell did not pass or performance is not shown."""
    speedup: Estimate | None = None
    """Reference time over the solution's, paired by block: geometric mean over blocks. A published value has no interval."""
    blocks: int = 0
    """Blocks with a valid sample."""
    mde: float | None = None
    """Least difference to `mde_against` that this many blocks find with power 0.8 at the corrected level (0.03 is 3 %)."""
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


class Verification(Part):
    """All workloads of one solution under one value family and seed."""

    solution: str
    family: str
    """Value family (`fib`, `realistic`)."""
    seed: int
    """Seed of the values."""
    due: int
    """Workloads that had to be verified."""
    passed: int
    """Of these, PASSED under both gates."""
    failed: list[str] = Field(default_factory=list)
    """Workloads that did not pass, or are missing."""
    worst_relative_l2: float | None = None
    """Largest relative L2 error."""
    worst_calc_diff: float | None = None
    """Largest calc_diff."""
    least_matched_active: float | None = None
    """Least matched ratio on active rows."""
    widest_scale: float | None = None
    """Best-fit scale farthest from 1."""


class Winner(Part):
    """Who leads at one workload; contestants only."""

    workload: str
    leader: str | None
    """Highest speedup, whatever the noise: the published tables' "Winner". Null if no contestant has a value."""
    runner_up: str | None = None
    """Second highest."""
    lead: Estimate | None = None
    """Leader's speed over the runner-up's (1.05: 5 % ahead); null without a runner-up."""
    p_difference: float | None = None
    """Corrected p-value of that lead; null without a decision."""
    supported: bool
    """True if the leader is FASTER than every other contestant with a value, by the decision rule."""
    tied: list[str] = Field(default_factory=list)
    """Contestants whom the leader is not FASTER than. Empty if supported, and where nothing was decided."""
    basis: Literal["blocks", "none"]
    """What the answer rests on: the run's blocks, or nothing but lone values (one block, a published table)."""


class Summary(Part):
    """One solution over all workloads. Speedups are over the reference."""

    solution: str
    cells: int
    """Cells that have a speedup."""
    due: int
    """Workloads of the run."""
    passed: int
    """Cells that PASSED."""
    geometric_mean: Estimate | None = None
    """Geometric mean of the cells' speedups, with the interval over blocks."""
    arithmetic_mean: float | None = None
    """Arithmetic mean of the cells' speedups (the published "Average")."""
    median: float | None = None
    minimum: float | None = None
    minimum_at: str | None = None
    """Workload of the least speedup."""
    maximum: float | None = None
    maximum_at: str | None = None
    """Workload of the greatest speedup."""
    std_sample: float | None = None
    """Standard deviation over workloads, divisor n - 1; null with one cell."""
    std_population: float | None = None
    """Divisor n."""
    cv_sample: float | None = None
    """std_sample over the arithmetic mean, as a ratio."""
    cv_population: float | None = None
    leads: int | None = None
    """Workloads where it leads (the published "Wins"); null for a peer."""
    wins: int | None = None
    """Workloads where the lead is supported; null for a peer."""
    ties: int | None = None
    """Workloads without a supported winner where it leads or ties with the leader; null for a peer."""
    total_latency_us: float | None = None
    """Sum of the latencies of all workloads; null if one is missing or times are not recorded."""


class PairVerdict(Part):
    """a against b at one workload."""

    workload: str
    verdict: Verdict | None
    """Null if there is nothing to decide from: see `undecided`."""
    undecided: Literal["one_block", "not_measured"] | None = None
    """`one_block`: fewer than two blocks hold both; `not_measured`: one of the two has no valid value, or their times are of different tiers."""
    ratio: Estimate | None = None
    """b's time over a's (above 1: a is faster), geometric mean over paired blocks."""
    sd: float | None = None
    """Sample standard deviation of the paired log ratios over blocks; 0 means that the noise is below the timer's steps."""
    blocks: int = 0
    """Blocks that hold both."""
    p_difference: float | None = None
    """Two-sided t on the block means of log ratios, Holm-corrected over the workloads of the pair."""
    p_equivalence: float | None = None
    """Two one-sided t tests against a 2 % margin, Holm-corrected over the workloads of the pair."""
    mde: float | None = None
    """Least difference found with power 0.8 at the corrected level (0.03 is 3 %)."""


class Pair(Part):
    """Two solutions over all workloads, a before b in the run's order."""

    a: str
    b: str
    ratio: Estimate | None = None
    """Geometric mean over the workloads that both have, of b's time over a's, with the interval over blocks."""
    workloads: int
    """Workloads that both have."""
    a_ahead: int
    """Workloads where a's value is higher, whatever the noise."""
    b_ahead: int
    faster: int = 0
    """Workloads with the verdict FASTER (a faster than b)."""
    slower: int = 0
    same: int = 0
    ambiguous: int = 0
    verdicts: list[PairVerdict]
    """One per workload, in the run's order."""


class Ranked(Part):
    """A place in a ranking."""

    solution: str
    value: float
    """The aggregate's value (a speedup, a count of leads, or microseconds)."""
    rank: int
    """1 is best; equal values share a rank."""


class Ranking(Part):
    """Contestants ordered by one aggregate over one baseline, over the workloads that all of them have."""

    aggregate: Literal["geometric_mean", "arithmetic_mean", "harmonic_mean", "median", "leads", "total_latency"]
    """How the workloads' speedups are put together."""
    baseline: str
    """What the speedups are over: `reference` or a contestant."""
    order: list[Ranked]
    """Best first."""


class RankStability(Part):
    """Whether the order depends on the choice of aggregate or baseline."""

    workloads: int
    """Workloads that all ranked contestants have."""
    rankings: list[Ranking]
    """One per aggregate and baseline."""
    orders: int
    """How many different orders occur."""
    always_first: str | None
    """The contestant that is first in all; null if they disagree."""
    swaps: list[tuple[str, str]]
    """Pairs whose order is not the same in all rankings."""


class ProfileCurve(Part):
    """Performance profile (Dolan and Moré): the share of workloads on which a solution is within a factor of the best."""

    solution: str
    factors: list[float]
    """Ascending, from 1: best time over own time is at least 1/factor from here on."""
    shares: list[float]
    """Share of workloads at each factor; ends below 1 if cells are missing."""


class MutantPower(Part):
    """One mutant over all workloads."""

    name: str
    must_die: bool
    """False if it is only measured."""
    mistake: str | None = None
    """What is wrong with it."""
    cells: int
    """(workload, value family) cells on which it was made."""
    excluded: int
    """Of these, output equal to the honest one bit for bit: not counted."""
    killed_published: int
    """Rejected by the published gate."""
    killed_strict: int
    """Rejected by the strict gate."""


class GatePower(Part):
    """How much the correctness gates catch."""

    definition: str
    """At which width it was measured."""
    families: list[str]
    """Value families of the mutants."""
    rows: int | None = None
    """Rows sampled from each workload; null if all."""
    mutants: list[MutantPower]
    counted: int
    """Mutant cells that must die and differ from the honest output."""
    excluded: int
    """Mutant cells that do not differ."""
    killed_published: int
    """Of the counted, rejected by the published gate."""
    killed_strict: int
    """Of the counted, rejected by the strict gate."""
    honest_cells: int
    """Cells of the honest solution that the mutants derive from."""
    honest_rejected_published: int
    """Of these, rejected by the published gate."""
    honest_rejected_strict: int
    """Of these, rejected by the strict gate; more than none makes the gate useless."""


class Kernel(Part):
    """A compiled kernel."""

    name: str
    stage: str | None = None
    """Stage of the pipeline that it belongs to."""
    registers: int | None = None
    """Per thread."""
    shared_bytes: int | None = None
    """Shared memory per block, static and dynamic."""
    tmem_columns: int | None = None
    """Tensor memory; null where the chip has none or it is unknown."""
    stack_bytes: int | None = None
    """Per thread."""
    spill_bytes: int | None = None
    """Per thread, stores and loads."""
    mma: dict[str, int] = Field(default_factory=dict)
    """MMA instructions in the machine code, by family."""


class Build(Part):
    """One solution compiled for one architecture."""

    solution: str
    arch: str
    """`cpu`, `sm_90a` or `sm_100a`."""
    status: str
    """As the build wrote it (`ok`, `failed`, ...)."""
    digest: str | None = None
    """sha256 of the packed solution."""
    executed: bool = False
    """Whether this run ran it; otherwise it is compiled, never executed here."""
    kernels: list[Kernel] = Field(default_factory=list)


class ClaimVerdict(StrEnum):
    """What the data say about a published figure or conclusion."""

    CONFIRMED = "CONFIRMED"
    CONTRADICTED = "CONTRADICTED"
    NOT_TESTABLE = "NOT TESTABLE"


class ClaimResult(Part):
    """One claim of a published report, tested."""

    id: str
    """Unique within the report."""
    place: str
    """Section of the report."""
    kind: Literal["figure", "conclusion"]
    text: str
    """The claim in the report's words."""
    printed: str | None = None
    """The printed value; null for a conclusion without one."""
    expression: str | None = None
    """How it is recomputed from the published values; null if it cannot be."""
    verdict: ClaimVerdict
    computed: list[str] = Field(default_factory=list)
    """The recomputed value, one entry per admissible reading, with two digits more than printed."""
    tolerance: str | None = None
    """The tolerance that the printed form gives itself, e.g. `0.005` or `text`."""
    needs: str | None = None
    """What would test it; set exactly for NOT TESTABLE."""
    note: str | None = None
    """What a reader must know about this claim."""


class Audit(Part):
    """A published report against its own values."""

    report: str
    """Title of the report."""
    figures: int
    """Claims that are figures."""
    conclusions: int
    """Claims that are conclusions."""
    confirmed: int
    contradicted: int
    not_testable: int
    claims: list[ClaimResult]
    """In the report's order."""


class CellComparison(Part):
    """One cell of a run against the same cell of another."""

    solution: str
    workload: str
    verdict: Literal["REPRODUCED", "DIFFERS", "NOT COMPARABLE", "FASTER", "SLOWER", "SAME", "AMBIGUOUS"]
    """The first two against a published run; the last four (new against old) between runs."""
    reasons: list[str] = Field(default_factory=list)
    """Why not comparable: `device`, `protocol`, `inputs`, `missing`, `failed`, `one_block`."""
    old: float | None = None
    """Speedup in the older run."""
    new: float | None = None
    """Speedup in the newer run."""
    ratio: Estimate | None = None
    """New speedup over old; against a published run with the 95 % prediction interval around `old / old`."""
    latency_ratio: Estimate | None = None
    """Old latency over new (above 1: the new run is faster); null against a published run."""
    p_difference: float | None = None
    """Welch's t on block means of log speedups, Holm-corrected over the workloads of a solution."""


class Comparison(Part):
    """A run against another."""

    old: str
    """Id of the older run."""
    new: str
    """Id of the newer run."""
    rule: Literal["published", "runs"]
    """`published`: prediction interval with the variance between runs; `runs`: verdicts between two runs with blocks."""
    not_comparable: list[str] = Field(default_factory=list)
    """Reasons that hold for all cells."""
    between_run_sd: float | None = None
    """Standard deviation of log(run / other run) over the repeated published cells; null for the rule `runs`."""
    between_run_cells: int | None = None
    """How many cells it was computed from."""
    counts: dict[str, int]
    """Cells by verdict."""
    regressions: list[str] = Field(default_factory=list)
    """`solution/workload` of supported regressions."""
    wrong: list[str] = Field(default_factory=list)
    """`solution/workload` of wrong outputs in the newer run."""
    cells: list[CellComparison]


class RankingFinding(Part):
    """Who is ahead over all workloads."""

    order: list[Ranked]
    """Contestants by geometric mean of speedups."""
    steps: list[Estimate]
    """Each contestant's speed over the next one's, by geometric mean: one entry less than `order`."""
    leads: dict[str, int]
    """Workloads led, by contestant, whatever the noise."""
    wins: dict[str, int]
    """Workloads won with support, by contestant."""
    undecided: int
    """Workloads without a supported winner."""


class LargeBatchRow(Part):
    """One solution on small and large workloads."""

    solution: str
    small: float
    """Geometric mean of speedups over the small workloads."""
    large: float
    """Geometric mean of speedups over the large workloads."""
    kept: float
    """large over small: 1 keeps its speedup, 0.2 loses four fifths."""


class LargeBatchFinding(Part):
    """What becomes of the speedup when seq_len grows."""

    small: list[str]
    """Workloads with fewer than `small_below` tokens."""
    large: list[str]
    """Workloads with at least `large_from` tokens."""
    small_below: int
    large_from: int
    rows: list[LargeBatchRow]
    leader_small: str
    """Highest geometric mean over the small workloads."""
    leader_large: str
    """Highest geometric mean over the large workloads."""


class VersionFinding(Part):
    """v3.2 against v3."""

    new: str
    """The later version (cutedsl_moe_fp8_v3_2)."""
    old: str
    ratio: Estimate
    """Geometric mean of new over old."""
    mean_ratio: float
    """Ratio of the arithmetic means, as the published report computes it."""
    ahead: int
    """Workloads where the new one's value is higher."""
    behind: int
    workloads: int
    faster: int
    """Workloads with the verdict FASTER."""
    slower: int
    std_new: float | None
    """Sample standard deviation of the new one's speedups."""
    std_old: float | None


class ConsistencyRow(Part):
    """How much one solution's speedup varies over workloads."""

    solution: str
    cv_sample: float
    cv_population: float
    spread: float
    """Greatest speedup over least."""


class ConsistencyFinding(Part):
    """Which solution's speedup depends least on the workload."""

    rows: list[ConsistencyRow]
    """Most consistent first (by cv_sample)."""


class PreviousRow(Part):
    """One solution against its values in the previous run."""

    solution: str
    workloads: int
    """Workloads in both."""
    ratio: float
    """Geometric mean of this run's speedup over the previous one's."""
    least: float
    """Least cell ratio."""
    greatest: float
    """Greatest cell ratio."""
    reproduced: int | None = None
    """Cells with the verdict REPRODUCED (published rule) or SAME (between runs)."""
    differs: int | None = None
    """Cells with the verdict DIFFERS, FASTER or SLOWER."""


class PreviousFinding(Part):
    """Against an earlier, repeated or published run."""

    id: str
    """Id of the other run."""
    relation: Literal["previous", "repeat", "published"]
    """`previous`: an earlier run; `repeat`: the same measurement of the same day; `published`: the published run."""
    comparable: bool
    """False if device, protocol or inputs differ; the rows are then empty."""
    reasons: list[str]
    """Why not comparable."""
    rows: list[PreviousRow]
    flipped: list[str]
    """Workloads with another leader among the contestants that both runs have."""


class Findings(Part):
    """Facts for the key findings; null where the run has not what a finding needs."""

    ranking: RankingFinding | None = None
    large_batch: LargeBatchFinding | None = None
    version: VersionFinding | None = None
    consistency: ConsistencyFinding | None = None
    previous: list[PreviousFinding] = Field(default_factory=list)
    """Against other runs; empty if none was given."""


class Analysis(Part):
    """analysis.json."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True, populate_by_name=True)

    schema_: Literal["bakeoff/analysis/1"] = Field("bakeoff/analysis/1", alias="schema")
    """Format and version of this document."""
    run: RunHeader
    performance_shown: bool
    """False on the cpu backend, whose times mean nothing: latencies, speedups and all that rests on them are then null or empty."""
    validity: list[Check]
    provenance: list[Fact]
    participants: list[Participant]
    """Solutions in the run's order."""
    workloads: list[Workload]
    """In ascending seq_len."""
    cells: list[Cell]
    """Every (solution, workload), by solution, then workload."""
    verifications: list[Verification] = Field(default_factory=list)
    """By solution, family, seed, the timed values included."""
    summaries: list[Summary]
    """One per solution."""
    winners: list[Winner] = Field(default_factory=list)
    """One per workload; empty if performance is not shown."""
    pairs: list[Pair] = Field(default_factory=list)
    """Every two solutions; empty if performance is not shown."""
    rank_stability: RankStability | None = None
    """Null with fewer than two contestants that have values."""
    profile: list[ProfileCurve] = Field(default_factory=list)
    """Performance profile, one curve per solution."""
    findings: Findings = Field(default_factory=Findings)
    gate_power: GatePower | None = None
    """Null if the mutants were not run."""
    builds: list[Build] = Field(default_factory=list)
    profiles: ProfileSection | None = None
    """Where the GPU time goes, and the published explanations tested with it; null if the run was not profiled."""
    audit: Audit | None = None
    """Only for a published report with claims."""
    comparisons: list[Comparison] = Field(default_factory=list)
    """Against the published run and, if given, against earlier runs."""
