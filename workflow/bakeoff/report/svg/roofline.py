"""The roofline: every profiled cell by the arithmetic intensity of its workload and the rate that it reached.

Entry point: `over_intensity`. Intensity and FLOPs are those of the workload's floor, from its own routing; the rate is
over the call's span. So a mark's height below a roof is its share of the floor at those rates.
"""

from __future__ import annotations

from markupsafe import Markup

from bakeoff.report.stages import rate
from bakeoff.report.svg import charts
from bakeoff.report.svg.charts import Point, Roof, Series, Words
from bakeoff.report.svg.figures import MOST_LINES
from bakeoff.report.view import Person, RunView
from bakeoff.schema.profile import CellProfile, ProfileSection
from bakeoff.tables import formats as f
from bakeoff.tables import words as words_of


def over_intensity(view: RunView, words: Words) -> Markup:
    """All profiled cells below the roofs of the sourced peaks and of the rates measured on the host; empty without
    peaks."""
    section = view.a.profiles
    roofs = _roofs(view, section) if section else []
    if section is None or not roofs:
        return Markup("")
    series = []
    for person in view.people:
        points = [_point(person, one) for one in section.cells if one.solution == person.name]
        if points:
            series.append(Series(person.index, person.label, points))
    return charts.roofline("fig-roofline", series[:MOST_LINES], roofs, words) if series else Markup("")


def _roofs(view: RunView, section: ProfileSection) -> list[Roof]:
    """Slopes in TFLOP/s per FLOP/byte, that is in TB/s; a rate that could not be had leaves its roof out."""
    found = []
    if section.peak_gbs and section.peak_tflops:
        found.append(Roof(section.peak_gbs / 1e3, section.peak_tflops, words_of.ROOFS["peak"]))
    ceilings = section.ceilings
    if ceilings and ceilings.fp8_tflops:
        found.append(Roof(ceilings.copy_gbs / 1e3, ceilings.fp8_tflops, words_of.ROOFS["measured"]))
    return found


def _point(person: Person, cell: CellProfile) -> Point:
    share = "" if cell.floor_share is None else f" ({f.percent(cell.floor_share, 0)})"
    return Point(
        cell.intensity, rate(cell), title=f"{person.label}, {cell.workload}: {f.significant(rate(cell))} TFLOP/s{share}"
    )
