"""Parts of the analysis document: what is decided from the cells."""

from dataclasses import dataclass, field
from typing import Literal

from pydantic import Field

from bakeoff.schema.base import Estimate, Part, Verdict


class Winner(Part):
    """Who leads at one workload; contestants only."""

    workload: str
    """Id of the workload."""
    leader: str | None
    """Highest speedup, whatever the noise: the published tables' "Winner". Null if no contestant has a value."""
    level: list[str] = Field(default_factory=list)
    """Contestants with exactly the leader's speed, as tables of two decimals have them: the lead is theirs as well, the
    leader is only the first of them in the run's order."""
    runner_up: str | None = None
    """Second highest."""
    lead: Estimate | None = None
    """Leader's speed over the runner-up's (1.05: 5 % ahead); null without a runner-up."""
    p_difference: float | None = None
    """Corrected p-value of that lead; null without a decision."""
    supported: bool
    """True if the leader is faster than every other contestant beyond the noise, corrected over its rivals and the
    workloads, and all of them were measured."""
    verdict: Verdict | None = None
    """What is shown of the lead over all rivals: by 2 % or more, by less, or that this is open; null unless
    supported."""
    blocks: int = 0
    """Blocks that the leader shares with the rival with which it shares fewest."""
    tied: list[str] = Field(default_factory=list)
    """Contestants whom the leader is not shown to be faster than; empty where nothing was decided."""
    same: list[str] = Field(default_factory=list)
    """Of `tied`, those shown to be within 2 % of the leader (SAME); against the others nothing was decided."""
    unmeasured: list[str] = Field(default_factory=list)
    """Contestants without a value here for a reason of the host: while one is missing, nobody wins."""
    fastest: str | None = None
    """Fastest of all that ran, peers included; null if nothing has a value."""
    fastest_lead: Estimate | None = None
    """Its speed over the leader's; null if it is the leader."""
    basis: Literal["blocks", "none"]
    """What the answer rests on: the run's blocks, or nothing but lone values (one block, a published table)."""


class Summary(Part):
    """One solution over all workloads. Speedups are over the reference."""

    solution: str
    """Name of the solution."""
    cells: int
    """Cells that have a speedup."""
    due: int
    """Workloads of the run."""
    passed: int
    """Cells that PASSED."""
    geometric_mean: Estimate | None = None
    """Geometric mean of the cells' speedups, with the interval over blocks."""
    busy_geometric_mean: Estimate | None = None
    """The same of speedups from busy times."""
    arithmetic_mean: float | None = None
    """Arithmetic mean of the cells' speedups (the published "Average")."""
    median: float | None = None
    """Median of the cells' speedups."""
    minimum: float | None = None
    """Least speedup."""
    minimum_at: str | None = None
    """Workload of the least speedup."""
    maximum: float | None = None
    """Greatest speedup."""
    maximum_at: str | None = None
    """Workload of the greatest speedup."""
    std_sample: float | None = None
    """Standard deviation over workloads, divisor n - 1; null with one cell."""
    std_population: float | None = None
    """Divisor n."""
    cv_sample: float | None = None
    """std_sample over the arithmetic mean, as a ratio."""
    cv_population: float | None = None
    """std_population over the arithmetic mean, as a ratio."""
    leads: int | None = None
    """Workloads where it leads (the published "Wins"); null for a peer."""
    wins: int | None = None
    """Workloads where the lead is supported; null for a peer."""
    clear_wins: int | None = None
    """Of `wins`, those by 2 % or more; null for a peer."""
    blocks: int = 0
    """Blocks that the least measured of its cells rests on."""
    ties: int | None = None
    """Workloads without a supported winner where it leads or ties with the leader; null for a peer."""
    total_latency_us: float | None = None
    """Sum of the latencies of all workloads; null if one is missing or times are not recorded."""
    mix_latency_us: float | None = None
    """Mean of latencies with the weights that the configuration gives; null without them, or if one is missing."""


Aggregate = Literal["geometric_mean", "arithmetic_mean", "harmonic_mean", "median", "leads", "total_latency"]


@dataclass(frozen=True)
class Ranked:
    """A place in a ranking."""

    solution: str
    """Name of the solution."""
    value: float
    """The aggregate's value (a speedup, a count of leads, or microseconds)."""
    rank: int
    """1 is best; equal values share a rank."""


