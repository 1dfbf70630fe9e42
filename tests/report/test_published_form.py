"""The published form stays with the contestants that the published table has, whoever else ran."""

from __future__ import annotations

import pytest
from bakeoff.report import performance
from bakeoff.report.view import RunView
from support.make import FOUR, analysed, named


@pytest.fixture(scope="module")
def view():
    """Five contestants, the last of them the fastest everywhere, beside the published table of the first four."""
    run = analysed(named("five_blocks", speed={**FOUR, "another": (99.0, 99.0)}))
    assert run.participants[4].role == "contestant" and {winner.leader for winner in run.winners} == {"another"}
    return RunView(run)


def test_a_fifth_contestant_has_no_column_and_does_not_win(view):
    table = performance.published_matrix(view)
    names = [person.name for person in view.contestants]
    assert [column.key for column in table.columns[3:-1]] == names[:4]
    for _, row in table.frame.iterrows():
        assert max(names[:4], key=lambda name: row[f"{name}:speedup"]) in row["winner"]
        assert names[4] not in row["winner"]


def test_leads_are_counted_among_the_published_contestants(view):
    table = performance.published_summary(view)
    leads = table.frame[table.frame["metric"] == "leads"].iloc[0]
    names = [person.name for person in view.contestants[:4]]
    assert [column.key for column in table.columns] == ["metric", *names]
    assert sum(leads[name] for name in names) >= len(view.a.workloads)


def test_a_run_beside_no_published_table_shows_all(view):
    alone = RunView(view.a.model_copy(update={"comparisons": []}))
    assert alone.published_contestants == alone.contestants
