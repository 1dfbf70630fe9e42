"""Runs beside each other: reading folders of either kind, on the protocol that both have, and what published cells
scatter by.

Entry points: `load`, `compared`. Nothing is written.
"""

from pathlib import Path

from bakeoff.errors import InputError
from bakeoff.planned import no_run
from bakeoff.runs.published import published_folder, yardstick
from bakeoff.schema.analysis_outside import Comparison
from bakeoff.stats.compare import Scatter, between_runs, compare
from bakeoff.stats.published import load_published
from bakeoff.stats.rundata import RunData
from bakeoff.stats.runs import load_run


def load(folder: Path, protocol: str | None = None) -> RunData:
    """A run's folder or a published one; anything else is an InputError. `protocol` picks one of a run's (default: its
    first)."""
    if (folder / "meta.yaml").is_file():
        return load_published(folder)
    if not (folder / "config.json").is_file():
        raise no_run(folder, or_published=True)
    return load_run(folder, protocol)


def compared(old: Path, new: Path, read: RunData | None = None) -> Comparison:
    """Two folders, on a protocol that both have if there is one; `read` is the newer one if it was read before."""
    first, second = load(old), read or load(new)
    protocol = _common_protocol(first, second)
    first = _on(protocol, first, old)
    second = _on(protocol, second, new)
    return compare(first, second, _scatter(first, second))


def _common_protocol(old: RunData, new: RunData) -> str | None:
    """The older run's first protocol if the newer has it too, else the newer's first if the older has it."""
    available = [[side.header.protocol, *side.header.other_protocols] for side in (old, new)]
    for wanted in (old.header.protocol, new.header.protocol):
        if all(wanted in protocols for protocols in available):
            return wanted
    return None


def _on(protocol: str | None, data: RunData, folder: Path) -> RunData:
    return data if protocol in (None, data.header.protocol) else load_run(folder, protocol, data.journals)


def _scatter(*sides: RunData) -> Scatter | None:
    """How much published cells move between runs: from a published side and its repeat, else from the table that has
    one."""
    published = [side for side in sides if side.header.kind == "published"]
    if not published:
        return None
    for side in [*published, load_published(yardstick().folder)]:
        repeats = [other.id for other in side.beside if other.relation == "repeat"]
        if repeats:
            return between_runs(side, load_published(published_folder(repeats[0])))
    raise InputError(
        yardstick().folder / "meta.yaml",
        found="no `repeats`",
        expected="the folder of a repeated measurement",
        hint="a comparison with a published table needs to know how much its cells move between runs",
    )
