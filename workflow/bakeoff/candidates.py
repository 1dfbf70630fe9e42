"""Which solutions a run is of: all of its folders, some by name, or those that a screening selected; and how they are
dealt into shards.

Entry points: `chosen`, `anchors`, `deal`. Nothing is written.
"""

from typing import Literal, TypeVar

from bakeoff import config as configuration
from bakeoff.build.spec import SolutionSpec, discover
from bakeoff.config import Config
from bakeoff.errors import InputError
from bakeoff.files import read_json
from bakeoff.options import chosen as named
from bakeoff.schema.plan import Participant
from bakeoff.schema.selection import Selection
from bakeoff.traces.dataset import PublicDataset
from bakeoff.traces.definitions import check_implemented
from bakeoff.traces.store import Case, TraceRoot

T = TypeVar("T")
FEW = 5  # contestants that are anchors by themselves


def chosen(config: Config) -> tuple[list[SolutionSpec], list[Case]]:
    """The solutions and workloads of a resolved configuration; a name or a data set that is not there is an InputError.
    Imports no torch."""
    if config.dataset != "synthetic":
        PublicDataset(configuration.under_root(config.dataset))
    there = {spec.name: spec for spec in discover(*map(configuration.under_root, config.solution_roots))}
    root = TraceRoot(configuration.under_root(config.traces_root))
    check_implemented(root.definition(config.definition), root.definition_path(config.definition))
    cases = root.workloads(config.definition, further=True)
    specs = _chosen("solutions", config.solutions, there)
    if selection := selection_of(config):
        wanted_ones = [*selection.anchors, *(one.solution for one in selection.selected)]
        names = {spec.name for spec in _chosen("selection", wanted_ones, there)}
        specs = [spec for spec in specs if spec.name in names]
    sets = {"all": [case.id for case in cases if not case.further], "grid": [case.id for case in cases if case.further]}
    wanted = sets[config.workloads] if isinstance(config.workloads, str) else config.workloads
    workloads = _chosen("workloads", wanted, {case.id: case for case in cases})
    _chosen("twins", config.twins, {spec.name: spec for spec in specs})
    _chosen("mix", [*config.mix], {case.id: case for case in workloads})
    _chosen("profile.cells", config.profile.cells, {case.id: case for case in workloads})
    return specs, workloads


def selection_of(config: Config) -> Selection | None:
    """What a screening selected, for a run that confirms it. A run of the screening's own name is an InputError: it
    would go on with the samples that the selection rests on."""
    if config.selection is None:
        return None
    found = read_json(configuration.under_root(config.selection), Selection)
    if found.run == config.run:
        raise InputError(
            "config: run",
            found=f"{config.run}, which is the run that selected",
            expected="another name: what is selected is confirmed on fresh blocks",
            hint="give `--config run=confirmed`, say",
        )
    return found


def require_screened(selection: Selection, participants: list[Participant]) -> None:
    """InputError unless each selected solution is, byte for byte, what was screened."""
    screened = {one.solution: one.digest for one in selection.selected}
    for who in participants:
        if who.name in screened and screened[who.name] != who.digest:
            raise InputError(
                f"config: selection: {who.name}",
                found=f"a packed solution with the digest {str(who.digest)[:12]}",
                expected=f"{screened[who.name][:12]}, which the run {selection.run} screened",
                hint="take back the change, or screen again and select anew",
            )


def anchors(config: Config, participants: list[Participant]) -> list[str]:
    """The solutions that every other one is compared with, and that every shard holds: those that are configured, else
    the contestants, if they are few. A name that does not run, and shards without an anchor, are InputErrors."""
    names = [who.name for who in participants if who.role != "reference"]
    contestants = [who.name for who in participants if who.role == "contestant"]
    found = (contestants if len(contestants) <= FEW else []) if config.anchors == "auto" else config.anchors
    _chosen("anchors", found, dict.fromkeys(names))
    if config.shards > 1 and not found:
        raise InputError(
            "config: shards",
            found=f"{config.shards} shards and no anchor",
            expected="a solution that every shard holds, so that they can be compared",
            hint="name one: `anchors: [NAME]`",
        )
    return found


def deal(participants: list[Participant], held: list[str], shards: int) -> list[Participant]:
    """The participants with the shard of each; the reference and the anchors (`held`) have none, they are in all. A
    twin goes with its original."""
    dealt: dict[str, int | None] = {}
    free = [who.name for who in participants if who.role != "reference" and who.name not in held and not who.twin_of]
    if shards > max(1, len(free)):
        raise InputError(
            "config: shards",
            found=f"{shards} shards for {len(free)} solutions beside the anchors",
            expected="a solution at least in each",
            hint="lower `shards`",
        )
    if shards > 1:
        dealt = {name: place % shards for place, name in enumerate(sorted(free))}
    return [who.model_copy(update={"shard": dealt.get(who.twin_of or who.name)}) for who in participants]


def _chosen(key: str, wanted: Literal["all"] | list[str], available: dict[str, T]) -> list[T]:
    return named(f"config: {key}", None if wanted == "all" else wanted, available)
