"""The tables of published figures: the audit of claims, and one run against another; and where everything comes
from."""

from typing import Any

from bakeoff.core.moe.floors import B200_RANGE, PEAKS, LowerBound, b200_range
from bakeoff.report.view import RunView, workload_columns
from bakeoff.schema.analysis_outside import ClaimVerdict, Comparison
from bakeoff.schema.analysis_run import RunHeader
from bakeoff.schema.plan import Participant
from bakeoff.tables import formats as f
from bakeoff.tables import shared, words
from bakeoff.tables.table import Column, Table, flat, frame, frame_of


def claims(view: RunView, verdict: ClaimVerdict) -> Table:
    """The claims of one verdict, in the report's order."""
    found = view.a.audit.claims if view.a.audit else []
    rows = ({**flat(c), "claim": c.text} for c in found if c.verdict is verdict)
    return Table(f"audit_{verdict.name.lower()}", frame(rows), shared.claims(verdict))


def comparison_id(comparison: Comparison) -> str:
    """Anchor and file name of a comparison's tables."""
    return "compare_" + "".join(letter if letter.isalnum() else "_" for letter in comparison.old)


def comparison(view: RunView, c: Comparison) -> Table:
    """One row per cell: old, new, ratio with its interval, verdict."""
    return Table(comparison_id(c), frame_of(c.cells), shared.comparison(c.rule, view.who(head=True, marked=False)))


def workloads(view: RunView) -> Table:
    """What every workload asks for, from its own routing."""
    floors = any(w.floor_bytes for w in view.a.workloads)
    columns = [
        *workload_columns(),
        shared.count("local_pairs", "Local pairs"),
        shared.count("active_tokens", "Active tokens"),
        shared.count("active_experts", "Active experts"),
        shared.size("floor_bytes", "Floor, bytes" if floors else ""),
        shared.figure("floor_flops", "Floor, FLOPs" if floors else ""),
    ]
    return Table("workloads", view.workload_frame, columns)


def b200_floors(view: RunView) -> Table:
    """The least that each workload costs on a B200, for runs of other GPUs: without anything that was measured."""
    rows = []
    if view.a.performance_shown and "B200" not in (view.a.run.hardware or ""):
        for workload in view.a.workloads:
            if workload.floor_bytes and workload.floor_flops:
                least = LowerBound(workload.floor_bytes, workload.floor_flops)
                low, high = b200_range(least)
                times = {"floor_us": least.us(PEAKS["NVIDIA B200"]), "range_low": low, "range_high": high}
                rows.append({"workload": workload.id, "expert_offset": workload.offset, **flat(workload), **times})
    columns = [
        *workload_columns(),
        shared.duration("floor_us", "Floor on a B200"),
        shared.duration("range_low", "From, estimated"),
        shared.duration("range_high", "To, estimated"),
    ]
    return Table("b200_floors", frame(rows), columns)


def b200_sources() -> dict[str, str]:
    """Where the rates behind `b200_floors` are published: of the floor, and of its range."""
    ends = (f"{one.bandwidth / 1e12:.1f} TB/s, {one.fp8 / 1e15:.1f} PFLOPS of FP8: {one.source}" for one in B200_RANGE)
    return {"floor": PEAKS["NVIDIA B200"].source, "range": "; ".join(ends)}


def participants(view: RunView) -> Table:
    """Who took part, with the design, the declared roundings and the digest of what ran."""
    columns = [
        Column("solution", "Solution", head=True, row_mark=lambda row: view.by_name[row["name"]].index),
        Column("name", "Folder", style="code"),
        shared.worded("role", "Role", words.ROLES),
        Column("description", "Design", missing="–"),
        Column("rounding", "Rounding", style="code"),
        Column("digest", "Digest", lambda digest: digest[:12], style="code"),
    ]
    declared = {p.name: p for p in view.a.participants}
    rows = (
        {**flat(declared[person.name]), "solution": person.label, "rounding": _rounding(declared[person.name])}
        for person in view.people
    )
    return Table("participants", frame(rows), columns)


def _rounding(p: Participant) -> str | None:
    """The casts at the three points, "bfloat16 | fp8_block128 | –"."""
    casts = p.rounding
    points = [casts.gemm1_output, casts.intermediate, casts.gemm2_output] if casts else []
    return " | ".join(" → ".join(point) or "–" for point in points) or None


def environment(view: RunView) -> Table:
    """Every recorded fact, by group."""

    def text(row: Any) -> str:
        if row["value"] is None:
            return f.MISSING
        said = f.flag(row["value"]) if isinstance(row["value"], bool) else str(row["value"])
        return said + (f" {row['unit']}" if row["unit"] else "")

    columns = [
        shared.worded("group", "Group", words.GROUPS, head=True),
        Column("key", "Fact"),
        Column("value", "Value", text=text),
    ]
    return Table("environment", frame_of(view.a.provenance), columns)


def header_facts(view: RunView) -> list[tuple[str, str]]:
    """The run's header as (code, text); the template words the codes. What was not recorded is n/a."""
    run = view.a.run
    clocks = "; ".join(words.CLOCKS[code] for code in run.time_tier.split(", ")) if run.time_tier else f.MISSING
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
