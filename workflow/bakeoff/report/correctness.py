"""The tables of correctness: conditions, outcomes, gates, numerics, mutants, builds."""

import re
from dataclasses import replace
from functools import partial

from bakeoff.report.view import Person, RunView, without, workload_columns
from bakeoff.schema.analysis_run import AnalysedCell, Build
from bakeoff.schema.build import KernelRecord
from bakeoff.schema.gates import Gate, Numerics
from bakeoff.tables import formats as f
from bakeoff.tables import shared, words
from bakeoff.tables.table import Column, Row, Table, flat, frame, frame_of, number, without_nan

_QUIET = ("NOT_RUN", "UNSUPPORTED")
_STATUS_TONES = {"ok": "good", "warning": "warn", "failed": "bad", "not_applicable": "mute"}
_CAUSE = ["solution", "outcome", "reason", "detail", "hint"]
_FIGURE = re.compile(r"[0-9a-f]{8,}|\d+(?:\.\d+)?(?:e[+-]?\d+)?")
# A decimal fraction that stands alone: not a version, not part of a name.
MEASURED = re.compile(r"(?<![\w.])\d+\.\d+(?!\.?\w)")


def validity(view: RunView) -> Table:
    """One row per condition."""
    by_code = words.CHECKS | (words.CHECKS_PUBLISHED if view.kind == "published" else {})

    def figure(value: float | int) -> str:
        return f.percent(value) if isinstance(value, float) else f.count(value)

    listed = any(check.items or check.more for check in view.a.validity)
    columns = [
        shared.worded("condition", "Condition", by_code, head=True),
        shared.worded("status", "Status", words.STATUSES, tone=lambda row: _STATUS_TONES[row["status"]]),
        number("found", "Found", figure, missing="–"),
        number("of", "Of", figure, missing="–"),
        shared.names(
            "items", "Concerns" if listed else "", text=lambda row: shared.some(row["items"], more=row["more"])
        ),
    ]
    return Table("validity", frame({"condition": one.code, **flat(one)} for one in view.a.validity), columns)


def outcome_tone(outcome: str) -> str:
    return "good" if outcome == "PASSED" else "mute" if outcome in _QUIET else "bad"


def outcomes(view: RunView) -> Table:
    """Workloads × solutions: the outcome, and the relative L2 error of what was judged."""

    def outcome(person: Person) -> list[Column]:
        source, error = f"{person.name}:outcome", f"{person.name}:relative_l2"

        def note(row: Row) -> str:
            return row[f"{person.name}:reason"] or "" if row[error] is None else f"L2 {f.significant(row[error], 2)}"

        shown = Column(person.name, person.heading, source=source, mark=person.index, note=note)
        return [
            replace(shown, tone=lambda row: outcome_tone(row[source])),
            Column(f"{person.name}_relative_l2", source=error),
        ]

    columns = [
        *workload_columns("offset"),
        shared.count("active_tokens", "Active tokens"),
        shared.count("local_pairs", "Local pairs"),
        *(column for person in view.people for column in outcome(person)),
    ]
    found = view.wide("outcome", "relative_l2", "reason")
    there = found.fillna({f"{person.name}:outcome": "NOT_RUN" for person in view.people})
    return Table("outcomes", there, columns, key="workload")


_CAUSES = (
    Column("outcome", "Outcome", tone=lambda row: outcome_tone(row["outcome"]), note=lambda row: row["reason"] or ""),
    Column("reason"),
    number("count", "Cells"),
)


def troubles(view: RunView) -> Table:
    """The cells that did not pass: reason, what happened, what to do; one row per solution and cause."""
    columns = [
        view.who(head=True, marked=False),
        *_CAUSES,
        shared.names("workloads", "Workloads"),
        Column("detail", "What happened", _short, missing="–"),
        Column("hint", "To do", style="ticked", missing="–"),
    ]
    cells = view.cell_frame
    if len(cells):
        causes = cells[cells["outcome"] != "PASSED"].groupby(_CAUSE, sort=False, dropna=False)["workload"]
        cells = without_nan(causes.agg(workloads=list, count="size").reset_index())
    return Table("troubles", cells, columns)


