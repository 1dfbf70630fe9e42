"""The tables of profiles: where the GPU time goes, what bounds it, and published explanations tested with it."""

from bakeoff.report.view import RunView, without
from bakeoff.schema.profile import CellProfile, ProfileSection
from bakeoff.tables import formats as f
from bakeoff.tables import shared, words
from bakeoff.tables.table import Column, Row, Table, flat, frame, number

_TONES = {"CONFIRMED": "good", "CONTRADICTED": "bad", "NOT TESTABLE": "mute"}
_FOR_MACHINES = (
    *("dram_over_floor", "bandwidth_share", "tensor_share", "bandwidth_ceiling_share", "tflops_share"),
    *("tflops_ceiling_share", "host_us", "syncs", "mapped_share", "intensity", "tflops", "tier", "counters_missing"),
)


def tables(view: RunView) -> list[Table]:
    """All tables of the section; none where the run was not profiled."""
    section = view.a.profiles
    if section is None:
        return []
    order = {workload.id: place for place, workload in enumerate(view.a.workloads)}
    ordered = sorted(section.cells, key=lambda one: order.get(one.workload, len(order)))
    return [
        profiled(view, section, ordered),
        Table("stages", frame(shared.stage_rows(ordered)), without(shared.stages(view.who()), "share", "dram_bytes")),
        coverage(view, section),
        explanations(section),
        Table("kernels", frame(shared.kernel_rows(ordered)), shared.kernels(view.who())),
        Table("ceilings", frame(shared.ceiling_rows(section)), shared.ceilings()),
    ]


def profiled(view: RunView, section: ProfileSection, cells: list[CellProfile]) -> Table:
    """One row per profiled cell: span, its distance from floor and ceiling, and what it is made of by stage."""
    used = {stage.stage for one in cells for stage in one.stages if stage.us}
    columns = [
        Column("workload", "Workload", head=True),
        view.who(),
        shared.duration("span_us", "Span"),
        number("busy_us"),
        shared.share("floor_share", "Floor"),
        Column("ceiling_share"),
        shared.share("gap_share", "Launch gaps"),
        number("launches", "Launches"),
        shared.worded("bound", "Bound by", words.LIMITS),
        *(_stage(name, shown=name != "other" or name in used) for name in section.stages),
        *map(Column, _FOR_MACHINES),
    ]
    rows = (
        {**flat(one), "tflops": one.span_tflops}
        | {key: value for stage in one.stages for key, value in ((f"{stage.stage}_us", stage.us), (stage.stage, stage))}
        for one in cells
    )
    return Table("profiled", frame(rows), columns)


def _stage(name: str, *, shown: bool) -> Column:
    key = f"{name}_us"

    def note(row: Row) -> str:
        return f.percent(row[name].share, 0) if row[key] else ""

    def tone(row: Row) -> str:
        return "" if row[key] else "mute"

    return number(key, name if shown else "", lambda us: f.duration(us) if us else "–", note=note, tone=tone)


def coverage(view: RunView, section: ProfileSection) -> Table:
    """How much of the run is profiled, and why a cell is not."""
    columns = [
        view.who(head=True),
        shared.out_of("profiled", "Profiled"),
        shared.out_of("counted", "With counters"),
        shared.percent("mapped_least", "Least mapped"),
        Column("due"),
        shared.names("failures", "Not profiled because", 2),
    ]
    rows = (
        {**flat(one), "failures": [f"{workload}: {why}" for workload, why in one.failures.items()]}
        for one in section.coverage
    )
    return Table("profile_coverage", frame(rows), columns)


def explanations(section: ProfileSection) -> Table:
    """The published explanations, each with its test, verdict and numbers."""
    columns = [
        Column("explanation", "Explanation", head=True),
        Column("place"),
        Column("verdict", "Verdict", tone=lambda row: _TONES[row["verdict"]]),
        Column("test", "Test", source="expression"),
        Column("numbers", "Numbers", _numbers, export=_exact),
        Column("needs", "What would test it", style="ticked", missing="–"),
    ]
    return Table("explanations", frame({**flat(one), "explanation": one.text} for one in section.explanations), columns)


def _numbers(numbers: dict[str, float]) -> str:
    plain = {name: f.count(int(x)) if x.is_integer() else f.significant(x) for name, x in numbers.items()}
    return "; ".join(f"{name}: {text}" for name, text in plain.items()) or "–"


def _exact(numbers: dict[str, float]) -> str:
    return "; ".join(f"{name}={f.raw(value)}" for name, value in numbers.items())
