"""An analysis's entries by their names."""

from __future__ import annotations

from bakeoff.schema.analysis import Analysis


def cell(analysis: Analysis, solution: str, workload: str):
    return next(entry for entry in analysis.cells if (entry.solution, entry.workload) == (solution, workload))


def pair(analysis: Analysis, a: str, b: str):
    return next(entry for entry in analysis.pairs if {entry.a, entry.b} == {a, b})