def failures(view: RunView) -> Table:
    """Of all cells of a page that does not show all: those that did not pass, one row per cause. Messages that differ
    in the solution's name or in figures are one cause."""
    causes: dict[tuple[str, str, str], list[AnalysedCell]] = {}
    for cell in view.whole.cells if view.whole else ():
        if cell.outcome != "PASSED":
            causes.setdefault((cell.outcome, cell.reason or "", _cause(cell)), []).append(cell)
    rows = [
        {
            **{"outcome": outcome, "reason": reason or None, "count": len(cells), "detail": cells[0].detail},
            "solutions": list(dict.fromkeys(cell.solution for cell in cells)),
            "hint": cells[0].hint,
        }
        for (outcome, reason, _), cells in causes.items()
    ]
    columns = [
        *_CAUSES,
        number("solution_count", "Solutions", source="solutions", format=lambda names: f.count(len(names)), export=len),
        Column("solutions", "Which", lambda names: shared.some(names, 3), export=" ".join),
        Column("detail", "What happened, the first time", _short, missing="–"),
        Column("hint", "To do", style="ticked", missing="–"),
    ]
    return Table("failures", frame(sorted(rows, key=lambda row: -row["count"])), columns)


def _cause(cell: AnalysedCell) -> str:
    """The last line of what happened, where a traceback names its cause, without the solution's name and figures."""
    last = (cell.detail or "").strip().rpartition("\n")[2]
    return _FIGURE.sub("0", last.replace(cell.solution, "NAME"))


def _short(text: str, most: int = 400) -> str:
    """The end of a long message (a traceback names its cause last); the CSV has all of it."""
    return text if len(text) <= most else f"… {text[-most:]}"


def remarks(view: RunView) -> Table:
    """What was remarked while measuring, one row per cause: missing tiers, warnings, discarded samples, outlier
    processes.

    Remarks that differ only in a measured value are one cause.
    """
    causes: dict[tuple[str, str], tuple[list[str], dict[str, None]]] = {}  # texts, and the cells, each once
    for c in view.a.cells:
        for kind, text in _remarks_of(c, timed=view.a.performance_shown):
            texts, where = causes.setdefault((kind, MEASURED.sub("\0", text)), ([], {}))
            texts.append(text)
            where[f"{c.solution}/{c.workload}"] = None

    def cells(found: list[str]) -> str:
        return words.STATES["all"] if len(found) == len(view.a.cells) else shared.some(found, 3)

    columns = [
        shared.worded("kind", "Kind", words.REMARKS, head=True),
        Column("remark", "Remark"),
        number("count", "Cells"),
        Column("cells", "Which", cells, export=" ".join),
    ]
    rows = (
        {"kind": kind, "remark": _joined(texts), "count": len(where), "cells": [*where]}
        for (kind, _), (texts, where) in sorted(causes.items())
    )
    return Table("remarks", frame(rows), columns)


def _remarks_of(c: AnalysedCell, *, timed: bool) -> list[tuple[str, str]]:
    """(kind, text) of a cell. Without performance no clock is asked for: that a GPU's are not there is no news."""
    found = [("missing_tier", f"{tier}: {why}") for tier, why in sorted(c.missing_tiers.items()) if timed]
    found += [("warning", text) for text in c.warnings]
    found += [("discarded", f"{c.discarded}")] if c.discarded else []
    found += [("outlier_blocks", f"block {', '.join(map(str, c.outlier_blocks))}")] if c.outlier_blocks else []
    return found


def _joined(texts: list[str]) -> str:
    """One text for those that differ in measured values: with the range of each."""
    found = [sorted(set(values), key=float) for values in zip(*map(MEASURED.findall, texts), strict=True)]
    ranges = iter([values[0] if len(values) == 1 else f"{values[0]} to {values[-1]}" for values in found])
    return MEASURED.sub(lambda _: next(ranges), texts[0])


def verifications(view: RunView) -> Table:
    """One row per solution, value family and seed: passed, and the worst figures over its workloads."""
    columns = [
        view.who(head=True),
        Column("family", "Family"),
        number("seed", "Seed"),
        shared.out_of("passed", "Passed", tone=lambda row: "good" if row["passed"] == row["due"] else "bad"),
        Column("due"),
        shared.figure("worst_relative_l2", "Worst relative L2"),
        shared.figure("worst_calc_diff", "Worst calc_diff"),
        shared.figure("least_matched_active", "Least matched (active)"),
        shared.figure("widest_scale", "Scale farthest from 1"),
        shared.names("failed", "Failed"),
    ]
    return Table("verifications", frame_of(view.a.verifications), columns)


