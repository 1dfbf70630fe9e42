"""The report of more solutions than a page shows: the leading ones, failures by cause, and all rows beside it."""

from __future__ import annotations

import csv
import io
from functools import cache

import pytest
from bakeoff.report.narrow import narrowed
from bakeoff.report.render import render
from bakeoff.schema.analysis import Analysis
from pyarrow import parquet
from support.make import FOUR, Made, analysed
from support.pages import Page

CANDIDATES = [f"candidate_{number:02}" for number in range(26)]
FAILED = CANDIDATES[:6]


@cache
def many() -> Analysis:
    """Four contestants and 26 peers, of which 25 is the fastest and six do not compile at one workload."""
    speed = {name: (12 + 0.2 * number, 12 + 0.2 * number) for number, name in enumerate(CANDIDATES)}
    outcomes = {(name, 1): ("COMPILE_ERROR", None) for name in FAILED}
    made = Made(
        "many", workloads=[(1, 32), (7, 192)], speed={**FOUR, **speed}, peers=CANDIDATES, outcomes=outcomes, blocks=5
    )
    found = analysed(made)
    details = [
        f"Traceback:\n  {cell.solution}/solution.py:{number}\nNameError: {cell.solution} line {number}"
        for number, cell in enumerate(found.cells)
    ]
    cells = [
        cell.model_copy(update={"detail": detail}) if cell.outcome != "PASSED" else cell
        for cell, detail in zip(found.cells, details, strict=True)
    ]
    return found.model_copy(update={"cells": cells})


@cache
def written() -> dict[str, bytes]:
    return render(many())


def rows(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(written()[f"tables/{name}.csv"].decode())))


def test_those_who_lead_and_the_contestants_are_shown() -> None:
    # The four contestants are anchors; two of them are among the ten fastest.
    assert set(many().shown) == {*FOUR, *CANDIDATES[-8:]}
    cut = narrowed(many())
    assert [who.name for who in cut.participants] == many().shown
    assert {cell.solution for cell in cut.cells} == {one.solution for one in cut.summaries} == set(many().shown)
    assert all({pair.a, pair.b} <= set(many().shown) for pair in cut.pairs)
    assert cut.validity == many().validity


def test_a_page_of_few_shows_all_and_has_no_parquet() -> None:
    few = analysed(Made("few", workloads=[(1, 32)], blocks=5))
    assert few.shown == [] and narrowed(few) is few
    assert not [name for name in render(few) if name.endswith(".parquet") or "failures" in name]


def test_the_page_counts_all_and_says_where_they_are() -> None:
    page = " ".join(Page.of(written()["report.html"]).text.split())
    assert "shows 12 of 30 solutions" in page
    assert "peers 46/52" in page, "cells of all peers, of which six did not pass"
    assert CANDIDATES[10] not in page and CANDIDATES[-1] in page


def test_failures_stand_by_cause() -> None:
    (row,) = rows("failures")
    assert (row["outcome"], row["count"], row["solution_count"]) == ("COMPILE_ERROR", "6", "6")
    assert row["solutions"].split() == FAILED


def test_all_rows_are_beside_the_page_as_csv_and_the_same_as_parquet() -> None:
    assert {row["solution"] for row in rows("summary")} == {*FOUR, *CANDIDATES}
    names = {name.rpartition(".")[0] for name in written() if name.endswith(".csv")}
    assert names == {name.rpartition(".")[0] for name in written() if name.endswith(".parquet")}
    table = parquet.read_table(io.BytesIO(written()["tables/summary.parquet"])).to_pylist()
    for found, row in zip(table, rows("summary"), strict=True):
        assert {key: "" if value is None else str(value) for key, value in found.items()} == row
    assert isinstance(table[0]["geometric_mean"], float) and isinstance(table[0]["passed"], int)


@pytest.mark.parametrize("suffix", ["csv", "parquet", "html"])
def test_the_same_analysis_gives_the_same_bytes(suffix: str) -> None:
    again = render(many())
    assert {name: data for name, data in again.items() if name.endswith(suffix)} == {
        name: data for name, data in written().items() if name.endswith(suffix)
    }
