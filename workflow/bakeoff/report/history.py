"""The history of every cell over the runs on one model of GPU: which steps the statistics support, and what changed.

Entry point: `histories`, from analyses alone: a run's own comparison with the one before it (`bakeoff analyse
--against`) says what moved.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from bakeoff.report.view import RunView
from bakeoff.schema.analysis_outside import Comparison
from bakeoff.tables import formats as f
from bakeoff.tables import shared
from bakeoff.tables.table import Column, Row, Table, frame

_TONES = {"FASTER": "good", "SLOWER": "bad"}


@dataclass(frozen=True)
class Step:
    """From one run to the next: the cells that moved, of those compared, and what changed."""

    old: str
    new: str
    moved: list[str]
    cells: int
    changed: list[str]


@dataclass(frozen=True)
class History:
    """The runs on one model of GPU."""

    gpu: str
    steps: list[Step]
    table: Table


def histories(views: Sequence[RunView]) -> list[History]:
    """One per model of GPU whose runs were compared with those before them, in the order of their names."""
    models: dict[str, list[RunView]] = {}
    for view in sorted(views, key=lambda view: view.a.run.id):
        if view.kind == "measured":
            models.setdefault(view.gpu, []).append(view)
    found: list[History] = []
    for gpu, runs in models.items():
        steps = {new.a.run.id: _comparison(old, new) for old, new in pairwise(runs)}
        if any(steps.values()):
            told = [_step(old, new, c) for old, new in pairwise(runs) if (c := steps[new.a.run.id])]
            found.append(History(gpu, told, _table(f"history_{len(found) + 1}", runs, steps)))
    return found


def _comparison(old: RunView, new: RunView) -> Comparison | None:
    return next((c for c in new.a.comparisons if c.rule == "runs" and c.old == old.a.run.id), None)


def _step(old: RunView, new: RunView, comparison: Comparison) -> Step:
    moved = [f"{new.label(c.solution)} {c.workload}" for c in comparison.cells if c.verdict in _TONES]
    digests = {p.name: p.digest for p in old.a.participants}
    sources = [p.label for p in new.a.participants if p.name in digests and p.digest != digests[p.name]]
    compared = sum(c.verdict != "NOT COMPARABLE" for c in comparison.cells)
    changed = [f"sources of {label}" for label in sources] + [*comparison.differs]
    return Step(comparison.old, comparison.new, moved, compared, changed)


def _table(id_: str, runs: list[RunView], steps: dict[str, Comparison | None]) -> Table:
    """One row per cell of the last run, one column per run: the latency, and the step to it where it moved."""
    rows = []
    for cell in runs[-1].a.cells:
        if runs[-1].by_name[cell.solution].twin_of is None:
            row: dict[str, object] = {"solution": cell.solution, "workload": cell.workload}
            for run in runs:
                found = run.latency(cell.solution, cell.workload)
                row[run.a.run.id] = found.value if found else None
            rows.append(row | {f"{run}:step": _moved(c, cell.solution, cell.workload) for run, c in steps.items()})
    columns = [runs[-1].who(head=True, marked=False), Column("workload", "Workload")]
    return Table(id_, frame(rows), [*columns, *(_run(run.a.run.id) for run in runs)])


def _moved(comparison: Comparison | None, solution: str, workload: str) -> tuple[str, str]:
    """(verdict, words) of the step to a cell; nothing where nothing moved."""
    for c in comparison.cells if comparison else ():
        if (c.solution, c.workload) == (solution, workload) and c.verdict in _TONES and c.ratio:
            return c.verdict, f"{f.signed_percent(1 / c.ratio.value - 1)} time"
    return "", ""


def _run(run: str) -> Column:
    def step(row: Row) -> tuple[str, str]:
        return row.get(f"{run}:step") or ("", "")

    column = shared.duration(run, run, missing="–")
    return replace(column, note=lambda row: step(row)[1], tone=lambda row: _TONES.get(step(row)[0], ""))
