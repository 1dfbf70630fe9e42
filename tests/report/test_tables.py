"""One table, three languages."""

from __future__ import annotations

import csv
import io

import pytest
from bakeoff.report.correctness import remarks
from bakeoff.report.render import lexicon
from bakeoff.report.tables import Column, Table, cell
from bakeoff.report.templates import html_environment
from bakeoff.report.view import View
from support import constructed


def table(**rest: object) -> Table:
    columns = [
        Column("seq_len", head=True),
        Column("speedup", numeric=True),
        Column("hidden", shown=False),
        Column("look", exported=False),
    ]
    return Table(
        "t",
        columns,
        [
            [cell(1), cell(31.2345678901, "31.23×"), cell("=1+1"), cell("only seen")],
            [cell(2), cell(None), cell('a,\n"b"'), cell("")],
        ],
    )


def test_csv_keeps_full_precision_and_leaves_missing_values_empty() -> None:
    rows = list(csv.reader(io.StringIO(table().csv().decode())))
    assert rows == [["seq_len", "speedup", "hidden"], ["1", "31.2345678901", "'=1+1"], ["2", "", 'a,\n"b"']]
    assert b"\r" not in table().csv()


def test_the_page_shows_only_shown_columns_and_na_for_missing() -> None:
    rows = [[(c.key, e.text, e.tone) for c, e in row] for row in table().shown_rows()]
    assert rows[1] == [("seq_len", "2", ""), ("speedup", "n/a", "mute"), ("look", "", "")]


def test_a_row_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"table t: rows \[1\]"):
        Table("t", [Column("a")], [[cell(1)], [cell(1), cell(2)]])


def test_remarks_that_differ_in_a_measured_value_are_one_row_with_its_range() -> None:
    run = constructed.gpu_run()
    for number, one in enumerate(run.cells[:6]):
        # Twice in a cell, in two blocks.
        one.warnings += [
            f"8 calls took {1.5 + number / 10:.2f} times as long as 4",
            f"8 calls took {1.75:.2f} times as long as 4",
        ]
    run.cells[6].warnings.append("made by version 1.2.3 of it")
    run.cells[7].warnings.append("made by version 1.2.4 of it")
    rows = [
        [e.text for _, e in row]
        for row in remarks(View(run, lexicon(html_environment()))).shown_rows()
        if row[0][1].value == "warning"
    ]
    assert [row[1:3] for row in rows] == [
        ["8 calls took 1.50 to 2.00 times as long as 4", "6"],
        ["made by version 1.2.3 of it", "1"],
        ["made by version 1.2.4 of it", "1"],
    ]
