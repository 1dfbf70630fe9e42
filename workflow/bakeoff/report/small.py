"""The small tables: conditions of validity and the rows that key findings rest on."""

from __future__ import annotations

from bakeoff.report import formats as f
from bakeoff.report.correctness import some
from bakeoff.report.tables import Column, Table, cell
from bakeoff.report.view import View
from bakeoff.schema.analysis import PreviousFinding

_STATUS_TONES = {"ok": "good", "warning": "warn", "failed": "bad", "not_applicable": "mute"}


def validity(view: View) -> Table:
    """One row per condition."""
    columns = [
        Column("condition", head=True),
        Column("status"),
        Column("found", numeric=True),
        Column("of", numeric=True),
        Column("items", shown=any(check.items or check.more for check in view.a.validity)),
    ]
    rows = []
    published = view.words["checks_published"] if view.kind == "published" else {}
    for check in view.a.validity:
        figures = [
            cell(value, f.percent(value) if isinstance(value, float) else f.count(value))
            if value is not None
            else cell(None, "–")
            for value in (check.found, check.of)
        ]
        rows.append(
            [
                cell(check.code, published.get(check.code) or view.word("checks", check.code)),
                cell(check.status, view.word("statuses", check.status), tone=_STATUS_TONES[check.status]),
                *figures,
                some(check.items, more=check.more),
            ]
        )
    return Table("validity", columns, rows)


def large_batch(view: View) -> Table:
    """Small against large workloads, one row per solution."""
    columns = [Column("solution", head=True), *[Column(key, numeric=True) for key in ("small", "large", "kept")]]
    finding = view.a.findings.large_batch
    rows = [
        [
            cell(row.solution, view.label(row.solution), mark=view.by_name[row.solution].index),
            cell(row.small, f.speedup(row.small)),
            cell(row.large, f.speedup(row.large)),
            cell(row.kept, f.percent(row.kept, 0)),
        ]
        for row in (finding.rows if finding else [])
    ]
    return Table("large_batch", columns, rows)


def consistency(view: View) -> Table:
    """Coefficient of variation and spread, most consistent first."""
    columns = [
        Column("solution", head=True),
        *[Column(key, numeric=True) for key in ("cv_sample", "cv_population", "spread")],
    ]
    finding = view.a.findings.consistency
    rows = [
        [
            cell(row.solution, view.label(row.solution), mark=view.by_name[row.solution].index),
            cell(row.cv_sample, f.percent(row.cv_sample)),
            cell(row.cv_population, f.percent(row.cv_population)),
            cell(row.spread, f.speedup(row.spread)),
        ]
        for row in (finding.rows if finding else [])
    ]
    return Table("consistency", columns, rows)


def previous(view: View, number: int, finding: PreviousFinding) -> Table:
    """This run over another one, one row per solution; `number` counts from 1 and names the table."""
    columns = [
        Column("solution", head=True),
        *[Column(key, numeric=True) for key in ("workloads", "ratio", "least", "greatest", "reproduced", "differs")],
    ]
    rows = [
        [
            cell(row.solution, view.label(row.solution)),
            cell(row.workloads),
            cell(row.ratio, f.fixed(row.ratio, 3, f.TIMES)),
            cell(row.least, f.speedup(row.least)),
            cell(row.greatest, f.speedup(row.greatest)),
            cell(row.reproduced, None if row.reproduced is not None else "–"),
            cell(row.differs, None if row.differs is not None else "–"),
        ]
        for row in finding.rows
    ]
    return Table(f"previous_{number}", columns, rows)
