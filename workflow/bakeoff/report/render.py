"""A report's files from an analysis: a pure function, the same bytes wherever and whenever it runs.

Entry points: `render` (report.html, report.md, tables/*.csv; tables/*.parquet too beside a page that does not show all
solutions) and `render_index` (the landing page). Nothing is read but the templates.
"""

from typing import Any

from bakeoff.files import sha256_bytes
from bakeoff.report import correctness, evidence, figures, performance, ranking, rerun, stages
from bakeoff.report.narrow import narrowed
from bakeoff.report.svg import stage_chart
from bakeoff.report.templates import html_environment, markdown_environment, tidy_html, tidy_markdown
from bakeoff.report.view import RunView
from bakeoff.schema.analysis import Analysis, document_bytes
from bakeoff.schema.analysis_outside import ClaimVerdict
from bakeoff.tables import words
from bakeoff.tables.table import Table

# Sections in the page's order; those of speed are left out where a run shows none.
SECTIONS = (
    "validity",
    "matrix",
    "summary",
    "plots",
    "findings",
    "stages",
    "published",
    "stability",
    "integrity",
    "numerics",
    "build",
    "environment",
    "rerun",
)
_OF_SPEED = ("summary", "plots", "findings", "stability")


def render(analysis: Analysis, home: str = "", previous: str = "", following: str = "") -> dict[str, bytes]:
    """Every file of a report by its name relative to the report's folder. home, previous, following: links to the
    landing page and to the reports beside this one."""
    pages, markdown = html_environment(), markdown_environment()
    view = RunView(narrowed(analysis), analysis if analysis.shown else None)
    context = _context(view)
    html = pages.get_template("report.html.j2").render(
        parts="html.j2", home=home, previous=previous, following=following, **context
    )
    text = markdown.get_template("report.md.j2").render(parts="markdown.j2", **context)
    files = {"report.html": tidy_html(html).encode("utf-8"), "report.md": tidy_markdown(text).encode("utf-8")}
    beside = context["tables"]
    if view.whole:
        beside = tables(RunView(view.whole)) | {"failures": beside["failures"]}
    found = {name: table for name, table in beside.items() if len(table)}
    files |= {f"tables/{name}.csv": table.csv() for name, table in found.items()}
    return files | {f"tables/{name}.parquet": table.parquet() for name, table in found.items() if view.whole}


def analysis_digest(analysis: Analysis) -> str:
    """sha256 of the analysis.json that `bakeoff analyse` writes of it."""
    return sha256_bytes(document_bytes(analysis))


def tables(view: RunView) -> dict[str, Table]:
    """All tables of a report by id; those of speed only where performance is shown."""
    made = [
        correctness.validity(view),
        correctness.outcomes(view),
        correctness.troubles(view),
        correctness.failures(view),
        correctness.remarks(view),
        correctness.verifications(view),
        correctness.numerics(view),
        correctness.mutants(view),
        correctness.builds(view),
        rerun.rerun(view),
        evidence.participants(view),
        evidence.environment(view),
        evidence.workloads(view),
        evidence.b200_floors(view),
        *[evidence.claims(view, verdict) for verdict in ClaimVerdict],
        *stages.tables(view),
        *[evidence.comparison(view, entry) for entry in view.a.comparisons],
    ]
    if view.a.performance_shown:
        made += [
            performance.matrix(view),
            performance.published_matrix(view),
            performance.summary(view),
            performance.published_summary(view),
            performance.selection(view),
            performance.protocols(view),
            performance.orders(view),
            performance.overtakings(view),
            performance.loads(view),
            ranking.pairs(view),
            ranking.verdicts(view),
            ranking.profile(view),
            ranking.rankings(view),
            performance.latencies(view),
            ranking.large_batch(view),
            ranking.consistency(view),
            *[ranking.previous(view, number, entry) for number, entry in enumerate(view.a.findings.previous, 1)],
        ]
    return {table.id: table for table in made}


def _context(view: RunView) -> dict[str, Any]:
    shown = view.a.performance_shown
    facts = evidence.header_facts(view)
    example = next(((p.name, w.id) for p in view.people for w in reversed(view.a.workloads)), None)
    return {
        "v": view,
        "sections": [name for name in SECTIONS if shown or name not in _OF_SPEED],
        "tables": tables(view),
        "figures": figures,
        "stage_chart": stage_chart.over_seq_len,
        "comparison_id": evidence.comparison_id,
        "b200": evidence.b200_sources(),
        "header": dict(facts),
        "header_pairs": [(words.HEADER[code], text) for code, text in facts],
        "protocols_agree": performance.protocols_agree(view),
        "protocol_words": [words.PROTOCOLS[name] for name in view.a.run.other_protocols],
        "has_values": any(cell.speedup for cell in view.a.cells),
        "has_latencies": any(cell.latency_us for cell in view.a.cells),
        "has_routing": any(workload.local_pairs is not None for workload in view.a.workloads),
        "check_command": rerun.check_command(view.a.run, *example) if example else "",
        "measure_command": rerun.measure_command(view.a.run, *example) if example else "",
        "digest": analysis_digest(view.everyone),
    }
