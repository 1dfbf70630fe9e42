"""The roofline: marks stand as far below a roof as their share of the floor says."""

from __future__ import annotations

import re

import pytest
from bakeoff.report.figures import roofline
from bakeoff.report.svg.charts import Words
from bakeoff.report.view import RunView
from bakeoff.schema.profile import Ceilings, CellProfile
from support import constructed_profile
from support.pages import analysis

WORDS = Words(title="t", description="d", x="FLOP/byte", y="TFLOP/s")
ROOF = re.compile(r'<path class="roof" d="M([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)"')
MARK = re.compile(r'<use href="#k\d+" class="\w+ c\d" x="([\d.-]+)" y="([\d.-]+)"><title>([^<]*)</title>')


def drawn(cells: dict[str, object] | None = None, **section: object) -> str:
    """The wide drawing of a run whose profiled cells and section have these fields."""
    a = constructed_profile.profiled_run()
    assert a.profiles is not None
    found = [CellProfile.model_validate(one.model_dump() | (cells or {})) for one in a.profiles.cells]
    a = a.model_copy(update={"profiles": a.profiles.model_copy(update={"cells": found, **section})})
    chart = str(roofline(RunView(a), WORDS))
    return chart[: chart.index('class="narrow"')] if chart else ""


def marks(chart: str) -> list[tuple[float, float, str]]:
    return [(float(x), float(y), said) for x, y, said in MARK.findall(chart)]


def roofs_at(chart: str, x: float) -> list[float]:
    """Where each roof stands on the page at x."""
    found = []
    for x0, y0, x1, y1, _, top in ([float(value) for value in one] for one in ROOF.findall(chart)):
        found.append(top if x >= x1 else y0 + (x - x0) / (x1 - x0) * (y1 - y0))
    return found


def at_share(intensity: float, share: float) -> str:
    """A chart whose cells reach this share of their floor at the sourced peaks."""
    floor_s = max(1e12 / 1979e12, 1e12 / intensity / 3350e9)
    return drawn({"intensity": intensity, "span_us": floor_s / share * 1e6})


@pytest.mark.parametrize("intensity", [10.0, 2000.0])
def test_a_cell_at_its_floor_stands_on_the_roof(intensity: float) -> None:
    found = marks(chart := at_share(intensity, 1.0))
    assert len({x for x, _, _ in found}) == 4, "marks of one workload stand side by side"
    for x, y, _ in found:
        assert y == pytest.approx(roofs_at(chart, x)[0], abs=0.3)


def test_a_cell_at_half_its_floor_stands_below_the_roof_and_says_its_rate() -> None:
    found = marks(chart := at_share(2000.0, 0.5))
    assert all(y > roofs_at(chart, x)[0] + 20 for x, y, _ in found)
    assert "990" in found[0][2] and "TFLOP/s" in found[0][2]


def test_measured_rates_are_a_second_roof() -> None:
    chart = drawn({"span_us": 2000.0}, ceilings=Ceilings(copy_gbs=3000.0, fp8_tflops=1500.0, launch_us=2.0))
    sourced, measured = roofs_at(chart, 800.0)
    assert measured > sourced, "lower rates are lower on the page"
    assert "measured on this host" in chart and "sourced peaks" in chart
    assert len(roofs_at(drawn({"span_us": 2000.0}), 800.0)) == 1, "no measured FP8 rate, no second roof"


def test_without_peaks_or_a_profile_there_is_no_chart() -> None:
    assert drawn(peak_gbs=None, peak_tflops=None) == ""
    assert roofline(RunView(analysis("four")), WORDS) == ""
