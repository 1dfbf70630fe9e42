"""The tables of correctness: outcomes, gates, numerics, mutants, builds."""

from __future__ import annotations

import re

from bakeoff.report import formats as f
from bakeoff.report.performance import workload_cells, workload_columns
from bakeoff.report.tables import Cell, Column, Table, cell
from bakeoff.report.view import View
from bakeoff.schema import analysis as model

_QUIET = ("NOT_RUN", "UNSUPPORTED")
# A decimal fraction that stands alone: not a version, not part of a name.
MEASURED = re.compile(r"(?<![\w.])\d+\.\d+(?!\.?\w)")


def outcome_tone(outcome: str) -> str:
    return "good" if outcome == "PASSED" else "mute" if outcome in _QUIET else "bad"


def outcomes(view: View) -> Table:
    """Workloads × solutions: the outcome, and the relative L2 error of what was judged."""
    columns = [*workload_columns(), *[Column(key, numeric=True) for key in ("active_tokens", "local_pairs")]]
    for person in view.people:
        columns += [
            Column(person.name, person.label, mark=person.index),
            Column(f"{person.name}_relative_l2", shown=False),
        ]
    rows = []
    for w in view.a.workloads:
        row = [
            *workload_cells(w),
            *[cell(n, f.count(n)) if n is not None else cell(None) for n in (w.active_tokens, w.local_pairs)],
        ]
        for person in view.people:
            found = view.cells.get((person.name, w.id))
            outcome = found.outcome if found else "NOT_RUN"
            error = found.numerics.relative_l2 if found and found.numerics else None
            note = f"L2 {f.significant(error, 2)}" if error is not None else (found.reason or "" if found else "")
            row += [cell(outcome, note=note, tone=outcome_tone(outcome)), cell(error)]
        rows.append(row)
    return Table("outcomes", columns, rows)


def troubles(view: View) -> Table:
    """The cells that did not pass: reason, what happened, what to do; one row per solution and cause."""
    columns = [
        Column("solution", head=True),
        Column("outcome"),
        Column("reason", shown=False),
        Column("count", numeric=True),
        Column("workloads"),
    ]
    columns += [Column("detail"), Column("hint")]
    causes: dict[tuple[str, str, str | None, str | None, str | None], list[str]] = {}
    for c in view.a.cells:
        if c.outcome != "PASSED":
            causes.setdefault((c.solution, c.outcome, c.reason, c.detail, c.hint), []).append(c.workload)
    rows = [
        [
            cell(solution, view.label(solution)),
            cell(outcome, tone=outcome_tone(outcome), note=reason or ""),
            cell(reason),
            cell(len(where)),
            some(where),
            cell(detail, _short(detail) if detail else "–"),
            cell(hint, hint or "–", ticked=True),
        ]
        for (solution, outcome, reason, detail, hint), where in causes.items()
    ]
    return Table("troubles", columns, rows)


def some(names: list[str], most: int = 6, more: int = 0) -> Cell:
    """The first of many names and how many others there are, `more` of them not among the names; the CSV has all
    names."""
    others = max(0, len(names) - most) + more
    return cell(" ".join(names), ", ".join(names[:most]) + (f", +{others}" if others else "") or "–")


def _short(text: str, most: int = 400) -> str:
    """The end of a long message (a traceback names its cause last); the CSV has all of it."""
    return text if len(text) <= most else f"… {text[-most:]}"


def remarks(view: View) -> Table:
    """What was remarked while measuring, one row per cause: missing tiers, warnings, discarded samples, outlier
    processes.

    Remarks that differ only in a measured value are one cause.
    """
    columns = [Column("kind", head=True), Column("remark"), Column("count", numeric=True), Column("cells")]
    causes: dict[tuple[str, str], tuple[list[str], dict[str, None]]] = {}  # texts, and the cells, each once
    for c in view.a.cells:
        # Without performance no clock is asked for: that a GPU's are not there is no news of a cell.
        tiers = sorted(c.missing_tiers.items()) if view.a.performance_shown else []
        found = [("missing_tier", f"{tier}: {why}") for tier, why in tiers]
        found += [("warning", text) for text in c.warnings]
        found += [("discarded", f"{c.discarded}")] if c.discarded else []
        found += [("outlier_blocks", f"block {', '.join(map(str, c.outlier_blocks))}")] if c.outlier_blocks else []
        for kind, text in found:
            texts, where = causes.setdefault((kind, MEASURED.sub("\0", text)), ([], {}))
            texts.append(text)
            where[f"{c.solution}/{c.workload}"] = None
    rows = [
        [cell(kind, view.word("remarks", kind)), cell(_joined(texts)), cell(len(where)), _cells(view, [*where])]
        for (kind, _), (texts, where) in sorted(causes.items())
    ]
    return Table("remarks", columns, rows)


def _joined(texts: list[str]) -> str:
    """One text for those that differ in measured values: with the range of each."""
    found = [sorted(set(values), key=float) for values in zip(*map(MEASURED.findall, texts), strict=True)]
    ranges = iter([values[0] if len(values) == 1 else f"{values[0]} to {values[-1]}" for values in found])
    return MEASURED.sub(lambda _: next(ranges), texts[0])


def _cells(view: View, where: list[str]) -> Cell:
    if len(where) == len(view.a.cells):
        return cell(" ".join(where), view.word("states", "all"))
    return some(where, 3)


