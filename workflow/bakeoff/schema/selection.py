"""selection.json: the solutions of a screening run that are worth a confirmation on fresh blocks."""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from bakeoff.schema.base import Estimate, Part


@dataclass(frozen=True)
class Selected:
    """One of the leading solutions, with the figures that it was selected by. Nothing is concluded from these: the best
    of many looks better than it is."""

    solution: str
    """Name of the solution."""
    digest: str
    """sha256 of the packed solution that was screened."""
    rank: int
    """1 is the fastest of all that were screened and passed everywhere."""
    geometric_mean: Estimate
    """Geometric mean of its speedups over the reference, in the screening."""
    blocks: int
    """Blocks that the least measured of its cells rests on."""


class Selection(Part):
    """selection.json."""

    schema_: Literal["bakeoff/selection/1"] = Field("bakeoff/selection/1", alias="schema")
    """Format and version of this document."""
    run: str
    """Name of the screening run."""
    analysis: str
    """sha256 of its analysis.json."""
    screened: int
    """Solutions that could have been selected: all but the anchors and twins."""
    unfit: int
    """Of these, those that did not pass everywhere or have no time everywhere."""
    anchors: list[str]
    """What the selected ones are compared with."""
    selected: list[Selected]
    """Fastest first."""
