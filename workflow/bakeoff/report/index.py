"""The landing page over several reports."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bakeoff.report.evidence import claims
from bakeoff.report.rerun import check_command
from bakeoff.report.templates import html_environment, tidy_html
from bakeoff.report.view import RunView
from bakeoff.schema.analysis import Analysis
from bakeoff.schema.analysis_outside import ClaimVerdict
from bakeoff.tables import shared
from bakeoff.tables.table import Column, Row, Table, flat, frame, number


@dataclass(frozen=True)
class Source:
    """An analysis and where it and its report stand, as links relative to the landing page."""

    analysis: Analysis
    analysis_href: str
    report_href: str


@dataclass(frozen=True)
class Entry:
    """A report as the page lists it."""

    view: RunView
    analysis: str
    href: str
    folder: str


# Reports of this project first, the published ones after them; an audited one before the others.
_ORDER = ("cpu", "measured", "published")


def render_index(sources: Sequence[Source]) -> bytes:
    """The landing page; within their kind reports keep the order given, an audited one before the others."""
    environment = html_environment()
    entries = [
        Entry(
            RunView(s.analysis),
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
        Column("run", "Run", head=True, href=lambda row: row["href"]),
        Column("hardware", "Hardware"),
        Column("backend", "Backend"),
        shared.out_of("passed", "Cells passed", due="cells"),
        number("blocks", "Blocks", text=lambda row: row["blocks_of"]),
        *(_mean_column(name, label) for name, label in names.items()),
    ]
    means = dict.fromkeys(f"{name}:geometric_mean" for name in names)
    rows = ({**_run_row(entry), **means, **_means(entry.view)} for entry in entries)
    return Table("side_by_side", frame(rows), columns)


def _run_row(entry: Entry) -> dict[str, object]:
    view, run = entry.view, entry.view.a.run
    return {
        **{"run": run.id, "href": entry.href, "hardware": run.hardware, "backend": run.backend},
        **{"passed": view.outcomes.get("PASSED", 0), "cells": len(view.a.cells)},
        **{"blocks": view.block_counts[-1], "blocks_of": view.blocks_of},
    }


def _means(view: RunView) -> dict[str, object]:
    """Each solution's geometric mean with its ends, and over which workloads it is where that is not all of them."""
    row: dict[str, object] = {}
    for name, summary in view.summaries.items():
        partly = f"over {summary.cells} of {summary.due} workloads" if summary.cells < summary.due else ""
        row |= {f"{name}:{key}": value for key, value in flat(summary).items()} | {f"{name}:partly": partly}
    return row


def _mean_column(name: str, label: str) -> Column:
    source = f"{name}:geometric_mean"
    value = shared.speedup(name, label, source=source, interval=True, missing="–")

    def note(row: Row) -> str:
        return " ".join(filter(None, (value.ends(row), row[f"{name}:partly"]))) if row[source] is not None else ""

    return replace(value, note=note, tone=lambda row: "mute" if row[source] is None else "")
