"""Parts of the analysis document: a published report's audit, and comparisons with other runs."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

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
    kind: Literal["figure", "conclusion"]
    """A printed number or name, or a statement."""
    text: str
    """The claim in the report's words."""
    printed: str | None = None
    """The printed value; null for a conclusion without one."""
    expression: str | None = None
    """How it is recomputed from the published values; null if it cannot be."""
    verdict: ClaimVerdict
    """What the values say."""
    computed: list[str] = Field(default_factory=list)
    """The recomputed value, one entry per admissible reading, with two digits more than printed."""
    tolerance: str | None = None
    """The tolerance that the printed form gives itself, e.g. `0.005` or `text`."""
    needs: str | None = None
    """What would test it; set exactly for NOT TESTABLE."""
    note: str | None = None
    """What a reader must know about this claim."""


class ReportAudit(Part):
    """A published report against its own values."""

    report: str
    """Title of the report."""
    figures: int
    """Claims that are figures."""
    conclusions: int
    """Claims that are conclusions."""
    confirmed: int
    """Claims that the values confirm."""
    contradicted: int
    """Claims that the values contradict."""
    not_testable: int
    """Claims that the values cannot test."""
    claims: list[ClaimResult]
    """In the report's order."""


class CellComparison(Part):
    """One cell of a run against the same cell of another."""

    solution: str
    """Name of the solution."""
    workload: str
    """Id of the workload."""
    verdict: Literal["REPRODUCED", "DIFFERS", "NOT COMPARABLE", "FASTER", "SLOWER", "SAME", "AMBIGUOUS"]
    """The first two against a published run; the last four (new against old) between runs."""
    reasons: list[str] = Field(default_factory=list)
    """Why not comparable: `device`, `protocol`, `inputs`, `clock` (another time tier), `missing`, `failed`,
    `one_block`."""
    old: float | None = None
    """Speedup in the older run."""
    new: float | None = None
    """Speedup in the newer run."""
    ratio: Estimate | None = None
    """New speedup over old; against a published run with the 95 % prediction interval around `old / old`."""
    latency_ratio: Estimate | None = None
    """Old latency over new (above 1: the new run is faster); null against a published run."""
    p_difference: float | None = None
    """Welch's t on block logs of speedup with the smaller run's n - 1 degrees of freedom, Holm-corrected over the
    workloads of a solution."""


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
    between_run_sd: float | None = None
    """Standard deviation of log(run / other run) over the repeated published cells; null for the rule `runs`."""
    between_run_cells: int | None = None
    """How many cells it was computed from."""
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
