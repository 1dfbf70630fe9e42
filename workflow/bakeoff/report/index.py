"""The landing page over several reports."""

import math
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bakeoff.report import figures
from bakeoff.report.history import histories
from bakeoff.report.rerun import check_command
from bakeoff.report.templates import html_environment, tidy_html
from bakeoff.report.view import RunView
from bakeoff.schema.analysis import Analysis
from bakeoff.tables import formats as f
from bakeoff.tables import shared
from bakeoff.tables.table import Column, Row, Table, frame, without_nan


@dataclass(frozen=True)
class Source:
    """An analysis and where it and its report stand, as links relative to the landing page."""

    analysis: Analysis
    analysis_href: str
    report_href: str


@dataclass(frozen=True)
class Entry:
    """A report as the page lists it."""

    view: RunView
    analysis: str
    href: str
    folder: str
    first: bool = True
    """Whether the page shows it unfolded: the newest on its GPU, one without a GPU, or an audited one."""


# Measured runs first, published ones last, an audited one before the others.
_ORDER = ("measured", "cpu", "published")


def render_index(sources: Sequence[Source]) -> bytes:
    """The landing page; within their kind reports keep the order given, an audited one before the others."""
    return render_landing(sources)["index.html"]


def render_landing(sources: Sequence[Source]) -> dict[str, bytes]:
    """The landing page, and beside it the history of each cell where runs were compared with earlier ones."""
    entries = [
        Entry(RunView(s.analysis), s.analysis_href, s.report_href, posixpath.join(posixpath.dirname(s.report_href), ""))
        for s in sources
    ]
    entries.sort(key=lambda entry: (_ORDER.index(entry.view.kind), entry.view.a.audit is None))
    views = newest_by_gpu([entry.view for entry in entries if entry.view.kind == "measured"])
    newest = [entry for view in views for entry in entries if entry.view is view]
    shown = {"measured": lambda one: one in newest, "cpu": lambda _: True, "published": lambda one: one.view.a.audit}
    context = {
        "entries": [replace(entry, first=bool(shown[entry.view.kind](entry))) for entry in entries],
        "newest": newest,
        "leaderboard": leaderboard(views),
        "figures": figures,
        "histories": histories([entry.view for entry in entries]),
        "commands": "\n".join(_commands(entries)),
        "parts": "html.j2",
    }
    names = ["index.html", "history.html"] if context["histories"] else ["index.html"]
    made = {name: html_environment().get_template(f"{name}.j2").render(**context) for name in names}
    return {name: tidy_html(page).encode("utf-8") for name, page in made.items()}


def newest_by_gpu(views: Sequence[RunView]) -> list[RunView]:
    """Of each model of GPU the ranked run whose name sorts last, since names start with the date; newest first."""
    ranked = sorted((view for view in views if view.leader), key=lambda view: view.a.run.id)
    return sorted({view.gpu: view for view in ranked}.values(), key=lambda view: view.a.run.id, reverse=True)


def _commands(entries: Sequence[Entry]) -> list[str]:
    """One cell of the first report, and the audit."""
    view = entries[0].view
    audited = next((entry for entry in entries if entry.view.a.audit), None)
    cell_of = [(person.name, workload.id) for person in view.people[:1] for workload in view.a.workloads[-1:]]
    found = [check_command(view.a.run, *place) for place in cell_of]
    return found + ([f"bakeoff audit results/published/{audited.view.a.run.id}"] if audited else [])


def leaderboard(views: Sequence[RunView]) -> Table:
    """One row per solution, the fastest of the first run first, and one column per run: the time over that of the run's
    fastest contestant."""
    people = {person.name: person for view in views for person in view.people if person.twin_of is None}
    keys = [f"run_{number}" for number in range(len(views))]
    rows = []
    for name in people:
        row: dict[str, Any] = {"solution": name}
        for key, view in zip(keys, views, strict=True):
            found = view.behind(name, view.leader or "")  # None: the run lacks this solution, which goes last
            value, low, high = (found.value, found.low, found.high) if found else (math.inf, None, None)
            row |= {key: value, f"{key}_low": low, f"{key}_high": high}
            row[f"{key}_partly"] = view.partly(name)
        if any(math.isfinite(row[key]) for key in keys):  # else it is made for none of these GPUs
            rows.append(row)
    rows.sort(key=lambda row: [row[key] for key in keys])
    columns = [
        Column(
            "solution",
            "Solution",
            lambda name: people[name].label,
            head=True,
            row_mark=lambda row: people[row["solution"]].index,
        )
    ]
    columns += [_ratio(key, view) for key, view in zip(keys, views, strict=True)]
    return Table("leaderboard", without_nan(frame(rows).replace(math.inf, None)), columns)


def _ratio(key: str, view: RunView) -> Column:
    value = shared.ratio(key, view.gpu, unit=f.TIMES, interval=True, missing="–")

    def note(row: Row) -> str:
        return " ".join(filter(None, (value.ends(row), row[f"{key}_partly"]))) if row[key] is not None else ""

    def tone(row: Row) -> str:
        return "mute" if row[key] is None else "win" if row["solution"] == view.leader else ""

    return replace(value, note=note, tone=tone)
