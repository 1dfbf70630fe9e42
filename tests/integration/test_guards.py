"""`make guards` knows where each guard stands, and docs/integrity.md what came of taking it out."""

from __future__ import annotations

import re

from bakeoff.files import PROJECT_ROOT
from support.guards import GUARDS


def test_each_guard_stands_once_where_it_is_taken_out_and_was_missed_by_a_test() -> None:
    for name, ((file, text, other), tests) in GUARDS.items():
        assert (PROJECT_ROOT / file).read_text().count(text) == 1 and text != other and tests, name
    table = (PROJECT_ROOT / "docs/integrity.md").read_text().partition("| guard |")[2]
    assert set(re.findall(r"^\| (.+?) \| [1-9]\d* \| \d+ \|$", table, re.MULTILINE)) == set(GUARDS)
