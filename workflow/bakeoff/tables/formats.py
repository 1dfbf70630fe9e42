"""How a number is written: the only place that turns a figure into text.

No locale. Rounding is half-even on the shortest decimal that reads back as the same float, so 0.125 -> 0.12 and 2.675
-> 2.68 on every machine. A missing value is "n/a" and never 0; NaN and infinity are refused (ValueError): they are no
results.
"""

import math
from decimal import ROUND_HALF_EVEN, Decimal

MISSING = "n/a"
MINUS = "−"
TIMES = "×"
SPACE = "\u00a0"  # between a figure and its unit: no line breaks there

_TIME = ((1e6, "s"), (1e3, "ms"), (1.0, "µs"))
_BYTES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))


def _decimal(value: float) -> Decimal:
    if not math.isfinite(value):
        raise ValueError(f"not a finite number: {value!r}")
    return Decimal(repr(value) if isinstance(value, float) else int(value))


def fixed(value: float | None, digits: int = 2, unit: str = "", *, minus: str = MINUS) -> str:
    """`digits` decimals, then the unit: 31.2 -> "31.20×". A value that rounds to zero carries no sign."""
    if value is None:
        return MISSING
    rounded = _decimal(value).quantize(Decimal(1).scaleb(-digits), rounding=ROUND_HALF_EVEN)
    sign = minus if rounded < 0 else ""
    return f"{sign}{abs(rounded):f}{unit}"


def speedup(value: float | None, digits: int = 2) -> str:
    """A ratio of times, as "31.24×"."""
    return fixed(value, digits, TIMES)


def published(value: float | None) -> str:
    """A speedup as the published tables print it, "31.24x"."""
    return fixed(value, 2, "x")


def percent(ratio: float | None, digits: int = 1) -> str:
    """A share as "86.7 %" (0.867)."""
    return MISSING if ratio is None else fixed(float(_decimal(ratio) * 100), digits, f"{SPACE}%")


def signed_percent(ratio: float | None, digits: int = 1) -> str:
    """A change as "+3.1 %" or "−3.1 %"; 0 has no sign."""
    if ratio is None:
        return MISSING
    text = percent(ratio, digits)
    return text if text.startswith(MINUS) or not any(digit in text for digit in "123456789") else f"+{text}"


def count(value: int | None) -> str:
    """A whole number with thousands separated: "14,107"."""
    return MISSING if value is None else f"{value:,d}"


def interval(low: float | None, high: float | None, digits: int = 2, unit: str = "") -> str:
    """The two ends of an interval, "30.91–31.57×"; n/a unless both ends are there."""
    if low is None or high is None:
        return MISSING
    return f"{fixed(low, digits)}–{fixed(high, digits, unit)}"


def significant(value: float | None, digits: int = 3) -> str:
    """`digits` significant figures, plain between 1e-3 and 1e6, otherwise as "1.05e-4"; exact zero is "0"."""
    if value is None:
        return MISSING
    exact = _decimal(value)
    if exact == 0:
        return "0"
    rounded = exact.quantize(Decimal(1).scaleb(exact.adjusted() - digits + 1), rounding=ROUND_HALF_EVEN)
    sign, power = MINUS if rounded < 0 else "", rounded.adjusted()
    if -3 <= power < 6:
        return f"{sign}{abs(rounded.quantize(Decimal(1).scaleb(min(0, power - digits + 1)))):f}"
    return f"{sign}{abs(rounded).scaleb(-power).quantize(Decimal(1).scaleb(1 - digits)):f}e{power}"


def _scaled(value: float, steps: tuple[tuple[float, str], ...]) -> str:
    factor, unit = next((step for step in steps if abs(value) >= step[0]), steps[-1])
    return f"{significant(value / factor)}{SPACE}{unit}"


def duration(microseconds: float | None) -> str:
    """A time given in µs, in the unit that reads best: "412 µs", "15.7 ms", "1.20 s"."""
    return MISSING if microseconds is None else _scaled(microseconds, _TIME)


def data_size(size: float | None) -> str:
    """A number of bytes, in decimal units: "1.41 GB"."""
    return MISSING if size is None else _scaled(size, _BYTES)


def flag(value: bool | None) -> str:
    """A yes-or-no fact."""
    return MISSING if value is None else ("yes" if value else "no")


def raw(value: object) -> str:
    """A value for a machine (CSV): every digit of a float, nothing at all for a missing one."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        _decimal(value)
        return repr(value)
    return str(value)


def plural(number: int, one: str, many: str | None = None) -> str:
    """A count with its noun: "1 workload", "19 workloads"."""
    return f"{count(number)} {one if number == 1 else many or one + 's'}"


def listed(items: list[str], last: str = "and") -> str:
    """Items as a sentence lists them: "a", "a and b", "a, b and c"."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {last} {items[-1]}" if items else ""
