"""A table as data: one object that HTML, Markdown and CSV are all made from, so that they cannot disagree.

Headings of fixed columns are words and come from the templates; a column that stands for a solution brings its own
label.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from bakeoff.report.formats import MISSING, raw

# A spreadsheet would run a text that starts like this as a formula; messages of failed solutions end up in tables.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Column:
    """One column.

    key: name in the CSV header, with its unit ("wall_us"). label: heading; None where the template words it.
    numeric: aligned right. head: its cells name their row. shown, exported: whether it is on the page, and in the CSV.
    """

    key: str
    label: str | None = None
    numeric: bool = False
    head: bool = False
    shown: bool = True
    exported: bool = True
    mark: int | None = None


class Cell(NamedTuple):
    """One cell: `value` for machines, `text` for people, `note` a second, smaller line.

    tone: "" or one of win, good, bad, warn, mute (the style sheet's classes). mark: number of the participant whose
    mark goes before the text. href: where the text leads. code: the text is code. ticked: backticks in the text enclose
    code.
    """

    value: object
    text: str
    note: str = ""
    tone: str = ""
    mark: int | None = None
    href: str = ""
    code: bool = False
    ticked: bool = False


def cell(value: object, text: str | None = None, **rest: object) -> Cell:
    """A cell; without `text` the value is shown as it is, and a missing one as n/a in a muted tone."""
    if value is None and text is None:
        rest.setdefault("tone", "mute")
    return Cell(value, MISSING if value is None and text is None else str(value) if text is None else text, **rest)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Table:
    """`id` is its anchor on the page and its CSV's file name; every row has one cell per column."""

    id: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]] = field(default_factory=list)

    def __post_init__(self) -> None:
        wrong = [number for number, row in enumerate(self.rows) if len(row) != len(self.columns)]
        if wrong:
            raise ValueError(f"table {self.id}: rows {wrong[:5]} have not {len(self.columns)} cells")

    @property
    def shown(self) -> list[Column]:
        return [column for column in self.columns if column.shown]

    def shown_rows(self, limit: int | None = None) -> Iterable[list[tuple[Column, Cell]]]:
        """The first `limit` rows (all by default), each as its shown columns with their cells."""
        shown = [(number, column) for number, column in enumerate(self.columns) if column.shown]
        for row in islice(self.rows, limit):
            yield [(column, row[number]) for number, column in shown]

    def csv(self) -> bytes:
        """UTF-8, comma separated, "\\n" line ends; full precision; a missing value is an empty field."""
        kept = [number for number, column in enumerate(self.columns) if column.exported]
        stream = io.StringIO(newline="")
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([self.columns[number].key for number in kept])
        writer.writerows([_safe(row[number].value) for number in kept] for row in self.rows)
        return stream.getvalue().encode("utf-8")


def _safe(value: object) -> str:
    text = raw(value)
    return f"'{text}" if isinstance(value, str) and text.startswith(_FORMULA_STARTS) else text
