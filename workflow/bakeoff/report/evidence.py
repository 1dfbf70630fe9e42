"""The tables of published figures: the audit of claims, and one run against another; and where everything comes
from."""

from __future__ import annotations

from bakeoff.report import formats as f
from bakeoff.report.performance import workload_cells, workload_columns
from bakeoff.report.tables import Cell, Column, Table, cell
from bakeoff.report.view import View
from bakeoff.schema.analysis import ClaimVerdict, Comparison, RunHeader, Workload

_TONES = {"REPRODUCED": "good", "SAME": "good", "FASTER": "good", "DIFFERS": "bad", "SLOWER": "bad"}


def claims(view: View, verdict: ClaimVerdict) -> Table:
    """The claims of one verdict, in the report's order."""
    testable = verdict is not ClaimVerdict.NOT_TESTABLE
    columns = [Column("claim", head=True), Column("note", shown=False)]
    columns += [Column(key, numeric=True, shown=testable) for key in ("printed", "computed", "tolerance")]
    columns += [
        Column("place"),
        Column("needs", shown=not testable),
        *[Column(key, shown=False) for key in ("verdict", "id", "expression")],
    ]
    tone = "bad" if verdict is ClaimVerdict.CONTRADICTED else ""
    rows = [
        [
            cell(c.text, note=c.note or ""),
            cell(c.note),
            cell(c.printed, c.printed or "–"),
            cell(" | ".join(c.computed), " / ".join(c.computed) or "–", tone=tone),
            cell(c.tolerance, c.tolerance or "–"),
            cell(c.place),
            cell(c.needs, ticked=True) if c.needs else cell(None),
            cell(c.verdict.value),
            cell(c.id),
            cell(c.expression),
        ]
        for c in (view.a.audit.claims if view.a.audit else [])
        if c.verdict is verdict
    ]
    return Table(f"audit_{verdict.name.lower()}", columns, rows)


def comparison_id(comparison: Comparison) -> str:
    """Anchor and file name of a comparison's tables."""
    return "compare_" + "".join(letter if letter.isalnum() else "_" for letter in comparison.old)


def comparison(view: View, c: Comparison) -> Table:
    """One row per cell: old, new, ratio with its interval, verdict."""
    columns = [
        Column("solution", head=True),
        Column("workload"),
        Column("verdict"),
        Column("old", numeric=True),
        Column("new", numeric=True),
    ]
    columns += [
        Column("ratio", numeric=True),
        Column("ratio_low", shown=False),
        Column("ratio_high", shown=False),
        Column("reasons"),
    ]
    rows = []
    for entry in c.cells:
        ratio = entry.ratio
        interval = "" if ratio is None or ratio.low is None else f.interval(ratio.low, ratio.high, 3)
        reasons = [view.words["reasons"].get(reason, reason) for reason in entry.reasons]
        rows.append(
            [
                cell(entry.solution, view.label(entry.solution)),
                cell(entry.workload),
                cell(entry.verdict, tone=_TONES.get(entry.verdict, "mute")),
                cell(entry.old, f.speedup(entry.old)) if entry.old is not None else cell(None),
                cell(entry.new, f.speedup(entry.new)) if entry.new is not None else cell(None),
                cell(ratio.value, f.fixed(ratio.value, 3), note=interval) if ratio else cell(None),
                cell(ratio.low if ratio else None),
                cell(ratio.high if ratio else None),
                cell(" ".join(entry.reasons), "; ".join(reasons) or "–"),
            ]
        )
    return Table(comparison_id(c), columns, rows)


def workloads(view: View) -> Table:
    """What every workload asks for, from its own routing."""
    floors = any(w.floor for w in view.a.workloads)
    columns = [
        *workload_columns(),
        *[Column(key, numeric=True) for key in ("local_pairs", "active_tokens", "active_experts")],
        *[Column(key, numeric=True, shown=floors) for key in ("floor_bytes", "floor_flops")],
    ]
    return Table("workloads", columns, [_workload_row(w) for w in view.a.workloads])


def _workload_row(w: Workload) -> list[Cell]:
    counts = (w.local_pairs, w.active_tokens, w.active_experts)
    return [
        *workload_cells(w),
        *[cell(n, f.count(n)) if n is not None else cell(None) for n in counts],
        cell(w.floor.bytes, f.data_size(w.floor.bytes)) if w.floor else cell(None),
        cell(w.floor.flops, f.significant(w.floor.flops)) if w.floor else cell(None),
    ]


def participants(view: View) -> Table:
    """Who took part, with the design, the declared roundings and the digest of what ran."""
    columns = [
        Column("solution", head=True),
        Column("name"),
        Column("role"),
        Column("description"),
        Column("rounding"),
        Column("digest"),
    ]
    declared = {p.name: p for p in view.a.participants}
    rows = []
    for person in view.people:
        p = declared[person.name]
        casts = p.rounding
        points = [] if casts is None else [casts.gemm1_output, casts.intermediate, casts.gemm2_output]
        rounding = " | ".join(" → ".join(point) or "–" for point in points)
        rows.append(
            [
                cell(person.label, mark=person.index),
                cell(person.name, code=True),
                cell(person.role, view.word("roles", person.role)),
                cell(p.description, None if p.description else "–"),
                cell(rounding or None, code=bool(rounding)),
                cell(p.digest, p.digest[:12], code=True) if p.digest else cell(None),
            ]
        )
    return Table("participants", columns, rows)


def environment(view: View) -> Table:
    """Every recorded fact, by group."""
    columns = [Column("group", head=True), Column("key"), Column("value")]
    rows = []
    for fact in view.a.provenance:
        text = (
            f.MISSING if fact.value is None else f.flag(fact.value) if isinstance(fact.value, bool) else str(fact.value)
        )
        unit = f" {fact.unit}" if fact.unit and fact.value is not None else ""
        rows.append(
            [
                cell(fact.group, view.word("groups", fact.group)),
                cell(fact.key),
                cell(fact.value, text + unit, tone="mute" if fact.value is None else ""),
            ]
        )
    return Table("environment", columns, rows)


def header_facts(view: View) -> list[tuple[str, str]]:
    """The run's header as (code, text); the template words the codes. What was not recorded is n/a."""
    run = view.a.run
    clocks = "; ".join(view.word("clocks", code) for code in run.time_tier.split(", ")) if run.time_tier else f.MISSING
    return [
        ("hardware", run.hardware or f.MISSING),
        ("backend", run.backend),
        ("definition", run.definition),
        ("dataset", run.dataset or f.MISSING),
        ("protocol", run.protocol or f.MISSING),
        ("time_tier", clocks),
        ("blocks", view.blocks_of),
        ("families", ", ".join(run.families) or f.MISSING),
        ("seeds", ", ".join(map(str, run.seeds)) or f.MISSING),
        ("timeout", f.MISSING if run.timeout_s is None else f"{f.count(run.timeout_s)} s"),
        ("tolerances", _tolerances(run)),
        ("image", run.image or f.MISSING),
    ]


def _tolerances(run: RunHeader) -> str:
    values = (("rtol", run.rtol), ("atol", run.atol), ("required_matched_ratio", run.required_matched_ratio))
    return (
        ", ".join(
            f"{name} {f.significant(value, 3).rstrip('0').rstrip('.')}" for name, value in values if value is not None
        )
        or f.MISSING
    )
