"""One number formatter: rounding, units, missing values."""

from __future__ import annotations

import math

import pytest
from bakeoff.tables import formats


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.125, 2, "0.12"),
        (0.135, 2, "0.14"),
        (2.675, 2, "2.68"),
        (31.205, 2, "31.20"),
        (1e-9, 2, "0.00"),
        (-1e-9, 2, "0.00"),
        (-1.005, 2, "−1.00"),
        (12, 2, "12.00"),
    ],
)
def test_rounding_is_half_even_on_the_shortest_decimal(value: float, digits: int, text: str) -> None:
    assert formats.fixed(value, digits) == text


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_is_refused(value: float) -> None:
    for write in (formats.fixed, formats.percent, formats.significant, formats.duration, formats.raw):
        with pytest.raises(ValueError, match="not a finite number"):
            write(value)


def test_a_missing_value_is_never_zero() -> None:
    writers = (
        formats.fixed,
        formats.speedup,
        formats.published,
        formats.percent,
        formats.signed_percent,
        formats.count,
    )
    assert {
        write(None) for write in (*writers, formats.significant, formats.duration, formats.data_size, formats.flag)
    } == {"n/a"}
    assert formats.interval(None, 1.0) == formats.interval(1.0, None) == "n/a"
    assert formats.raw(None) == ""


def test_units_stand_with_their_figures() -> None:
    assert formats.speedup(31.236) == "31.24×"
    assert formats.published(4.81) == "4.81x"
    assert formats.percent(0.8665) == "86.6\u00a0%"
    assert [formats.signed_percent(v) for v in (0.0312, -0.0312, 0.0, 0.0001)] == [
        "+3.1\u00a0%",
        "−3.1\u00a0%",
        "0.0\u00a0%",
        "0.0\u00a0%",
    ]
    assert [formats.duration(v) for v in (0.5, 41.23, 1234.5, 1.5e6)] == [
        "0.500\u00a0µs",
        "41.2\u00a0µs",
        "1.23\u00a0ms",
        "1.50\u00a0s",
    ]
    assert [formats.data_size(v) for v in (12, 1.41e9)] == ["12.0\u00a0B", "1.41\u00a0GB"]
    assert formats.interval(30.911, 31.567, 2, "×") == "30.91–31.57×"
    assert formats.count(14107) == "14,107"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.0431, "0.0431"),
        (1.1e-3, "0.00110"),
        (9.996e-4, "0.00100"),
        (1.234e-4, "1.23e-4"),
        (-1.234e-4, "−1.23e-4"),
        (1234567.0, "1.23e6"),
        (999.6, "1000"),
        (0.867, "0.867"),
    ],
)
def test_significant_figures(value: float, text: str) -> None:
    assert formats.significant(value) == text


def test_lists_and_plurals() -> None:
    assert [formats.listed(items, "and") for items in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]
    assert (formats.plural(1, "workload"), formats.plural(1900, "workload"), formats.plural(2, "box", "boxes")) == (
        "1 workload",
        "1,900 workloads",
        "2 boxes",
    )


def test_machines_get_every_digit() -> None:
    assert [formats.raw(v) for v in (0.1 + 0.2, True, 3, "a")] == ["0.30000000000000004", "true", "3", "a"]
