"""The same run under its timing protocols: ratios to a reference depend on how both are timed.

Entry points: `table`, `agree`.
"""

from __future__ import annotations

from bakeoff.report import formats as f
from bakeoff.report.performance import estimate_text
from bakeoff.report.tables import Cell, Column, Table, cell
from bakeoff.report.view import Person, View
from bakeoff.schema.analysis import ProtocolSummary


def table(view: View) -> Table:
    """Geometric mean and leads of every solution under each timing protocol; none if the run has one protocol."""
    others = view.a.other_protocols
    first = ProtocolSummary(protocol=view.a.run.protocol or "", summaries=view.a.summaries)
    columns = [Column("solution", head=True)]
    for one in [first, *others]:
        columns.append(Column(one.protocol, one.protocol, numeric=True))
        columns += [Column(f"{one.protocol}_{key}", shown=False) for key in ("low", "high", "leads")]
    rows = [[_who(person), *_under(person, [first, *others])] for person in view.people] if others else []
    return Table("protocols", columns, rows)


def agree(view: View) -> bool:
    """Whether the contestants' geometric means have the same order under every protocol."""
    names = {person.name for person in view.contestants}
    orders = set()
    for summaries in (view.a.summaries, *(one.summaries for one in view.a.other_protocols)):
        means = {s.solution: s.geometric_mean.value for s in summaries if s.geometric_mean and s.solution in names}
        orders.add(tuple(sorted(means, key=lambda name: -means[name])))
    return len(orders) == 1


def _who(person: Person) -> Cell:
    return cell(person.name, person.label, mark=person.index)


def _under(person: Person, protocols: list[ProtocolSummary]) -> list[Cell]:
    row = []
    for one in protocols:
        found = next((summary for summary in one.summaries if summary.solution == person.name), None)
        mean = found.geometric_mean if found else None
        row += [
            cell(mean.value, f.speedup(mean.value), note=estimate_text(mean)) if mean else cell(None),
            *(cell(end) for end in ((mean.low, mean.high) if mean else (None, None))),
            cell(found.leads if found else None),
        ]
    return row
