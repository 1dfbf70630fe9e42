"""One declaration, four languages: page, Markdown, CSV and terminal."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys

import pytest
from bakeoff.report.correctness import remarks
from bakeoff.report.view import RunView
from bakeoff.schema.base import Estimate, Part
from bakeoff.tables import formats, shared, text
from bakeoff.tables.table import Column, Row, Table, flat, frame, number
from support import constructed_profile
from support.pages import analysis

COLUMNS = [
    number("seq_len", "seq_len", formats.count, head=True),
    number("speedup", "Speedup over it", formats.fixed, formats.TIMES, interval=True),
    Column("hidden"),
    Column("said", "Said", missing="–", tone=lambda row: "bad" if row["seq_len"] == 1901 else ""),
]
RATIO = {"speedup": 31.2345678901, "speedup_low": 30.0, "speedup_high": 32.5}
ROWS: list[Row] = [
    {
        "seq_len": 1901,
        "speedup": 31.2345678901,
        "speedup_low": 30.0,
        "speedup_high": 32.5,
        "hidden": "=1+1",
        "said": "a",
    },
    {"seq_len": 2, "speedup": None, "speedup_low": None, "speedup_high": None, "hidden": 'a,\n"b"', "said": None},
]


def table(rows: list[Row] = ROWS) -> Table:
    return Table("t", frame(rows), COLUMNS)


def test_csv_keeps_full_precision_and_leaves_missing_values_empty() -> None:
    rows = list(csv.reader(io.StringIO(table().csv().decode())))
    assert rows == [
        ["seq_len", "speedup", "speedup_low", "speedup_high", "hidden", "said"],
        ["1901", "31.2345678901", "30.0", "32.5", "'=1+1", "a"],
        ["2", "", "", "", 'a,\n"b"', ""],
    ]
    assert b"\r" not in table().csv()


def test_the_page_shows_only_shown_columns_and_na_for_missing() -> None:
    rows = [[(c.key, e.text, e.note, e.tone) for c, e in row] for row in table().rows()]
    assert rows[0] == [
        ("seq_len", "1,901", "", ""),
        ("speedup", "31.23×", "30.00–32.50", ""),
        ("said", "a", "", "bad"),
    ]
    assert rows[1] == [("seq_len", "2", "", ""), ("speedup", "n/a", "", "mute"), ("said", "–", "", "")]
    assert len(list(table().rows(1))) == 1


def test_the_terminal_prints_the_same_texts_aligned_under_their_headings() -> None:
    assert text.lines(table(), ("said", "seq_len", "speedup", "hidden")) == [
        "  Said  seq_len       Speedup over it  hidden",
        "  a       1,901  31.23× (30.00–32.50)  =1+1",
        '  –           2                   n/a  a, "b"',
    ]
    assert text.lines(table([]), ("said",)) == []
    assert text.blocks(table(), ("said", "seq_len"), ("speedup",)) == [
        "  a  1,901",
        "      Speedup over it: 31.23× (30.00–32.50)",
        "  –  2",
    ]


def test_rows_that_come_one_by_one_stand_under_one_head() -> None:
    stream = text.Stream(text.chosen(COLUMNS, ("said", "speedup")), {"said": 6})
    assert [*stream.heads(), *map(stream.line, ROWS)] == [
        "        Speedup",
        "Said    over it",
        "a       31.23× (30.00–32.50)",
        "–           n/a",
    ]


def test_a_column_that_the_frame_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="table t: the frame has no column said"):
        table([{key: value for key, value in row.items() if key != "said"} for row in ROWS])


def test_an_estimate_becomes_three_values_of_a_row() -> None:
    class Measured(Part):
        name: str
        ratio: Estimate | None

    rows = [
        flat(Measured(name="a", ratio=Estimate(value=2.0, low=1.0, high=3.0))),
        flat(Measured(name="b", ratio=None)),
    ]
    assert rows == [{"name": "a", "ratio": 2.0, "ratio_low": 1.0, "ratio_high": 3.0}, {"name": "b", "ratio": None}]
    printed = Table("t", frame(rows), [Column("name"), number("ratio", interval=True)]).csv().decode()
    assert printed == "name,ratio,ratio_low,ratio_high\na,2.0,1.0,3.0\nb,,,\n"


def test_a_declaration_costs_no_pandas() -> None:
    program = (
        "import sys, bakeoff.runs.check, bakeoff.report.verbs, bakeoff.tables.shared; print('pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_remarks_that_differ_in_a_measured_value_are_one_row_with_its_range() -> None:
    run = analysis("four").model_copy(deep=True)
    for place, one in enumerate(run.cells[:6]):
        # Twice in a cell, in two blocks.
        one.warnings.extend(
            [
                f"8 calls took {1.5 + place / 10:.2f} times as long as 4",
                f"8 calls took {1.75:.2f} times as long as 4",
            ]
        )
    run.cells[6].warnings.append("made by version 1.2.3 of it")
    run.cells[7].warnings.append("made by version 1.2.4 of it")
    rows = [[e.text for _, e in row] for row in remarks(RunView(run)).rows() if row[0][1].text == "Warning"]
    assert [row[1:3] for row in rows] == [
        ["8 calls took 1.50 to 2.00 times as long as 4", "6"],
        ["made by version 1.2.3 of it", "1"],
        ["made by version 1.2.4 of it", "1"],
    ]


def test_page_csv_and_terminal_of_a_shared_table_say_the_same() -> None:
    section = constructed_profile.profiled_run().profiles
    assert section is not None
    stages = Table("stages", frame(shared.stage_rows(section.cells)), shared.stages())
    keys = [column.key for column in stages.shown]
    page = [[shown.text.replace(formats.SPACE, " ") for _, shown in row] for row in stages.rows()]
    terminal = [re.split(r"  +", line.strip()) for line in text.lines(stages, keys)[-len(stages) :]]
    assert page == terminal and len(page) > 10
    exact = list(csv.DictReader(io.StringIO(stages.csv().decode())))
    assert [formats.duration(float(row["us"])).replace(formats.SPACE, " ") for row in exact] == [
        row[keys.index("us")] for row in page
    ]


def test_a_terminal_shows_tones_as_colours_unless_no_color_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = [Column("what"), Column("how", tone=lambda row: "good" if row["how"] == "well" else "bad")]
    table = Table("t", frame([{"what": "a", "how": "well"}, {"what": "b", "how": "ill"}]), columns)
    plain = text.lines(table, ["what", "how"])
    assert not any("\x1b" in line for line in plain), "what is no terminal gets no colour"
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(text.sys.stdout, "isatty", lambda: True, raising=False)
    shown = text.lines(table, ["what", "how"])
    assert "\x1b[32mwell\x1b[0m" in shown[1] and "\x1b[31mill \x1b[0m" in shown[2]
    monkeypatch.setenv("NO_COLOR", "1")
    assert text.lines(table, ["what", "how"]) == plain
