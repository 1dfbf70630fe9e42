"""The chart of stages: bars divide a call's span, and say so without colour too."""

from __future__ import annotations

import re
from collections import defaultdict

import pytest
from bakeoff.report.svg.charts import Words
from bakeoff.report.svg.stage_chart import over_seq_len
from bakeoff.report.view import RunView
from bakeoff.schema.profile import CellProfile
from support import constructed_profile
from support.pages import analysis

RECT = re.compile(r'<rect class="st (\w+)" x="([\d.]+)" y="(-?[\d.]+)" width="[\d.]+" height="([\d.]+)">')
WORDS = Words(title="t", description="d", x="seq_len", y="span in µs")


def drawn(**changes: object) -> str:
    """The chart of a run whose profiled cells have these fields."""
    a = constructed_profile.profiled_run()
    assert a.profiles is not None
    cells = [CellProfile.model_validate(one.model_dump() | changes) for one in a.profiles.cells]
    a = a.model_copy(update={"profiles": a.profiles.model_copy(update={"cells": cells})})
    return str(over_seq_len(RunView(a), WORDS))


def bars(chart: str) -> list[dict[str, float]]:
    """The wide drawing's bars, one per solution: height of each part."""
    wide = chart[: chart.index('class="narrow"')]
    found: dict[float, dict[str, float]] = defaultdict(dict)
    panel, last = 0, float("inf")
    for name, _, y, height in RECT.findall(wide):
        panel += float(y) > last  # parts of a bar are stacked upwards
        found[panel][name], last = float(height), float(y)
    return list(found.values())


def test_a_bar_is_the_span_divided_by_stage_with_the_gaps_last() -> None:
    chart = drawn()
    assert len(bars(chart)) == 4
    for bar in bars(chart):
        whole = sum(bar.values())
        assert list(bar) == ["routing", "permute", "gemm1", "activation_quant", "gemm2", "combine", "gap"]
        # 10, 20, … 60 µs of a span of 250 µs
        assert bar["combine"] / whole == pytest.approx(60 / 250, abs=0.003)
        assert bar["gap"] / whole == pytest.approx(40 / 250, abs=0.003)
    assert "gemm1 12.0\u00a0%" in chart and ">250<" in chart


def test_stages_that_overlap_in_time_fill_the_bar_and_no_more() -> None:
    whole = sum(bars(drawn())[0].values())
    (bar, *_) = bars(drawn(span_us=100.0))
    assert "gap" not in bar and sum(bar.values()) == pytest.approx(whole, abs=0.5)


def test_a_run_without_a_profile_has_no_chart() -> None:
    assert over_seq_len(RunView(analysis("four")), WORDS) == ""


def test_every_part_has_its_word_in_the_legend() -> None:
    chart = drawn()
    legend = re.findall(r"</svg>([^<]+)</li>", chart)
    assert legend == ["routing", "permute", "gemm1", "activation_quant", "gemm2", "combine", "launch gaps"]
