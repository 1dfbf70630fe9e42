"""A table as lines for a terminal.

Entry points: `lines` (a whole table), `Stream` (rows that are printed as they come), `blocks` (rows of long
texts), `markdown` (texts as a page has them).
On a terminal a value has the colour of its tone, unless the environment sets NO_COLOR.
"""

import os
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence

from bakeoff.tables.formats import SPACE
from bakeoff.tables.table import Column, Row, Table

WIDTH = 100
# ANSI codes of tones.
_COLOURS = {"good": "32", "bad": "31", "warn": "33", "mute": "2"}


def said(column: Column, row: Row) -> str:
    """Text and note on one line, with plain spaces."""
    shown = column.shown(row)
    text = f"{shown.text} ({shown.note})" if shown.note else shown.text
    return " ".join(text.replace(SPACE, " ").split())


def lines(table: Table, keys: Sequence[str], indent: str = "  ") -> list[str]:
    """Headings, then a line per row, of the columns named by `keys`; nothing for a table without rows."""
    if not len(table):
        return []
    columns, rows = chosen(table.columns, keys), table.frame.to_dict("records")
    least = {column.key: max(len(said(column, row)) for row in rows) for column in columns}
    stream = Stream(columns, least)
    return [indent + line for line in [*stream.heads(), *map(stream.line, rows)]]


def blocks(table: Table, first: Sequence[str], then: Sequence[str]) -> list[str]:
    """A block per row: the columns `first` on its first line; below it those of `then` that have a value, with their
    headings."""
    found = []
    for row in table.frame.to_dict("records"):
        found.append("  " + "  ".join(said(column, row) for column in chosen(table.columns, first)))
        rest = [f"{column.heading}: {said(column, row)}" for column in chosen(table.columns, then) if row[column.at]]
        found += textwrap.wrap("; ".join(rest), WIDTH, initial_indent="      ", subsequent_indent="      ")
    return found


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]], rule: str = "---") -> str:
    """Texts as a Markdown table. rule: what aligns the columns after the first."""
    lines = [head, ["---", *[rule] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def chosen(columns: Sequence[Column], keys: Sequence[str]) -> list[Column]:
    """The columns of these keys, in their order."""
    by_key = {column.key: column for column in columns}
    return [by_key[key] for key in keys]


class Stream:
    """Lines of rows that come one by one; a column is as wide as its heading's longest word and its `least` width. A
    column without a heading goes by its key."""

    def __init__(self, columns: Sequence[Column], least: Mapping[str, int]) -> None:
        self._columns = columns
        self._heads = [column.heading or column.key for column in columns]
        longest = [max(map(len, head.split())) for head in self._heads]
        self._widths = [max(least.get(one.key, 0), most) for one, most in zip(columns, longest, strict=True)]

    def heads(self) -> list[str]:
        """The headings, broken between words, over as many lines as the longest takes."""
        broken = [textwrap.wrap(head, width) for head, width in zip(self._heads, self._widths, strict=True)]
        most = max(map(len, broken))
        padded = [[""] * (most - len(parts)) + parts for parts in broken]
        return [self.aligned(line) for line in zip(*padded, strict=True)]

    def line(self, row: Row) -> str:
        tones = [column.shown(row).tone for column in self._columns]
        return self.aligned([said(column, row) for column in self._columns], tones)

    def aligned(self, texts: Sequence[str], tones: Sequence[str] = ()) -> str:
        parts = zip(texts, self._columns, self._widths, strict=True)
        padded = [text.rjust(width) if column.numeric else text.ljust(width) for text, column, width in parts]
        if tones and coloured():
            padded = [painted(text, tone) for text, tone in zip(padded, tones, strict=True)]
        return "  ".join(padded).rstrip()


def coloured() -> bool:
    """Whether standard output shows colours."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def painted(text: str, tone: str) -> str:
    """A text in the colour of a tone."""
    return f"\x1b[{_COLOURS[tone]}m{text}\x1b[0m" if tone in _COLOURS else text
