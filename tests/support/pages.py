"""Reading rendered pages in tests: a strict little parser, and the runs that every page must survive."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser

from bakeoff.files import PROJECT_ROOT
from bakeoff.report.render import render
from bakeoff.schema.analysis import Analysis
from bakeoff.stats.verbs import analysis_of
from support.make import RUNS, analysed, named

PUBLISHED = ("2026-02-26_4way", "2026-02-26_2way", "2026-02-04_4way")
NAMES = (*RUNS, *PUBLISHED)
_VOID = {"meta", "br", "link", "hr", "img", "input", "wbr"}


@cache
def analysis(name: str) -> Analysis:
    """The analysis of a constructed run or of a published table, made by the analyser."""
    return analysis_of(PROJECT_ROOT / "results" / "published" / name) if name in PUBLISHED else analysed(named(name))


@cache
def files(name: str) -> dict[str, bytes]:
    """The report of that analysis."""
    return render(analysis(name))


@dataclass
class Element:
    """An element with its attributes, its own and its descendants' text, and where it stands."""

    tag: str
    attributes: dict[str, str | None]
    parents: tuple[str, ...]
    text: str = ""


@dataclass
class Page(HTMLParser):
    """Every element in document order; a tag that is not closed, or closed wrongly, is an AssertionError."""

    elements: list[Element] = field(default_factory=list)
    stack: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    @classmethod
    def of(cls, content: bytes) -> Page:
        page = cls()
        page.feed(content.decode("utf-8"))
        page.close()
        assert not page.stack, [entry.tag for entry in page.stack]
        return page

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        entry = Element(tag, dict(attrs), tuple(parent.tag for parent in self.stack))
        assert len(attrs) == len(entry.attributes), f"an attribute twice: {tag} {attrs}"
        self.elements.append(entry)
        if tag not in _VOID:
            self.stack.append(entry)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, dict(attrs), tuple(parent.tag for parent in self.stack)))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack and self.stack[-1].tag == tag, f"</{tag}> closes {[entry.tag for entry in self.stack[-3:]]}"
        self.stack.pop()

    def handle_data(self, data: str) -> None:
        for entry in self.stack:
            entry.text += data

    def all(self, *tags: str) -> list[Element]:
        return [entry for entry in self.elements if entry.tag in tags]

    def one(self, id_: str) -> Element:
        (found,) = [entry for entry in self.elements if entry.attributes.get("id") == id_]
        return found

    @property
    def text(self) -> str:
        """What a reader reads: without the style sheet, white space as single spaces."""
        style = "".join(entry.text for entry in self.all("style"))
        return re.sub(r"\s+", " ", self.elements[0].text.replace(style, " "))


def table_text(name: str, id_: str) -> list[list[str]]:
    """The Markdown table whose CSV is `id_`, as cells without emphasis; the first row is the heading."""
    lines = files(name)["report.md"].decode("utf-8").split("\n")
    start = next(number for number, line in enumerate(lines) if f"](tables/{id_}.csv)" in line)
    rows = []
    for line in lines[start + 1 :]:
        if line.startswith("|"):
            rows.append(cells(line))
        elif rows:
            break
    return [rows[0], *rows[2:]]


def cells(line: str) -> list[str]:
    """The cells of a Markdown table row, unescaped."""
    parts = re.split(r"(?<!\\)\|", line)[1:-1]
    return [re.sub(r"\\(.)", r"\1", part.strip()) for part in parts]


def widths_are_even(text: str) -> None:
    """Every row of a Markdown table has as many cells as its head."""
    width = 0
    for line in text.split("\n"):
        if line.startswith("|"):
            width = width or len(cells(line))
            assert line.endswith("|") and len(cells(line)) == width, line
        else:
            width = 0
