"""Parts of the analysis document: the facts under the key findings, without their wording."""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from bakeoff.schema.analysis_figures import Ranked
from bakeoff.schema.base import Estimate, Part


@dataclass(frozen=True)
class RankingFinding:
    """Who is ahead over all workloads."""

    order: list[Ranked]
    """Contestants by geometric mean of speedups."""
    steps: list[Estimate]
    """Each contestant's speed over the next one's, by geometric mean: one entry less than `order`, fewer where two
    neighbours were timed by different clocks."""
    leads: dict[str, int]
    """Workloads led, by contestant, whatever the noise."""
    wins: dict[str, int]
    """Workloads won with support, by contestant."""
    undecided: int
    """Workloads without a supported winner."""


@dataclass(frozen=True)
class LargeBatchRow:
    """One solution on small and large workloads."""

    solution: str
    """Name of the solution."""
    small: float
    """Geometric mean of speedups over the small workloads."""
    large: float
    """Geometric mean of speedups over the large workloads."""
    kept: float
    """large over small: 1 keeps its speedup, 0.2 loses four fifths."""


@dataclass(frozen=True)
class LargeBatchFinding:
    """What becomes of the speedup when seq_len grows."""

    small: list[str]
    """Workloads with fewer than `small_below` tokens."""
    large: list[str]
    """Workloads with at least `large_from` tokens."""
    small_below: int
    """Tokens; the bound of `small`."""
    large_from: int
    """Tokens; the bound of `large`."""
    rows: list[LargeBatchRow]
    """One per contestant, in the run's order."""
    leader_small: str
    """Highest geometric mean over the small workloads."""
    leader_large: str
    """Highest geometric mean over the large workloads."""


@dataclass(frozen=True)
class Versions:
    """Two solutions, the earlier and the later version of one design."""

    new: str
    """Name of the later one."""
    old: str
    """Name of the earlier one."""


@dataclass(frozen=True)
class VersionFinding:
    """The later version of a design against the earlier one."""

    new: str
    """The later version."""
    old: str
    """The earlier version."""
    ratio: Estimate
    """Geometric mean of new over old."""
    mean_ratio: float
    """Ratio of the arithmetic means, as the published report computes it."""
    ahead: int
    """Workloads where the new one's value is higher."""
    behind: int
    """Workloads where the new one's value is lower."""
    workloads: int
    """Workloads that both have."""
    faster: int
    """Workloads on which the new one is faster beyond the noise."""
    clearly_faster: int
    """Of these, those by 2 % or more."""
    slower: int
    """Workloads on which the new one is slower beyond the noise."""
    std_new: float | None
    """Sample standard deviation of the new one's speedups."""
    std_old: float | None
    """Sample standard deviation of the old one's speedups."""


@dataclass(frozen=True)
class ConsistencyRow:
    """How much one solution's speedup varies over workloads."""

    solution: str
    """Name of the solution."""
    cv_sample: float
    """Sample standard deviation over mean of the speedups, as a ratio."""
    cv_population: float
    """Population standard deviation over mean, as a ratio."""
    spread: float
    """Greatest speedup over least."""


@dataclass(frozen=True)
class PreviousRow:
    """One solution against its values in the previous run."""

    solution: str
    """Name of the solution."""
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


Relation = Literal["previous", "repeat", "published"]


@dataclass(frozen=True)
class PreviousFinding:
    """Against an earlier, repeated or published run."""

    id: str
    """Id of the other run."""
    relation: Relation
    """`previous`: an earlier run; `repeat`: the same measurement of the same day; `published`: the published run."""
    comparable: bool
    """False if device, protocol or inputs differ; the rows are then empty."""
    reasons: list[str]
    """Why not comparable."""
    rows: list[PreviousRow]
    """One per contestant with comparable cells."""
    flipped: list[str]
    """Workloads with another leader among the contestants that both runs have."""


class Findings(Part):
    """Facts for the key findings; null where the run has not what a finding needs."""

    ranking: RankingFinding | None = None
    """Who is ahead; null with fewer than two contestants."""
    large_batch: LargeBatchFinding | None = None
    """Behaviour at large seq_len; null without small or large workloads."""
    version: VersionFinding | None = None
    """Two versions of a design; null without both."""
    not_testable: dict[str, str] = Field(default_factory=dict)
    """Findings about named solutions that this run cannot give: field that is null, what the run lacks."""
    consistency: list[ConsistencyRow] = Field(default_factory=list)
    """Whose speedup depends least on the workload, most consistent first; empty with fewer than two workloads."""
    previous: list[PreviousFinding] = Field(default_factory=list)
    """Against other runs; empty if none was given."""
