"""The tables of profiles: where the GPU time goes, what bounds it, and published explanations tested with it."""

from __future__ import annotations

from bakeoff.report import formats as f
from bakeoff.report import roofline
from bakeoff.report.correctness import some
from bakeoff.report.tables import Cell, Column, Table, cell
from bakeoff.report.view import View
from bakeoff.schema.profile import CellProfile, ProfileSection, StageProfile

_TONES = {"CONFIRMED": "good", "CONTRADICTED": "bad", "NOT TESTABLE": "mute"}


def _time(value: float | None) -> Cell:
    return cell(None) if value is None else cell(value, f.duration(value))


def _share(value: float | None, digits: int = 0) -> Cell:
    return cell(None) if value is None else cell(value, f.percent(value, digits))


def _number(value: float | None) -> Cell:
    return cell(None) if value is None else cell(value, f.significant(value))


def tables(view: View) -> list[Table]:
    """All tables of the section; none where the run was not profiled."""
    section = view.a.profiles
    if section is None:
        return []
    made = [
        cells(view, section),
        stages(view, section),
        coverage(view, section),
        explanations(section),
        kernels(view, section),
    ]
    return [*made, ceilings(section)]


def cells(view: View, section: ProfileSection) -> Table:
    """One row per profiled cell: span, its distance from floor and ceiling, and what it is made of by stage."""
    columns = [
        Column("workload", head=True),
        Column("solution"),
        Column("span_us", numeric=True),
        Column("busy_us", numeric=True, shown=False),
    ]
    columns += [Column(key, numeric=True) for key in ("floor_share", "ceiling_share", "gap_share", "launches")]
    columns += [Column("bound")]
    columns += [
        Column(f"{name}_us", name, numeric=True, shown=name != "other" or _used(section, name))
        for name in section.stages
    ]
    columns += [Column(key, numeric=True) for key in ("dram_over_floor", "bandwidth_share", "tensor_share")]
    columns += [
        Column(key, shown=False)
        for key in (
            *("bandwidth_ceiling_share", "tflops_share", "tflops_ceiling_share", "host_us", "syncs", "mapped_share"),
            *("intensity", "tflops", "tier", "counters_missing"),
        )
    ]
    return Table("profiled", columns, [_cell_row(view, section, one) for one in _by_workload(section)])


def _used(section: ProfileSection, name: str) -> bool:
    return any(stage.us for one in section.cells for stage in one.stages if stage.stage == name)


def _by_workload(section: ProfileSection) -> list[CellProfile]:
    order = {workload.id: number for number, workload in enumerate(section.workloads)}
    return sorted(section.cells, key=lambda one: order.get(one.workload, len(order)))


def _cell_row(view: View, section: ProfileSection, one: CellProfile) -> list[Cell]:
    found = {stage.stage: stage for stage in one.stages}
    parts = [found.get(name) for name in section.stages]  # type: ignore[call-overload]
    return [
        cell(one.workload),
        _solution(view, one.solution),
        _time(one.span_us),
        cell(one.busy_us),
        *[_share(share) for share in (one.floor_share, one.ceiling_share, one.gap_share)],
        cell(one.launches),
        cell(one.bound, view.word("limits", one.bound)),
        *[_stage_cell(part) for part in parts],
        cell(one.dram_over_floor, f.fixed(one.dram_over_floor, 2, f.TIMES))
        if one.dram_over_floor is not None
        else cell(None),
        *[_share(share) for share in (one.bandwidth_share, one.tensor_share)],
        *[
            cell(value)
            for value in (
                *(one.bandwidth_ceiling_share, one.tflops_share, one.tflops_ceiling_share),
                *(one.host_us, one.syncs, one.mapped_share, one.intensity),
                *(roofline.rate(one), one.tier, one.counters_missing),
            )
        ],
    ]


def _stage_cell(stage: StageProfile | None) -> Cell:
    if stage is None:
        return cell(None)
    return (
        cell(stage.us, f.duration(stage.us), note=f.percent(stage.share, 0))
        if stage.us
        else cell(0.0, "–", tone="mute")
    )


def _solution(view: View, name: str) -> Cell:
    person = view.by_name.get(name)
    return cell(name, person.label, mark=person.index) if person else cell(name)


