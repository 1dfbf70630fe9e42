"""Drawings: deterministic, named for screen readers, told apart without colour."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ElementTree

import pytest
from bakeoff.report.svg import charts, elements, grids

WORDS = charts.Words(title="Speedup & more", description="<all> of it", x="seq_len", y="speedup")


def series(number: int, points: int = 5) -> list[charts.Series]:
    return [
        charts.Series(
            i,
            f"solution_{i}",
            [charts.Point(10.0**p, 10.0 + i + p, 9.5 + i + p, 10.5 + i + p, f"p{p}") for p in range(points)],
        )
        for i in range(number)
    ]


def drawings(markup: str) -> list[ElementTree.Element]:
    """The wide and the narrow drawing, without the legend."""
    return [part for part in ElementTree.fromstring(f"<div>{markup}</div>") if part.tag == "svg"]


@pytest.mark.parametrize("number", [1, 4, 12])
@pytest.mark.parametrize("points", [1, 5])
def test_every_chart_is_well_formed_named_and_drawn_for_both_widths(number: int, points: int) -> None:
    share = [
        charts.Series(s.index, s.label, [charts.Point(1 + p.x / 1e4, (k + 1) / points) for k, p in enumerate(s.points)])
        for s in series(number, points)
    ]
    rows = [
        charts.Series(s.index, s.label, [charts.Point(p.y, float(k)) for k, p in enumerate(s.points)])
        for s in series(number, points)
    ]
    grid = grids.grid(
        "g",
        [str(10**p) for p in range(points)],
        [(s.index, s.label, ["win"] * points) for s in series(number)],
        WORDS,
        {"win": "won"},
    )
    made = [
        charts.over_seq_len("a", series(number, points), WORDS),
        charts.performance_profile("b", share, WORDS),
        charts.behind("c", [f"T{p}" for p in range(points)], rows, WORDS),
        grid,
    ]
    ids: list[str] = []
    for markup in made:
        wide, narrow = drawings(markup)
        assert (wide.get("class"), narrow.get("class")) == ("wide", "narrow")
        for drawing in (wide, narrow):
            assert [child.tag for child in drawing][:2] == ["title", "desc"]
            assert drawing[0].text == "Speedup & more"
            ids += [drawing[0].get("id", ""), drawing[1].get("id", "")]
    assert len(ids) == len(set(ids))


def test_participants_differ_without_colour() -> None:
    shapes = ElementTree.fromstring(str(elements.definitions()))[0]
    drawn = [(shape.tag, shape.get("d")) for shape in shapes]
    filled = [str(elements.marker(i, 0, 0)).split(" ")[2] for i in range(len(drawn))]
    assert len(set(zip(drawn, filled, strict=True))) == len(drawn) == 13
    assert all(elements.dash(a) != elements.dash(b) for a, b in itertools.pairwise(range(40)))
    assert len({str(elements.marker(i, 0, 0)) for i in range(40)}) == 40


def test_coordinates_are_rounded() -> None:
    assert [elements.coordinate(v) for v in (12.0, 3.14159, -0.04, 1e-17, 100.25)] == ["12", "3.1", "0", "0", "100.2"]


@pytest.mark.parametrize(("low", "high"), [(4.8, 42.6), (0.9, 1.1), (1.0, 14107.0), (1.0, 1.06), (5.0, 5.0)])
def test_ticks_are_few_and_inside_the_axis(low: float, high: float) -> None:
    ticks = elements.log_ticks(low, high)
    assert 1 <= len(ticks) <= 16
    assert all(low * 0.99 <= tick <= high * 1.01 for tick in ticks)


def test_the_three_large_workloads_keep_their_ticks() -> None:
    lens = [1, 7, 14, 15, 16, 32, 52, 53, 54, 55, 56, 57, 58, 59, 62, 80, 901, 11948, 14107]
    text = str(charts.over_seq_len("a", [charts.Series(0, "s", [charts.Point(t, 10.0 + t % 7) for t in lens])], WORDS))
    wide = text.split('class="wide"')[1].split('class="narrow"')[0]
    assert all(f">{mark}<" in wide for mark in ("1", "80", "901", "14,107"))
    assert wide.count('class="m c0"') == len(lens)


def test_labels_move_apart_and_stay_inside() -> None:
    moved = charts.spread([10.0, 11.0, 12.0, 90.0, 99.0], 16, 0, 100)
    assert all(b - a >= 16 - 1e-9 for a, b in itertools.pairwise(moved))
    assert moved[-1] <= 100
    assert charts.spread([], 16, 0, 100) == []


def test_text_from_data_is_escaped() -> None:
    text = str(charts.over_seq_len("a", [charts.Series(0, "<b>&", [charts.Point(1, 2.0, title='"<i>"')])], WORDS))
    assert "<b>" not in text and "<i>" not in text
    assert "&lt;b&gt;&amp;" in text


def test_a_line_of_very_many_points_keeps_its_extremes_and_few_marks() -> None:
    points = [charts.Point(1 + k, 10.0 + (k * 7919) % 31) for k in range(5000)]
    points[2500] = charts.Point(2501, 99.0)
    few, many = (
        str(charts.over_seq_len("a", [charts.Series(0, "s", chosen)], WORDS)) for chosen in (points[2450:2550], points)
    )
    assert few.count('class="m c0"') == 2 * 100 + 1 and many.count('class="m c0"') < 200
    lines = [re.search(r'class="l c0" d="(M[^"]+L[^"]+L[^"]+)"', text) for text in (few, many)]
    tops = [min(float(y) for y in re.findall(r"L[\d.]+ ([\d.]+)", found[1])) for found in lines if found]
    assert len(tops) == 2 and abs(tops[0] - tops[1]) < 0.2
    shares = [charts.Point(1 + k / 100, (k + 1) / 5000) for k in range(5000)]
    assert str(charts.performance_profile("b", [charts.Series(0, "s", shares)], WORDS)).count('class="m c0"') < 100
