"""Parts of the analysis document: a published report's audit, and comparisons with other runs."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from pydantic import Field

from bakeoff.schema.analysis_run import Scalar
from bakeoff.schema.base import Estimate, Part


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
    kind: Literal["figure", "conclusion", "explanation"]
    """A printed number or name, a statement, or one about causes, which a profile tests."""
    text: str
    """The claim in the report's words."""
    printed: str | None = None
    """The printed value; null for a conclusion without one."""
    expression: str | None = None
    """How it is recomputed from the published values, or what is compared with what; null if it cannot be."""
    verdict: ClaimVerdict
    """What the values say."""
    computed: list[str] = Field(default_factory=list)
    """The recomputed value, one entry per admissible reading, with two digits more than printed."""
    numbers: dict[str, float] = Field(default_factory=dict)
    """What the verdict on an explanation rests on, by name; empty if nothing could be computed."""
    tolerance: str | None = None
    """The tolerance that the printed form gives itself, e.g. `0.005` or `text`."""
    needs: str | None = None
    """What would test it; set exactly for NOT TESTABLE."""
    note: str | None = None
    """What a reader must know about this claim."""
    repeats: bool = False
    """Whether it only repeats a row of the table, and so cannot fail."""
    other_table: bool = False
    """Whether it rests on another table than the report's own."""
    changes: list[str] = Field(default_factory=list)
    """How severe a contradiction is: the conclusions that do not stand with it, by id; empty if none changes."""


class ReportAudit(Part):
    """A published report against its own values."""

    report: str
    """Title of the report."""
    figures: int
    """Claims that are figures and could fail."""
    repeated: int
    """Further figures, which only repeat a row of the table."""
    conclusions: int
    """Claims that are conclusions."""
    confirmed: int
    """Claims that the values confirm, repeated ones left out."""
    contradicted: int
    """Claims that the report's own values contradict."""
    contradicted_by_others: int
    """Further claims, which another table contradicts."""
    not_testable: int
    """Claims that the values cannot test."""
    claims: list[ClaimResult]
    """In the report's order."""


CompareVerdict = Literal["REPRODUCED", "DIFFERS", "NOT COMPARABLE", "FASTER", "SLOWER", "SAME", "AMBIGUOUS"]


@dataclass(frozen=True, kw_only=True)
class CellComparison:
    """One cell of a run against the same cell of another."""

    solution: str
    """Name of the solution."""
    workload: str
    """Id of the workload."""
    verdict: CompareVerdict
    """The first two against a published run. Between runs, new against old: SAME is less than 2 % apart, FASTER and
    SLOWER beyond the noise, that between two GPUs included, and not shown to be less."""
    reasons: list[str] = field(default_factory=list)
    """Why not comparable: `device`, `protocol`, `inputs`, `clock` (another time tier), `missing`, `failed`,
    `few_blocks`, `host` (another host, whose time shows in the latency)."""
    old: float | None = None
    """In the older run: the speedup against a published run, the latency in microseconds between runs."""
    new: float | None = None
    """The same in the newer run."""
    ratio: Estimate | None = None
    """New speed over old. Against a published run of speedups, with the 95 % prediction interval around `old / old`;
    between runs of latencies, each relative to what did not change."""
    p_difference: float | None = None
    """Welch's t on block logs with the smaller run's n - 1 degrees of freedom, Holm-corrected over the workloads of a
    solution; null against a published run."""


@dataclass(frozen=True)
class RunScatter:
    """How much published cells move between two runs of one day."""

    seq_lens: str
    """Of which workloads."""
    sd: float
    """Root mean square of log(run / other run)."""
    rows: int
    """Rows of the table, the degrees of freedom: cells of a row share the reference and move together."""


class Comparison(Part):
    """A run against another."""

    old: str
    """Id of the older run."""
    new: str
    """Id of the newer run."""
    rule: Literal["published", "runs"]
    """`published`: prediction interval with the variance between runs; `runs`: verdicts between two runs with
    blocks."""
    not_comparable: list[str] = Field(default_factory=list)
    """Reasons that hold for all cells."""
    scatter: list[RunScatter] = Field(default_factory=list)
    """How much published cells move between two runs, small and large workloads apart; empty for the rule `runs`."""
    differs: dict[str, tuple[Scalar, Scalar]] = Field(default_factory=dict)
    """Between runs, what is not the same of host, GPU, software, harness and solutions, old and new."""
    controls: list[str] = Field(default_factory=list)
    """Between runs: the participants that did not change, whose busy times show how fast the GPU was."""
    counts: dict[str, int]
    """Cells by verdict."""
    regressions: list[str] = Field(default_factory=list)
    """`solution/workload` of supported regressions."""
    wrong: list[str] = Field(default_factory=list)
    """`solution/workload` of wrong outputs in the newer run, with family and seed where only other values than the
    timed ones show it."""
    cells: list[CellComparison]
    """Every cell of the older run."""

    @property
    def result(self) -> Literal["OK", "FAILED", "NOTHING COMPARED"]:
        """What the comparison answers: it is no success if not one cell could be compared."""
        if self.wrong or self.regressions:
            return "FAILED"
        compared = len(self.cells) - self.counts.get("NOT COMPARABLE", 0)
        return "OK" if compared else "NOTHING COMPARED"
