"""A table, declared once: its columns over a data frame. Page, Markdown, CSV and terminal print the same declaration.

Entry points: `Column`, `number`, `Table`, and `frame` with `flat`, which make a data frame of stored objects. pandas is
imported when the first frame is made, so that a module that only declares columns costs nothing.
"""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from bakeoff.schema.base import Estimate
from bakeoff.tables.formats import MISSING, raw

if TYPE_CHECKING:
    from pandas import DataFrame

Row = Mapping[str, Any]

# A spreadsheet would run a text that starts like this as a formula; messages of failed solutions end up in tables.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


class Shown(NamedTuple):
    """What people see of one value. tone: "" or a class of the style sheet (win, good, bad, warn, mute …). mark: number
    of the participant whose mark goes before the text."""

    text: str
    note: str = ""
    tone: str = ""
    mark: int | None = None
    href: str = ""
    style: str = ""


@dataclass(frozen=True)
class Column:
    """One column. Where a parameter is a function, it gets the row: every value of the frame by key."""

    key: str
    """Its name in the CSV, with the unit ("wall_us"), and in the frame."""
    heading: str = ""
    """Heading for people; without one the column stands in the CSV alone."""
    format: Callable[[Any], str] = str
    """A value as text; not called for a missing one."""
    unit: str = ""
    """Written after the text."""
    interval: bool = False
    """The frame has KEY_low and KEY_high: the CSV gets both as columns, people see them as a note."""
    numeric: bool = False
    """Aligned right."""
    head: bool = False
    """Its values name their rows."""
    style: Literal["", "code", "ticked"] = ""
    """The text is code, or backticks in it enclose code."""
    missing: str | None = None
    """Stands for a missing value; without it a muted "n/a"."""
    text: Callable[[Row], str] | None = None
    """The text of any value, a missing one too, where it depends on the row."""
    mark: int | None = None
    """Number of the participant that the column stands for."""
    export: Callable[[Any], object] = lambda value: value
    """The value for machines."""
    source: str = ""
    """Its name in the frame, where that is another."""
    note: Callable[[Row], str] | None = None
    tone: Callable[[Row], str] | None = None
    row_mark: Callable[[Row], int | None] | None = None
    href: Callable[[Row], str] | None = None

    @property
    def at(self) -> str:
        """Its name in the frame."""
        return self.source or self.key

    def shown(self, row: Row) -> Shown:
        """What people see of this column's value in a row."""
        absent = row[self.at] is None
        return Shown(
            self.text(row) if self.text else self._written(row[self.at]),
            self.note(row) if self.note else self.ends(row) if self.interval else "",
            self.tone(row) if self.tone else "mute" if absent and self.missing is None else "",
            self.row_mark(row) if self.row_mark else None,
            self.href(row) if self.href else "",
            "" if absent else self.style,
        )

    def _written(self, value: Any) -> str:
        if value is None:
            return MISSING if self.missing is None else self.missing
        return self.format(value) + self.unit

    def ends(self, row: Row) -> str:
        """The interval, "30.91–31.57"; "" where there is none."""
        low, high = (row.get(f"{self.at}_{end}") for end in ("low", "high"))
        return "" if low is None or high is None else f"{self.format(low)}–{self.format(high)}"


# A column of numbers, aligned right.
number = partial(Column, numeric=True)


@dataclass(frozen=True)
class Table:
    """`id` is its anchor on a page and its CSV's file name. frame: a value for every column's key in every row."""

    id: str
    frame: "DataFrame"
    columns: Sequence[Column]
    key: str = ""
    """Column of the frame whose values name the rows, each with an anchor of its own on a page."""

    def __post_init__(self) -> None:
        lacking = [column.at for column in self.columns if column.at not in self.frame.columns]
        if lacking and len(self):
            raise ValueError(f"table {self.id}: the frame has no column {', '.join(lacking)}")

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def shown(self) -> list[Column]:
        return [column for column in self.columns if column.heading]

    def rows(self, limit: int | None = None) -> Iterator[list[tuple[Column, Shown]]]:
        """The first `limit` rows (all by default), each as its shown columns with what they show."""
        columns = self.shown
        for row in (self.frame if limit is None else self.frame.head(limit)).to_dict("records"):
            yield [(column, column.shown(row)) for column in columns]

    def anchor(self, number: int) -> str:
        """Where a page has the row of that number."""
        return f"{self.id}-{self.frame[self.key].iloc[number]}"

    def values(self) -> dict[str, list[object]]:
        """For machines: every column by its key, None where there is no value; an interval as KEY_low and KEY_high."""
        found: dict[str, list[object]] = {}
        for column in self.columns:
            found[column.key] = [None if one is None else column.export(one) for one in self.frame[column.at]]
            for end in ("_low", "_high") if column.interval else ():
                there = column.at + end in self.frame
                found[column.key + end] = list(self.frame[column.at + end]) if there else [None] * len(self)
        return found

    def csv(self) -> bytes:
        """UTF-8, comma separated, "\\n" line ends; full precision; a missing value is an empty field."""
        stream = io.StringIO(newline="")
        writer = csv.writer(stream, lineterminator="\n")
        found = self.values()
        writer.writerow(found)
        writer.writerows(zip(*(map(_safe, column) for column in found.values()), strict=True))
        return stream.getvalue().encode("utf-8")

    def parquet(self) -> bytes:
        """The same columns with their types, compressed; values of several kinds are text."""
        import pyarrow
        from pyarrow import parquet

        columns = {key: _of_one_kind(values) for key, values in self.values().items()}
        stream = io.BytesIO()
        parquet.write_table(pyarrow.table(columns), stream, compression="zstd")
        return stream.getvalue()


def _of_one_kind(values: list[Any]) -> list[Any]:
    """Numbers of two kinds as floats, anything else that differs in kind as text."""
    kinds = {type(one) for one in values if one is not None}
    if len(kinds) == 1 and kinds <= {int, float, bool}:
        return values
    kind = float if kinds <= {int, float} else raw
    return [None if one is None else kind(one) for one in values]


def _safe(value: object) -> str:
    text = raw(value)
    return f"'{text}" if isinstance(value, str) and text.startswith(_FORMULA_STARTS) else text


def frame(rows: Iterable[Row]) -> "DataFrame":
    """A data frame of rows; values keep their type, and one that a row lacks is None."""
    import pandas

    found = list(rows)
    keys = dict.fromkeys(key for row in found for key in row)
    return pandas.DataFrame({key: [row.get(key) for row in found] for key in keys}, dtype=object)


def frame_of(parts: Iterable[Any]) -> "DataFrame":
    """A data frame of stored objects, a row each."""
    return frame(map(flat, parts))


def without_nan(found: "DataFrame") -> "DataFrame":
    """The same with None for what joining and grouping left open."""
    return found.astype(object).where(found.notna(), None)


def flat(part: Any) -> dict[str, Any]:
    """A stored object as a row: its fields; an estimate as KEY, KEY_low and KEY_high."""
    row: dict[str, Any] = {}
    for key, value in vars(part).items():
        if isinstance(value, Estimate):
            row |= {key: value.value, f"{key}_low": value.low, f"{key}_high": value.high}
        else:
            row[key] = value
    return row