def stages(view: View, section: ProfileSection) -> Table:
    """One row per stage of a profiled cell: time, share, floor, and what bounds it."""
    columns = [Column("workload", head=True), Column("solution"), Column("stage")]
    columns += [Column(key, numeric=True) for key in ("us", "share", "run_us", "floor_us", "floor_share")] + [
        Column("limit"),
        Column("limit_from", shown=False),
    ]
    columns += [
        Column(key, numeric=True) for key in ("launches", "dram_bytes", "dram_share", "tensor_share", "occupancy")
    ]
    columns += [Column("local_accesses", shown=False)]
    rows = [
        [
            cell(one.workload),
            _solution(view, one.solution),
            cell(stage.stage),
            _time(stage.us),
            _share(stage.share),
            _time(stage.run_us),
            _time(stage.floor_us),
            _share(stage.floor_share),
            cell(stage.limit, view.word("limits", stage.limit)) if stage.limit else cell(None),
            cell(stage.limit_from),
            cell(stage.launches),
            cell(stage.dram_bytes, f.data_size(stage.dram_bytes)) if stage.dram_bytes is not None else cell(None),
            *[_share(share) for share in (stage.dram_share, stage.tensor_share, stage.occupancy)],
            cell(stage.local_accesses),
        ]
        for one in _by_workload(section)
        for stage in one.stages
        if stage.us
    ]
    return Table("stages", columns, rows)


def coverage(view: View, section: ProfileSection) -> Table:
    """How much of the run is profiled, and why a cell is not."""
    columns = [
        Column("solution", head=True),
        *[Column(key, numeric=True) for key in ("profiled", "counted", "mapped_least")],
    ]
    columns += [Column("due", shown=False), Column("failures")]
    rows = [
        [
            _solution(view, one.solution),
            cell(one.profiled, f"{one.profiled}/{one.due}"),
            cell(one.counted, f"{one.counted}/{one.due}"),
            _share(one.mapped_least, 1),
            cell(one.due),
            some([f"{workload}: {why}" for workload, why in one.failures.items()], 2),
        ]
        for one in section.coverage
    ]
    return Table("profile_coverage", columns, rows)


def explanations(section: ProfileSection) -> Table:
    """The published explanations, each with its test, verdict and numbers."""
    columns = [
        Column("explanation", head=True),
        Column("place", shown=False),
        Column("verdict"),
        Column("test"),
        Column("numbers"),
        Column("needs"),
    ]
    rows = [
        [
            cell(one.text),
            cell(one.place),
            cell(one.verdict, tone=_TONES[one.verdict]),
            cell(one.test),
            _numbers(one.numbers),
            cell(one.needs, one.needs or "–", ticked=True),
        ]
        for one in section.explanations
    ]
    return Table("explanations", columns, rows)


def _numbers(numbers: dict[str, float]) -> Cell:
    exact = "; ".join(f"{name}={f.raw(value)}" for name, value in numbers.items())
    return cell(exact, "; ".join(f"{name}: {_plain(value)}" for name, value in numbers.items()) or "–")


def _plain(value: float) -> str:
    return f.count(int(value)) if value.is_integer() else f.significant(value)


def kernels(view: View, section: ProfileSection) -> Table:
    """Every kernel of every profiled cell, in launch order."""
    columns = [
        Column("workload", head=True),
        Column("solution"),
        Column("kernel"),
        Column("stage"),
        Column("mapped", shown=False),
    ]
    columns += [Column(key, numeric=True) for key in ("launches", "us", "registers", "shared_bytes", "local_bytes")]
    columns += [Column(key, shown=False) for key in ("grid", "block")]
    rows = [
        [
            cell(one.workload),
            _solution(view, one.solution),
            cell(kernel.name, code=True),
            cell(kernel.stage),
            cell(kernel.mapped),
            cell(kernel.launches),
            _time(kernel.us),
            *[
                cell(n, f.count(n)) if n is not None else cell(None)
                for n in (kernel.registers, kernel.shared_bytes, kernel.local_bytes)
            ],
            *[cell(None if size is None else "x".join(map(str, size))) for size in (kernel.grid, kernel.block)],
        ]
        for one in _by_workload(section)
        for kernel in one.kernels
    ]
    return Table("kernels", columns, rows)


def ceilings(section: ProfileSection) -> Table:
    """Sourced peaks beside what simple programs reached on the host."""
    found = section.ceilings
    columns = [
        Column("rate", head=True),
        Column("peak", numeric=True),
        Column("measured", numeric=True),
        Column("unit"),
    ]
    rows = [
        [cell("bandwidth"), _number(section.peak_gbs), _number(found.copy_gbs if found else None), cell("GB/s")],
        [cell("fp8"), _number(section.peak_tflops), _number(found.fp8_tflops if found else None), cell("TFLOP/s")],
        [cell("launch"), cell(None), _number(found.launch_us if found else None), cell("µs")],
    ]
    return Table("ceilings", columns, rows)
