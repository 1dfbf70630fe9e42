"""What all stored documents are made of."""

from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """Base of all models: unknown fields, NaN and infinity are refused, and nothing changes after it was checked. The
    text under a field is its description in the JSON Schema."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True, populate_by_name=True
    )


class Estimate(Part):
    """A figure, and how sure it is."""

    value: float
    """The figure itself, in the unit of the field that holds it."""
    low: float | None = None
    """Lower end of the 95 % interval; null with fewer than two blocks."""
    high: float | None = None
    """Upper end of the 95 % interval; null with fewer than two blocks."""

    @property
    def inverse(self) -> Self:
        """The same of the quotient the other way round."""
        low, high = (None if end is None else 1 / end for end in (self.high, self.low))
        return type(self)(value=1 / self.value, low=low, high=high)


class Verdict(StrEnum):
    """What the data say about a against b."""

    FASTER = "FASTER"
    SLOWER = "SLOWER"
    SAME = "SAME"
    AMBIGUOUS = "AMBIGUOUS"
