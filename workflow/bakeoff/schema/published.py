"""meta.yaml of a published table: what is known about it."""

from datetime import date
from typing import Literal

from pydantic import Field

from bakeoff.schema.analysis_findings import Versions
from bakeoff.schema.analysis_run import Fact
from bakeoff.schema.base import Part
from bakeoff.schema.plan import Participant


class PublishedMeta(Part):
    """meta.yaml: what is known about a published table; null is "not recorded"."""

    title: str
    """One line for headings."""
    date: date
    """Day of the measurement."""
    hardware: str
    """GPU model."""
    backend: Literal["sm_90a", "sm_100a"]
    """Architecture."""
    definition: str
    """Name of the definition."""
    dataset: Literal["public", "synthetic"] | None
    """Source of the routing inputs."""
    protocol: str | None
    """Timing protocol."""
    timeout_s: int | None = None
    """Limit for one cell, seconds."""
    rtol: float | None = None
    """Relative tolerance of the gate."""
    atol: float | None = None
    """Absolute tolerance of the gate."""
    required_matched_ratio: float | None = None
    """Share of elements that had to match."""
    passed: bool = True
    """Whether the publication says that all cells passed."""
    participants: list[Participant] = Field(min_length=1)
    """Columns of speedups.csv, in order."""
    environment: list[Fact]
    """Recorded facts."""
    unrecorded: list[str]
    """What a reader would need and the publication does not say."""
    flaws: list[str] = Field(default_factory=list)
    """Known flaws of the table, as sentences."""
    repeats: list[str]
    """Folders with the same measurement of the same day."""
    previous: str | None
    """Folder of the run before it."""
    yardstick: bool = False
    """Whether every run is held against this table, its explanations and its versions; true of one table."""
    versions: Versions | None = None
    """Two solutions that the publication compares as versions of one design; a finding of every run."""
