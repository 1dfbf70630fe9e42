"""The landing page over several reports."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass

from bakeoff.report import formats as f
from bakeoff.report.evidence import claims
from bakeoff.report.performance import estimate_text
from bakeoff.report.render import lexicon
from bakeoff.report.rerun import check_command
from bakeoff.report.tables import Column, Table, cell
from bakeoff.report.templates import html_environment, tidy_html
from bakeoff.report.view import View
from bakeoff.schema.analysis import Analysis, ClaimVerdict


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


# Reports of this project first, the published ones after them; an audited one before the others.
_ORDER = ("cpu", "measured", "published")


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
        for s in sources
    ]
    entries.sort(key=lambda entry: (_ORDER.index(entry.view.kind), entry.view.a.audit is None))
    audited = next((entry for entry in entries if entry.view.a.audit), None)
    page = environment.get_template("index.html.j2").render(
        parts="html.j2",
        entries=entries,
        audited=audited,
        wrong=claims(audited.view, ClaimVerdict.CONTRADICTED) if audited else None,
        commands="\n".join(_commands(entries, audited)),
        side_by_side=side_by_side(entries),
    )
    return tidy_html(page).encode("utf-8")


def _commands(entries: Sequence[Entry], audited: Entry | None) -> list[str]:
    """One cell of the first report, and the audit."""
    view = entries[0].view
    cell_of = [(person.name, workload.id) for person in view.people[:1] for workload in view.a.workloads[-1:]]
    found = [check_command(view.a.run, *place) for place in cell_of]
    return found + ([f"bakeoff audit results/published/{audited.view.a.run.id}"] if audited else [])


def side_by_side(entries: Sequence[Entry]) -> Table:
    """One row per run, one column per solution: its geometric mean of speedups."""
    shown = [entry for entry in entries if entry.view.a.performance_shown]
    names = {person.name: person.label for entry in shown for person in entry.view.people}
    columns = [
        Column("run", head=True),
        Column("hardware"),
        Column("backend"),
        Column("passed", numeric=True),
        Column("blocks", numeric=True),
    ]
    columns += [Column(name, label, numeric=True) for name, label in names.items()]
    rows = []
    for entry in entries:
        a = entry.view.a
        passed = entry.view.outcomes.get("PASSED", 0)
        row = [
            cell(a.run.id, href=entry.href),
            cell(a.run.hardware),
            cell(a.run.backend),
            cell(passed, f"{passed}/{len(a.cells)}"),
            cell(entry.view.block_counts[-1], entry.view.blocks_of),
        ]
        for name in names:
            found = entry.view.summaries.get(name)
            mean = found.geometric_mean if found else None
            if found is None or mean is None:
                row.append(cell(None, "–", tone="mute"))
                continue
            partly = f"over {found.cells} of {found.due} workloads" if found.cells < found.due else ""
            row.append(
                cell(mean.value, f.speedup(mean.value), note=" ".join(filter(None, (estimate_text(mean), partly))))
            )
        rows.append(row)
    return Table("side_by_side", columns, rows)
