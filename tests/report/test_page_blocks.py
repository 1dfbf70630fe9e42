"""On how many blocks and under which protocols a page's figures rest, and that it says so."""

from __future__ import annotations

import csv
import io
import itertools
import re
from dataclasses import replace

import pytest
from bakeoff.files import PROJECT_ROOT, read_json
from bakeoff.report import render as rendering
from bakeoff.report.index import Source, render_index
from bakeoff.schema.analysis import Analysis
from bakeoff.schema.analysis_figures import ProtocolSummary, Ranked
from bakeoff.schema.base import Estimate
from support.pages import Page, analysis, files


def with_blocks(*counts: int) -> Analysis:
    """A run of ten blocks whose cells rest on so many, in turn."""
    a = analysis("four")
    cells = [c.model_copy(update={"blocks": n}) for c, n in zip(a.cells, itertools.cycle(counts), strict=False)]
    return a.model_copy(update={"cells": cells})


@pytest.mark.parametrize(
    ("counts", "said"), [((10,), "10 blocks"), ((8,), "8 of 10 blocks"), ((10, 10, 9), "9 to 10 of 10 blocks")]
)
def test_a_page_says_on_how_many_blocks_its_figures_rest(counts: tuple[int, ...], said: str) -> None:
    a = with_blocks(*counts)
    written = rendering.render(a)
    page, markdown = Page.of(written["report.html"]), written["report.md"].decode()
    missing = counts != (10,)
    for text in (page.text, markdown):
        assert f"the geometric mean over {said}, paired" in text
        assert (f"; over {said}" in text) == missing  # the tile of how sure it is
        assert re.search(rf"Blocks\W*{said.removesuffix(' blocks')}\b", text)
        assert not missing or not re.search(r"over \W*10 blocks", text)
    kicker = next(e.text for e in page.all("p") if e.attributes.get("class") == "kicker")
    assert (said in kicker) == missing
    index = render_index([Source(a, "analysis.json", "report.html")])
    assert (f"from {said}" in Page.of(index).text) == missing


def test_a_cell_with_fewer_blocks_than_the_others_says_so() -> None:
    a = with_blocks(10, 10, 9)
    page = Page.of(rendering.render(a)["report.html"])
    assert sum("9 blocks" in e.text for e in page.all("small")) == sum(c.blocks == 9 for c in a.cells) > 0
    assert not any("8 blocks" in e.text for e in Page.of(rendering.render(with_blocks(8))["report.html"]).all("small"))


def test_one_block_that_is_left_of_many_supports_nothing() -> None:
    a = analysis("one_block")
    left = a.model_copy(update={"run": a.run.model_copy(update={"blocks": 10})})
    page = Page.of(rendering.render(left)["report.html"])
    assert "one value" in page.text and "1 of 10 blocks" in page.text
    assert "No lead is supported: there is one value a cell" in page.text


def test_a_run_under_two_protocols_shows_both_and_whether_the_order_holds() -> None:
    a = analysis("with_peer")
    names = [s.solution for s in a.summaries]
    order = [Ranked(solution=name, value=1.0 + place, rank=place + 1) for place, name in enumerate(names)]
    turned = [Ranked(solution=name, value=1.0 + place, rank=place + 1) for place, name in enumerate(reversed(names))]
    known = {"workloads": [w.id for w in a.workloads], "first_order": order}
    same = ProtocolSummary(protocol="fib-0.1.2", summaries=a.summaries, order=order, **known)
    other = ProtocolSummary(protocol="fib-0.1.2", summaries=a.summaries, order=turned, **known)
    header = a.run.model_copy(update={"other_protocols": ["fib-0.1.2"]})
    for one, said in ((same, "stand in the same order"), (other, "change places")):
        written = rendering.render(a.model_copy(update={"run": header, "other_protocols": [one]}))
        page = Page.of(written["report.html"])
        assert said in page.text and said in written["report.md"].decode()
        assert ("instead of" in page.text) == (one is other) and "fig-orders" in written["report.html"].decode()
        rows = list(csv.DictReader(io.StringIO(written["tables/protocols.csv"].decode())))
        means = {s.solution: s.geometric_mean.value for s in one.summaries if s.geometric_mean}
        assert {row["solution"]: float(row["fib-0.1.2"]) for row in rows} == means
        places = list(csv.DictReader(io.StringIO(written["tables/orders.csv"].decode())))
        assert {row["solution"]: int(row["fib-0.1.2_rank"]) for row in places} == {
            r.solution: r.rank for r in one.order
        }
    assert "Under each timing protocol" not in Page.of(files("with_peer")["report.html"]).text


@pytest.mark.parametrize(("without", "said"), [(1.002, True), (0.99, True), (1.025, False)])
def test_a_difference_that_rests_on_one_process_says_so(without: float, said: bool) -> None:
    a = analysis("four")
    winner = next(one for one in a.winners if one.runner_up)
    names = {winner.leader, winner.runner_up}
    (pair,) = (one for one in a.pairs if {one.a, one.b} == names)
    ratio, rest = (each if pair.a == winner.leader else 1 / each for each in (1.03, without))
    verdicts = [
        replace(one, ratio=Estimate(value=ratio), without_outliers=Estimate(value=rest))
        if one.workload == winner.workload
        else replace(one, without_outliers=None)
        for one in pair.verdicts
    ]
    pairs = [replace(one, verdicts=verdicts) if one is pair else one for one in a.pairs]
    cells = [
        cell.model_copy(
            update={"outlier_blocks": [1] * ((cell.solution, cell.workload) == (winner.leader, winner.workload))}
        )
        for cell in a.cells
    ]
    written = rendering.render(a.model_copy(update={"pairs": pairs, "cells": cells}))
    assert ("rests on one process" in written["report.html"].decode()) == said
    rows = list(csv.DictReader(io.StringIO(written["tables/matrix.csv"].decode())))
    assert [row["lead_rests_on"] for row in rows].count("rests on one process") == said


def test_a_peer_that_is_not_made_for_the_chip_counts_for_nothing_and_takes_no_column() -> None:
    found = read_json(PROJECT_ROOT / "results/recorded/2026-12-01_h200_2/analysis.json", Analysis)
    (foreign,) = (who.name for who in found.participants if not who.supported)
    report = rendering.render(found)
    page = Page.of(report["report.html"])
    (tile,) = (one for one in page.all("li") if one.text.startswith("Cells that passed both gates"))
    assert tile.attributes["class"] == "good" and "peers 76/76" in tile.text and "342/342" in tile.text
    heads = [one.text for one in page.all("th") if one.attributes["scope"] == "col"]
    assert any("deepgemm" in head for head in heads) and not any("alphamoe" in head for head in heads)
    assert foreign in report["tables/matrix.csv"].decode().splitlines()[0]