def verifications(view: View) -> Table:
    """One row per solution, value family and seed: passed, and the worst figures over its workloads."""
    columns = [
        Column("solution", head=True),
        Column("family"),
        Column("seed", numeric=True),
        Column("passed", numeric=True),
        Column("due", shown=False),
    ]
    columns += [
        Column(key, numeric=True)
        for key in ("worst_relative_l2", "worst_calc_diff", "least_matched_active", "widest_scale")
    ]
    columns += [Column("failed")]
    rows = [
        [
            cell(v.solution, view.label(v.solution), mark=view.by_name[v.solution].index),
            cell(v.family),
            cell(v.seed),
            cell(v.passed, f"{v.passed}/{v.due}", tone="good" if v.passed == v.due else "bad"),
            cell(v.due),
            *[_number(x) for x in (v.worst_relative_l2, v.worst_calc_diff, v.least_matched_active, v.widest_scale)],
            some(v.failed),
        ]
        for v in view.a.verifications
    ]
    return Table("verifications", columns, rows)


def _number(value: float | int | None, digits: int = 3) -> Cell:
    return (
        cell(None)
        if value is None
        else cell(value, f.count(value) if isinstance(value, int) else f.significant(value, digits))
    )


def numerics(view: View) -> Table:
    """Every judged cell: both gates and how far the output is from the float32 reference."""
    figures = ("matched_ratio_active", "matched_ratio", "relative_l2", "worst_row_l2", "cosine", "calc_diff", "scale")
    counts = ("active_rows", "nonzero_inactive", "non_finite", "ambiguous_rows")
    hidden = ("max_abs", "max_rel")
    columns = [Column("workload", head=True), Column("solution"), Column("published_gate"), Column("strict_gate")]
    columns += [Column(key, numeric=True) for key in (*figures, *counts)] + [Column(key, shown=False) for key in hidden]
    columns += [Column("failed_checks", shown=False)]
    rows = []
    for w in view.a.workloads:
        for person in view.people:
            c = view.cells.get((person.name, w.id))
            if c is None or not (c.numerics or c.published_gate or c.strict_gate):
                continue
            n = c.numerics or model.Numerics()
            digits = {"cosine": 6, "scale": 5, "matched_ratio": 4, "matched_ratio_active": 4}
            rows.append(
                [
                    cell(w.id),
                    cell(person.name, person.label),
                    *[_gate(view, gate) for gate in (c.published_gate, c.strict_gate)],
                    *[_number(getattr(n, key), digits.get(key, 3)) for key in (*figures, *counts)],
                    *[cell(getattr(n, key)) for key in hidden],
                    cell(" ".join(failed_checks(c))),
                ]
            )
    return Table("numerics", columns, rows)


def failed_checks(c: model.Cell) -> list[str]:
    """The conditions that a cell broke, as gate.condition."""
    gates = (("published", c.published_gate), ("strict", c.strict_gate))
    return [f"{name}.{key}" for name, gate in gates if gate for key, check in gate.checks.items() if not check.passed]


def _gate(view: View, gate: model.Gate | None) -> Cell:
    if gate is None:
        return cell(None)
    return cell(
        gate.passed, view.word("gate", "passed" if gate.passed else "failed"), tone="good" if gate.passed else "bad"
    )


def mutants(view: View) -> Table:
    """One row per mutant: on how many workloads each gate rejects it."""
    columns = [
        Column("mutant", head=True),
        Column("must_die"),
        Column("cells", numeric=True),
        Column("excluded", numeric=True),
    ]
    columns += [Column("killed_published", numeric=True), Column("killed_strict", numeric=True)]
    power = view.a.gate_power
    rows = []
    for m in power.mutants if power else []:
        counted = m.cells - m.excluded
        rows.append(
            [
                cell(m.name, code=True),
                cell(m.must_die, view.word("must_die", "yes" if m.must_die else "no")),
                cell(m.cells),
                cell(m.excluded),
                _killed(m.killed_published, counted, m.must_die),
                _killed(m.killed_strict, counted, m.must_die),
            ]
        )
    return Table("mutants", columns, rows)


def _killed(killed: int, counted: int, must_die: bool) -> Cell:
    tone = "" if not must_die or counted == 0 else "good" if killed == counted else "bad" if killed == 0 else "warn"
    return cell(killed, f"{killed}/{counted}", tone=tone)


def builds(view: View) -> Table:
    """One row per kernel (or per build without kernels): registers, memory, spills, matrix instructions."""
    columns = [
        Column("solution", head=True),
        Column("arch"),
        Column("status"),
        Column("executed"),
        Column("kernel"),
        Column("stage"),
    ]
    columns += [
        Column(key, numeric=True) for key in ("registers", "shared_bytes", "tmem_columns", "stack_bytes", "spill_bytes")
    ]
    columns += [Column("mma"), Column("digest", shown=False)]
    rows = []
    for b in view.a.builds:
        head = [
            cell(b.solution, view.label(b.solution)),
            cell(b.arch),
            cell(b.status, tone="" if b.status == "ok" else "bad"),
            cell(b.executed, view.word("executed", "yes" if b.executed else "no")),
        ]
        if not b.kernels:
            rows.append([*head, *[cell("", "–")] * 2, *[cell(None)] * 5, cell("", "–"), cell(b.digest)])
        for k in b.kernels:
            sizes = [
                cell(n, f.count(n)) if n is not None else cell(None)
                for n in (k.registers, k.shared_bytes, k.tmem_columns, k.stack_bytes)
            ]
            spills = cell(k.spill_bytes, f.count(k.spill_bytes), tone="warn" if k.spill_bytes else "")
            mma = ", ".join(f"{family} {number}" for family, number in sorted(k.mma.items()))
            rows.append(
                [*head, cell(k.name, code=True), cell(k.stage), *sizes, spills, cell(mma, mma or "–"), cell(b.digest)]
            )
    return Table("builds", columns, rows)
