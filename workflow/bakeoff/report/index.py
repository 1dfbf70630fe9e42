"""The landing page over several reports."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass

from bakeoff.report import formats as f
from bakeoff.report.performance import estimate_text
from bakeoff.report.render import lexicon
from bakeoff.report.tables import Column, Table, cell
from bakeoff.report.templates import html_environment, tidy_html
from bakeoff.report.view import View
from bakeoff.stats.model import Analysis


@dataclass(frozen=True)
class Source:
    """An analysis and where it and its report stand, as links relative to the landing page."""

    analysis: Analysis
    analysis_href: str
    report_href: str


@dataclass(frozen=True)
class Entry:
    """A report as the page lists it."""

    view: View
    analysis: str
    href: str
    folder: str


def render_index(sources: Sequence[Source]) -> bytes:
    """The landing page; within their kind reports keep the order given, an audited one before the others."""
    environment = html_environment()
    words = lexicon(environment)
    entries = [
        Entry(
            View(s.analysis, words),
            s.analysis_href,
            s.report_href,
            posixpath.join(posixpath.dirname(s.report_href), ""),
        )
        for s in sorted(sources, key=lambda source: source.analysis.audit is None)
    ]
    page = environment.get_template("index.html.j2").render(
        parts="html.j2", entries=entries, side_by_side=side_by_side(entries)
    )
    return tidy_html(page).encode("utf-8")


def side_by_side(entries: Sequence[Entry]) -> Table:
    """One row per run, one column per solution: its geometric mean of speedups."""
    names = list(
        dict.fromkeys(
            person.name for entry in entries if entry.view.a.performance_shown for person in entry.view.people
        )
    )
    columns = [
        Column("run", head=True),
        Column("hardware"),
        Column("backend"),
        Column("passed", numeric=True),
        Column("blocks", numeric=True),
    ]
    columns += [Column(name, name, numeric=True) for name in names]
    rows = []
    for entry in entries:
        a = entry.view.a
        passed = entry.view.outcomes.get("PASSED", 0)
        row = [
            cell(a.run.id, href=entry.href),
            cell(a.run.hardware),
            cell(a.run.backend),
            cell(passed, f"{passed}/{len(a.cells)}"),
            cell(a.run.blocks, f.count(a.run.blocks)),
        ]
        for name in names:
            found = entry.view.summaries.get(name)
            mean = found.geometric_mean if found else None
            row.append(
                cell(mean.value, f.speedup(mean.value), note=estimate_text(mean))
                if mean
                else cell(None, "–", tone="mute")
            )
        rows.append(row)
    return Table("side_by_side", columns, rows)