@dataclass(frozen=True, kw_only=True)
class ProtocolCell:
    """A cell under another protocol, and under the run's first one. Clock and power are means over the processes of
    medians over their timed calls; null where nobody told."""

    solution: str
    """Name of the solution."""
    workload: str
    """Id of the workload."""
    latency_us: Estimate
    """Latency."""
    first_us: Estimate | None = None
    """Latency under the first protocol."""
    sm_mhz: float | None = None
    """SM clock."""
    watts: float | None = None
    """Power."""
    first_sm_mhz: float | None = None
    """SM clock under the first protocol."""
    first_watts: float | None = None
    """Power under the first protocol."""


@dataclass(frozen=True, kw_only=True)
class Overtaking:
    """Two solutions that stand the other way round than under the first protocol, beyond 99 % intervals of both."""

    workload: str
    """Id of the workload."""
    faster: str
    """Which is faster here."""
    slower: str
    """Which is faster under the first protocol."""
    ratio: Estimate
    """Speed of `faster` over that of `slower`."""
    first_ratio: Estimate
    """The same under the first protocol, below 1."""


@dataclass(frozen=True, kw_only=True)
class ProtocolSummary:
    """The same run under another timing protocol."""

    protocol: str
    """Name of the protocol."""
    time_tier: str | None = None
    """Which time its latencies are."""
    blocks: int = 0
    """Blocks that were measured so."""
    summaries: list[Summary]
    """One per solution; without speedups where the reference was not timed so."""
    workloads: list[str] = field(default_factory=list)
    """Those that all ordered solutions have under both protocols."""
    order: list[Ranked] = field(default_factory=list)
    """Solutions by geometric mean of latencies over `workloads`; value: time over the fastest's. Without twins."""
    first_order: list[Ranked] = field(default_factory=list)
    """The same solutions over the same workloads under the run's first protocol."""
    cells: list[ProtocolCell] = field(default_factory=list)
    """Cells with a time."""
    overtakings: list[Overtaking] = field(default_factory=list)
    """Where the order of two solutions is another one."""


@dataclass(frozen=True, kw_only=True)
class PairVerdict:
    """a against b at one workload."""

    workload: str
    """Id of the workload."""
    verdict: Verdict | None
    """Null if there is nothing to decide from: see `undecided`."""
    undecided: Literal["few_blocks", "not_measured"] | None = None
    """`few_blocks`: fewer than five blocks hold both; `not_measured`: one of the two has no valid value, or their times
    are of different tiers."""
    ratio: Estimate | None = None
    """b's time over a's (above 1: a is faster), geometric mean over paired blocks."""
    sd: float | None = None
    """Sample standard deviation of the paired log ratios over blocks; 0 means that the noise is below the timer's
    steps."""
    blocks: int = 0
    """Blocks that hold both."""
    without_outliers: Estimate | None = None
    """The ratio without blocks in which a process of either was an outlier; null where there is none."""
    p_difference: float | None = None
    """Two-sided t on the block means of log ratios, Holm-corrected over the workloads of the pair."""
    p_equivalence: float | None = None
    """Two one-sided t tests against a 2 % margin, Holm-corrected over the workloads of the pair."""
    p_margin: float | None = None
    """Two-sided t of "2 % apart at most", Holm-corrected over the workloads of the pair."""
    mde: float | None = None
    """Least difference found with power 0.8 at the corrected level (0.03 is 3 %); null if there is no decision, or none
    below a factor of 1000."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two solutions over all workloads, a before b in the run's order."""

    a: str
    """Name of the first solution."""
    b: str
    """Name of the second solution."""
    ratio: Estimate | None = None
    """Geometric mean over the workloads that both have, of b's time over a's, with the interval over blocks."""
    workloads: int
    """Workloads that both have."""
    a_ahead: int
    """Workloads where a's value is higher, whatever the noise."""
    b_ahead: int
    """Workloads where b's value is higher."""
    counts: dict[Verdict, int] = field(default_factory=dict)
    """Workloads by verdict of a against b."""
    verdicts: list[PairVerdict]
    """One per workload, in the run's order."""


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Contestants ordered by one aggregate over one baseline, over the workloads that all of them have."""

    aggregate: Aggregate
    """How the workloads' speedups are put together."""
    baseline: str
    """What the speedups are over: `reference` or a contestant."""
    order: list[Ranked]
    """Best first."""


@dataclass(frozen=True, kw_only=True)
class RankStability:
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


@dataclass(frozen=True)
class ProfileCurve:
    """Performance profile (Dolan and Moré): the share of workloads on which a solution is within a factor of the
    best."""

    solution: str
    """Name of the solution."""
    factors: list[float]
    """Ascending, from 1: best time over own time is at least 1/factor from here on."""
    shares: list[float]
    """Share of workloads at each factor; ends below 1 if cells are missing."""
