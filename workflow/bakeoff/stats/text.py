"""What the verbs print: a comparison and an audit as lines for a terminal."""

from __future__ import annotations

from bakeoff.schema.analysis import Audit, CellComparison, ClaimResult, ClaimVerdict, Comparison

_QUIET = ("REPRODUCED", "SAME", "NOT COMPARABLE")


def comparison_lines(comparison: Comparison, *, every: bool) -> list[str]:
    """Head, the cells that differ (or every one), and the answer in one line."""
    lines = [f"{comparison.new} against {comparison.old}: {len(comparison.cells)} cells, {_counts(comparison.counts)}"]
    if comparison.between_run_sd is not None:
        lines.append(
            f"  scatter between published runs: {comparison.between_run_sd:.3f} (log), from "
            f"{comparison.between_run_cells} cells"
        )
    if comparison.not_comparable:
        lines.append(f"  not comparable: {', '.join(comparison.not_comparable)}")
    lines += [_cell_line(cell) for cell in comparison.cells if every or cell.verdict not in _QUIET]
    lines += [f"  WRONG OUTPUT {name}" for name in comparison.wrong]
    lines.append(_answer(comparison))
    return lines


def _answer(comparison: Comparison) -> str:
    details = {
        "FAILED": f"wrong outputs: {len(comparison.wrong)}, supported regressions: {len(comparison.regressions)}",
        "NOTHING COMPARED": "not one cell can be compared, so this says nothing about the newer run",
        "OK": "no wrong output, no supported regression",
    }
    return f"{comparison.result}: {details[comparison.result]}"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items())


def _cell_line(cell: CellComparison) -> str:
    old, new = ("n/a" if value is None else f"{value:.2f}x" for value in (cell.old, cell.new))
    ratio = ""
    if cell.ratio and cell.ratio.low is not None and cell.ratio.high is not None:
        # Against a published table the interval is where the ratio has to lie; between runs it is how sure the ratio
        # is.
        meaning = "reproduced within " if cell.verdict in ("REPRODUCED", "DIFFERS") else ""
        ratio = f"  ratio {cell.ratio.value:.3f}, {meaning}[{cell.ratio.low:.3f}, {cell.ratio.high:.3f}]"
    why = f" ({', '.join(cell.reasons)})" if cell.reasons else ""
    return f"  {cell.verdict + why:<16} {cell.solution}/{cell.workload}: {old} -> {new}{ratio}"


def audit_lines(audit: Audit, *, every: bool) -> list[str]:
    """The contradicted claims (or every one), and the counts."""
    shown = [claim for claim in audit.claims if every or claim.verdict == ClaimVerdict.CONTRADICTED]
    counts = f"{audit.confirmed} CONFIRMED, {audit.contradicted} CONTRADICTED, {audit.not_testable} NOT TESTABLE"
    head = f"{audit.report}\n  {audit.figures} figures, {audit.conclusions} conclusions: {counts}"
    return [head, *(_claim_line(claim) for claim in shown)]


def _claim_line(claim: ClaimResult) -> str:
    if claim.verdict == ClaimVerdict.NOT_TESTABLE:
        return f"  NOT TESTABLE  {claim.id}: {claim.text}\n      would be tested by: {claim.needs}"
    printed = f"printed {claim.printed}, " if claim.printed else ""
    allowed = f" (allowed: {claim.tolerance})" if claim.tolerance else ""
    return (
        f"  {claim.verdict:<13} {claim.id}: {claim.text}\n      {printed}recomputed "
        f"{' or '.join(claim.computed)}{allowed}"
    )
