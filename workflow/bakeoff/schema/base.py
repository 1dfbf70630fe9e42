"""What all stored documents are made of."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict

# Characters that act or are none: control characters (newline and tab are text), those that turn the direction of
# writing or end a line unseen, and halves of surrogate pairs.
UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
LONGEST = 20_000


def visible(text: str, most: int = LONGEST) -> str:
    """Text of a solution as data: what would act on a terminal or a page is escaped, what is too long is cut."""
    plain = UNPRINTABLE.sub(lambda found: found.group().encode("unicode_escape").decode(), text[:most])
    return plain if len(text) <= most else f"{plain} [{len(text) - most} more characters]"


def _visible(value: Any) -> Any:
    return visible(value) if isinstance(value, str) else value


Said = Annotated[str, BeforeValidator(_visible)]


class Part(BaseModel):
    """Base of all models; a row of plain values inside one is a frozen dataclass, which pydantic checks with the
    document that holds it. Unknown fields, NaN and infinity are refused, and nothing changes after it was checked. The
    text under a field is its description in the JSON Schema."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True)


@dataclass(frozen=True)
class Estimate:
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
    """What one interval says of a against b; the margin is 2 %."""

    FASTER_2_PERCENT = "FASTER_2_PERCENT"  # faster, by 2 % or more
    FASTER_OPEN = "FASTER_OPEN"  # faster, by how much is open
    FASTER_BELOW_2_PERCENT = "FASTER_BELOW_2_PERCENT"  # faster, by less than 2 %
    SAME = "SAME"  # less than 2 % apart, which way is open
    SLOWER_BELOW_2_PERCENT = "SLOWER_BELOW_2_PERCENT"
    SLOWER_OPEN = "SLOWER_OPEN"
    SLOWER_2_PERCENT = "SLOWER_2_PERCENT"
    OPEN = "OPEN"

    @property
    def direction(self) -> int:
        """1 if a is faster beyond the noise, -1 if it is slower, 0 if that is open."""
        return {"FASTER": 1, "SLOWER": -1}.get(self.partition("_")[0], 0)

    @property
    def within(self) -> bool:
        """Whether the two are shown to be less than the margin apart."""
        return self is Verdict.SAME or self.endswith("BELOW_2_PERCENT")
