"""What the verbs print: a comparison and an audit as lines for a terminal."""

from bakeoff.schema.analysis_outside import ClaimVerdict, Comparison, ReportAudit
from bakeoff.tables import shared, text
from bakeoff.tables.table import Table, flat, frame, frame_of

_MOVED = ("DIFFERS", "FASTER", "SLOWER")
_CELL = ("verdict", "solution", "workload", "old", "new", "ratio")
_CLAIM = ("printed", "computed", "tolerance", "changes", "place", "needs")


def comparison_lines(comparison: Comparison, *, every: bool) -> list[str]:
    """Head, the cells that differ (or every one), and the answer in one line."""
    lines = [f"{comparison.new} against {comparison.old}: {len(comparison.cells)} cells, {_counts(comparison.counts)}"]
    lines += [
        f"  scatter between published runs, {one.seq_lens}: {one.sd:.3f} (log), from {one.rows} rows"
        for one in comparison.scatter
    ]
    if comparison.not_comparable:
        lines.append(f"  not comparable: {shared.reasons(comparison.not_comparable)}")
    lines += [f"  {key}: {_brief(old)} -> {_brief(new)}" for key, (old, new) in comparison.differs.items()]
    if comparison.controls:
        lines.append(f"  relative to the busy times of {', '.join(comparison.controls)}, which did not change")
    elif comparison.rule == "runs":
        lines.append("  nothing is the same in both that shows the GPU's own speed: latencies as they are")
    cells = [cell for cell in comparison.cells if every or cell.verdict in _MOVED]
    keys = [*_CELL, "reasons"] if any(cell.reasons for cell in cells) else _CELL
    lines += text.lines(Table("comparison", frame_of(cells), shared.comparison(comparison.rule)), keys)
    lines += [f"  WRONG OUTPUT {name}" for name in comparison.wrong]
    return [*lines, _answer(comparison)]


def _brief(value: object) -> str:
    """A fact on one line; of a digest the first digits."""
    text = "none" if value is None else str(value)
    return text[:12] if len(text) == 64 else text


def _answer(comparison: Comparison) -> str:
    details = {
        "FAILED": f"wrong outputs: {len(comparison.wrong)}, supported regressions: {len(comparison.regressions)}",
        "NOTHING COMPARED": "not one cell can be compared, so this says nothing about the newer run",
        "OK": "no wrong output, no supported regression",
    }
    return f"{comparison.result}: {details[comparison.result]}"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items())


def audit_lines(audit: ReportAudit, *, every: bool) -> list[str]:
    """The counts, and the contradicted claims (or every one)."""
    counts = f"{audit.confirmed} CONFIRMED, {audit.contradicted} CONTRADICTED, {audit.not_testable} NOT TESTABLE"
    if audit.contradicted_by_others:
        counts += f", {audit.contradicted_by_others} CONTRADICTED by another table"
    lines = [
        audit.report,
        f"  {audit.figures} figures, {audit.conclusions} conclusions: {counts}",
        f"  {audit.repeated} further figures only repeat rows of the table",
    ]
    for verdict in ClaimVerdict if every else (ClaimVerdict.CONTRADICTED,):
        claims = frame({**flat(claim), "claim": claim.text} for claim in audit.claims if claim.verdict is verdict)
        lines += text.blocks(Table("claims", claims, shared.claims(verdict)), ("verdict", "id", "claim"), _CLAIM)
    return lines
