"""Printed figures: what they allow. The printed form sets its own tolerance, never the claim.

Entry point: `parse`. `31.21x` (or `31.21×`), `~6.3x`, `20.8%`, `+7.1%`, `13/19`, `~96K`, and ranges such as `10-15x` or
`~2.5–3×`. A "%" is a share of one, so its digits and tolerance are percentage points: 20.8% is 0.208 within 0.0005.
Half a unit of the last printed digit, one unit after a "~", where the zeros that end a round number are no digits: ~30x
is 20 to 40. A range holds every value, with the tolerance of its finest digit.
"""

import re
from dataclasses import dataclass

_NUMBER = r"[+−-]?\d+(?:\.\d+)?"
_FORM = re.compile(rf"(?P<about>~)?(?P<low>{_NUMBER})(?:[-–](?P<high>{_NUMBER}))?(?P<unit>x|×|%|K|)(?:/(?P<of>\d+))?")
_SCALE = {"": 1.0, "x": 1.0, "×": 1.0, "%": 0.01, "K": 1000.0}
# Recomputed values carry rounding of binary fractions; printed ones are decimal.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Printed:
    """Bounds in the value's own scale (20.8 % is 0.208): low == high for a single figure. `digits` after the point as
    printed."""

    low: float
    high: float
    tolerance: float
    digits: int
    unit: str
    of: int | None

    def allows(self, value: float) -> bool:
        slack = self.tolerance + ROUNDING * max(1.0, abs(self.high))
        return self.low - slack <= value <= self.high + slack

    def show(self, value: float) -> str:
        """A recomputed value in the printed form, two digits longer."""
        return f"{value / _SCALE[self.unit]:.{self.digits + 2}f}{self.unit}"

    def show_tolerance(self) -> str:
        return f"{self.tolerance / _SCALE[self.unit]:g}{self.unit}"


def parse(text: str) -> Printed | None:
    """The figure; None if the text is none (a name, a word), which then has to be equal."""
    found = _FORM.fullmatch(text)
    if not found:
        return None
    low, high = (number.replace("−", "-") for number in (found["low"], found["high"] or found["low"]))
    digits, scale = max(_digits(low), _digits(high)), _SCALE[found["unit"]]
    unit = 10.0 ** (min(map(_zeros, (low, high))) if found["about"] else -digits)
    of = int(found["of"]) if found["of"] else None
    # A count out of a count is exact.
    tolerance = 0.0 if of is not None else (unit if found["about"] else unit / 2) * scale
    return Printed(float(low) * scale, float(high) * scale, tolerance, digits, found["unit"], of)


def _digits(number: str) -> int:
    return len(number.partition(".")[2])


def _zeros(number: str) -> int:
    """Power of ten of the last digit that counts in a rounded number: 1 of 30, 0 of 31, -1 of 2.5."""
    return -_digits(number) if "." in number else len(number) - len(number.rstrip("0")) if number.strip("0") else 0
