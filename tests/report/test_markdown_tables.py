"""A row that follows a blank line is no part of a table: every run of rows in the documents has its own heading."""

from __future__ import annotations

import re

import pytest
from bakeoff.files import PROJECT_ROOT

PAGES = sorted(
    path
    for folder in (".", "docs", "solutions", "config", "traces", "results/published")
    for path in (PROJECT_ROOT / folder).glob("*.md")
)


def headless(text: str) -> list[str]:
    """First rows of runs of rows whose second line is no separator; code blocks are passed over."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    runs = re.findall(r"(?:^\|.*\n?)+", text, flags=re.MULTILINE)
    return [run.split("\n")[0] for run in runs if not re.fullmatch(r"\|[\s:|-]+\|?", [*run.split("\n"), ""][1])]


def test_a_blank_line_within_a_table_is_found():
    assert headless("| a |\n|---|\n| 1 |\n\n| 2 |\n") == ["| 2 |"]
    assert headless("| a |\n|---|\n| 1 |\n\n```\n| x |\n```\n") == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(PROJECT_ROOT)))
def test_every_row_belongs_to_a_table(page):
    assert headless(page.read_text()) == []
