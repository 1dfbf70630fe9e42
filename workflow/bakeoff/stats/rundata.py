"""What an analysis starts from, whatever folder it was read from: a run's documents or a published table.

`RunData` is made by `runs.load_run` and `published.load_published`, and turned into the analysis document by
`analyse.analyse`.
"""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from bakeoff.runs.samples import Samples
from bakeoff.runs.table import Journals
from bakeoff.schema.analysis_findings import Relation
from bakeoff.schema.analysis_run import (
    AnalysedCell,
    AnalysedWorkload,
    Build,
    Check,
    Fact,
    RunHeader,
    VerificationSummary,
)
from bakeoff.schema.gates import GatePower
from bakeoff.schema.outcomes import Outcome
from bakeoff.schema.plan import LEADING, Participant
from bakeoff.schema.profile import ProfileSection
from bakeoff.schema.selection import Selection

# What makes `bakeoff compare` fail: the output is wrong, or a rule was broken that makes it worthless.
WRONG = frozenset({Outcome.INCORRECT_SHAPE, Outcome.INCORRECT_DTYPE, Outcome.INCORRECT_NUMERICAL, Outcome.REJECTED})


@dataclass(frozen=True)
class OtherRun:
    """A run to stand beside this one: its folder name among the published ones, and what it is to this run."""

    id: str
    relation: Relation


@dataclass(frozen=True)
class RunData:
    """Cells hold outcomes, gates and numerics but no times yet; times stand in `samples`, for PASSED cells only."""

    header: RunHeader
    participants: list[Participant]
    workloads: list[AnalysedWorkload]
    cells: list[AnalysedCell]
    samples: Samples
    provenance: list[Fact]
    checks: list[Check]
    performance_shown: bool
    verifications: list[VerificationSummary] = field(default_factory=list)
    gate_power: GatePower | None = None
    builds: list[Build] = field(default_factory=list)
    beside: list[OtherRun] = field(default_factory=list)
    profiles: ProfileSection | None = None
    """Where the GPU time goes; None if the run was not profiled."""
    workload_digests: dict[str, str] = field(default_factory=dict)
    """sha256 of each workload's inputs, empty for published tables."""

    journals: Journals | None = None
    """What it was read from; None for published tables."""

    gpus: frozenset[str] = frozenset()
    """UUIDs of the host's GPUs; empty for published tables."""

    block_gpus: dict[int, str] = field(default_factory=dict)
    """UUID of the GPU that a block had to itself, where its manifest says so."""

    @property
    def everyone(self) -> list[Participant]:
        """The reference and all solutions, as planned; none of a published table."""
        return self.journals.plan.participants if self.journals else []

    def busy(self, tier: str = "cupti_busy_us") -> pd.DataFrame:
        """Log busy times (or of another tier), (participant, workload) by block, of processes that passed."""
        if self.journals is None:
            return pd.DataFrame()
        processes = self.journals.measured(self.header.protocol or "")
        passed = processes[processes["outcome"] == Outcome.PASSED]
        return np.log(passed.pivot(index=["participant", "workload"], columns="block", values=tier))

    @property
    def leading(self) -> int:
        """How many of many solutions are compared with each other and shown."""
        return self.journals.plan.leading if self.journals else LEADING

    @property
    def anchors(self) -> list[str]:
        """Solutions that are named to compare all others with; none in older runs and published tables."""
        return self.journals.plan.anchors if self.journals else []

    @property
    def selection(self) -> Selection | None:
        """The screening whose leading solutions the run confirms."""
        return self.journals.plan.selection if self.journals else None

    @property
    def contestants(self) -> list[str]:
        return [who.name for who in self.participants if who.role == "contestant"]