def numerics(view: RunView) -> Table:
    """Every judged cell: both gates and how far the output is from the float32 reference."""
    cells = (view.cells.get((person.name, w.id)) for w in view.a.workloads for person in view.people)
    rows = (
        {**flat(c.numerics or Numerics()), "workload": c.workload, "solution": c.solution}
        | {"failed_checks": failed_checks(c)}
        | {key: gate.passed if gate else None for key, gate in _gates(c).items()}
        for c in cells
        if c is not None and (c.numerics or c.published_gate or c.strict_gate)
    )
    return Table("numerics", frame(rows), without(shared.numerics(view.who(marked=False)), "matched_ratio", "cosine"))


def _gates(c: AnalysedCell) -> dict[str, Gate | None]:
    return {"published_gate": c.published_gate, "strict_gate": c.strict_gate}


def failed_checks(c: AnalysedCell) -> str:
    """The conditions that a cell broke, as gate.condition."""
    gates = ((name.removesuffix("_gate"), gate) for name, gate in _gates(c).items() if gate)
    return " ".join(f"{name}.{key}" for name, gate in gates for key, check in gate.checks.items() if not check.passed)


def mutants(view: RunView) -> Table:
    """One row per mutant: on how many workloads each gate rejects it."""

    def killed(row: Row, key: str) -> str:
        counted = row["cells"] - row["excluded"]
        return f"{row[key]}/{counted}" if counted else "–"

    def tone(row: Row, key: str) -> str:
        counted = row["cells"] - row["excluded"]
        if not row["must_die"] or counted == 0:
            return ""
        return "good" if row[key] == counted else "bad" if row[key] == 0 else "warn"

    columns = [
        Column("mutant", "Mutant", head=True, style="code"),
        shared.worded("must_die", "Expected", words.MUST_DIE),
        number("cells", "Workloads"),
        number("excluded", "Equal to honest"),
        *(
            number(key, heading, text=partial(killed, key=key), tone=partial(tone, key=key))
            for key, heading in (("killed_published", "Published gate"), ("killed_strict", "Strict gate"))
        ),
    ]
    found = view.a.gate_power.mutants if view.a.gate_power else []
    return Table("mutants", frame({"mutant": one.name, **flat(one)} for one in found), columns)


def builds(view: RunView) -> Table:
    """One row per kernel (or per build without kernels): registers, memory, spills, matrix instructions."""
    columns = [
        view.who(head=True, marked=False),
        Column("arch", "Architecture"),
        Column("status", "Status", tone=lambda row: "" if row["status"] == "ok" else "bad"),
        shared.worded("executed", "In this run", words.EXECUTED),
        Column("kernel", "Kernel", style="code", missing="–"),
        Column("stage", "Stage", missing="–"),
        shared.count("registers", "Registers"),
        shared.count("shared_bytes", "Shared memory, bytes"),
        shared.count("tmem_columns", "TMEM columns"),
        shared.count("stack_bytes", "Stack, bytes"),
        shared.count("spill_bytes", "Spills, bytes", tone=lambda row: _spills(row["spill_bytes"])),
        Column("mma", "Matrix instructions", missing="–"),
        Column("digest"),
    ]
    rows = (flat(build) | row for build in view.a.builds for row in _compiled(build))
    return Table("builds", frame(rows), columns)


def _spills(spilled: int | None) -> str:
    return "mute" if spilled is None else "warn" if spilled else ""


def _compiled(build: Build) -> list[dict[str, object]]:
    """A row per kernel, or one without figures."""
    mma = [", ".join(f"{family} {count}" for family, count in sorted(kernel.mma.items())) for kernel in build.kernels]
    rows = [
        {**flat(kernel), "kernel": kernel.name, "mma": instructions or None}
        for kernel, instructions in zip(build.kernels, mma, strict=True)
    ]
    return rows or [dict.fromkeys(["kernel", *KernelRecord.model_fields])]
