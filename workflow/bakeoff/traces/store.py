"""The project's definitions and workloads: a folder in flashinfer-trace layout.

    definitions/<op_type>/<definition>.json
    workloads/<op_type>/<definition>.jsonl      one workload a line; adding a workload is adding a line
    grid/<op_type>/<definition>.jsonl           further ones, which run only where they are asked for; no other reader
                                                of the layout looks here, so none takes their routing for drawn

A workload's identity is its pair (seq_len, local_expert_offset), with its routing where that is not drawn. Beside
FlashInfer-Bench's fields a line may carry the object "bakeoff": the seed of the synthetic routing, and the figures of
that routing; what is missing there is computed when a run is planned.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt

from bakeoff.errors import InputError
from bakeoff.files import parse_json, read_bytes, read_json, validate
from bakeoff.traces.models import Definition, RoutingStats, Trace

__all__ = ["Case", "RoutingStats", "TraceRoot", "WorkloadNote", "case_id"]


# With H = 7168 an element's offset then stays below 2^31, as kernels count them.
MOST_TOKENS = 2**18
TOP_K = 8  # experts that a token chooses, on all ranks


class WorkloadNote(BaseModel):
    """The object "bakeoff" of a workload line; every field may be missing."""

    model_config = ConfigDict(extra="forbid")

    id: str | None = None
    """`T<seq_len>_o<local_expert_offset>`, and `_<routing>` where that is not drawn; checked when it is there."""
    routing: Literal["even", "local8"] | None = None
    """How tokens are spread: evenly over the model's experts, or each over eight local ones; null: as drawn."""
    seed: Annotated[StrictInt, Field(ge=0, le=2**31 - 1)] | None = None
    """Seed of the synthetic routing."""
    local_pairs: Annotated[StrictInt, Field(ge=0)] | None = None
    """See RoutingStats; the three figures stand together or not at all."""
    active_tokens: Annotated[StrictInt, Field(ge=0)] | None = None
    active_experts: Annotated[StrictInt, Field(ge=0)] | None = None

    def stats(self, where: str) -> RoutingStats | None:
        figures = {field.name: getattr(self, field.name) for field in fields(RoutingStats)}
        missing = [name for name, value in figures.items() if value is None]
        if len(missing) == len(figures):
            return None
        if missing:
            raise InputError(
                f"{where}: field bakeoff.{missing[0]}",
                found="nothing",
                expected="all three routing figures, or none",
                hint="add the figure, or delete the others: they are computed when a run is planned",
            )
        return RoutingStats(**figures)


@dataclass(frozen=True)
class Case:
    """One workload of the benchmark."""

    id: str
    seq_len: int
    """T, the number of tokens, at least 1."""
    offset: int
    """First of the rank's consecutive local experts; a multiple of their number."""
    factor: float
    """routed_scaling_factor."""
    uuid: str
    seed: int | None
    """Seed of the synthetic routing; None where the line does not set it."""
    stats: RoutingStats | None
    """Figures of the synthetic routing; None where the line does not set them."""
    trace: Trace
    """The line itself."""
    routing: Literal["even", "local8"] | None = None
    """See WorkloadNote."""
    further: bool = False
    """Whether it runs only where it is asked for: one of the grid."""


def case_id(seq_len: int, offset: int, routing: str | None = None) -> str:
    return f"T{seq_len}_o{offset}" + (f"_{routing}" if routing else "")


class TraceRoot:
    """Reads one folder; nothing is cached, nothing is written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def definition_names(self) -> list[str]:
        return sorted(path.stem for path in self.path.glob("definitions/*/*.json"))

    def definition_path(self, name: str) -> Path:
        """Path of a definition; a name that is not there is an InputError that lists those that are."""
        found = sorted(self.path.glob(f"definitions/*/{name}.json"))
        if len(found) != 1:
            raise InputError(
                self.path / "definitions",
                found=f"{len(found)} files {name}.json",
                expected=f"one; there are: {', '.join(self.definition_names()) or 'none'}",
                hint="correct the definition's name, or the path of the traces folder",
            )
        return found[0]

    def definition(self, name: str) -> Definition:
        path = self.definition_path(name)
        definition = read_json(path, Definition)
        if definition.name != name or definition.op_type != path.parent.name:
            raise InputError(
                f"{path}: fields name and op_type",
                found=f"{definition.name}, {definition.op_type}",
                expected=f"{name}, {path.parent.name}, as in the file's path",
                hint="rename the file or correct the fields",
            )
        return definition

    def workload_path(self, name: str, folder: str = "workloads") -> Path:
        return self.path / folder / self.definition_path(name).parent.name / f"{name}.jsonl"

    def workloads(self, name: str, further: bool = False) -> list[Case]:
        """The definition's workloads in the order of the file, with `further` also those of the grid; a flaw is an
        InputError naming file, line and field."""
        definition, path, grid = self.definition(name), self.workload_path(name), self.workload_path(name, "grid")
        cases = [(where, read_case(where, trace, definition)) for where, trace in read_traces(path)]
        if not cases:
            raise InputError(path, found="no workload", expected="one workload a line", hint="add a line")
        if further and grid.is_file():
            added = [(where, read_case(where, trace, definition)) for where, trace in read_traces(grid)]
            cases += [(where, replace(case, further=True)) for where, case in added]
        _refuse_duplicates("(seq_len, local_expert_offset) and routing", ((where, case.id) for where, case in cases))
        _refuse_duplicates("workload.uuid", ((where, case.uuid) for where, case in cases))
        return [case for _, case in cases]


def read_traces(path: Path) -> list[tuple[str, Trace]]:
    """The traces of a .jsonl file, each with its place `file:line`."""
    lines = enumerate(read_bytes(path).split(b"\n"), 1)
    return [(f"{path}:{number}", parse_json(text, Trace, f"{path}:{number}")) for number, text in lines if text.strip()]


def read_case(where: str, trace: Trace, definition: Definition) -> Case:
    """Check one workload line against its definition."""
    if trace.definition != definition.name or not trace.is_workload():
        found = f"a trace of {trace.solution}" if not trace.is_workload() else trace.definition
        raise _flaw(where, "definition", found, f"a workload (no solution, no evaluation) of {definition.name}")
    unknown = sorted(trace.workload.inputs.keys() - definition.inputs.keys())
    if unknown:
        raise _flaw(where, f"workload.inputs.{unknown[0]}", "an input", f"one of {', '.join(definition.inputs)}")
    seq_len = _seq_len(where, trace, definition)
    offset = _offset(where, trace, definition)
    note = validate((trace.model_extra or {}).get("bakeoff", {}), WorkloadNote, f"{where}: object bakeoff")
    name = case_id(seq_len, offset, note.routing)
    if note.id not in (None, name):
        raise _flaw(where, "bakeoff.id", str(note.id), name)
    factor = float(_scalar(where, trace, "routed_scaling_factor", (int, float)))
    stats = note.stats(where)
    if stats:
        _check_stats(where, stats, seq_len, definition.length("num_local_experts"))
    return Case(name, seq_len, offset, factor, trace.workload.uuid, note.seed, stats, trace, note.routing)


def _check_stats(where: str, stats: RoutingStats, seq_len: int, local: int) -> None:
    """Refuse figures that no routing of this size can have: floors are computed from them."""
    pairs = stats.local_pairs
    for name, low, high in (
        ("local_pairs", 0, seq_len * min(TOP_K, local)),
        ("active_tokens", -(-pairs // TOP_K), min(seq_len, pairs)),
        ("active_experts", min(pairs, 1), min(local, pairs)),
    ):
        value = getattr(stats, name)
        if not low <= value <= high:
            raise _flaw(where, f"bakeoff.{name}", str(value), f"{low} to {high} with {seq_len} tokens, {pairs} pairs")


def _seq_len(where: str, trace: Trace, definition: Definition) -> int:
    axes, variable = trace.workload.axes, {name for name, axis in definition.axes.items() if axis.value is None}
    if axes.keys() != variable:
        raise _flaw(where, "workload.axes", str(sorted(axes)), f"a value for each of {sorted(variable)}")
    if not 1 <= axes["seq_len"] <= MOST_TOKENS:
        raise _flaw(where, "workload.axes.seq_len", str(axes["seq_len"]), f"1 to {MOST_TOKENS} tokens")
    return axes["seq_len"]


def _offset(where: str, trace: Trace, definition: Definition) -> int:
    offset = int(_scalar(where, trace, "local_expert_offset", (int,)))
    experts, local = definition.length("num_experts"), definition.length("num_local_experts")
    if offset % local or not 0 <= offset <= experts - local:
        expected = f"a multiple of {local} from 0 to {experts - local}"
        raise _flaw(where, "workload.inputs.local_expert_offset.value", str(offset), expected)
    return offset


def _scalar(where: str, trace: Trace, name: str, types: tuple[type, ...]) -> Any:
    given = trace.workload.inputs.get(name)
    value = given and given.value
    if isinstance(value, bool) or not isinstance(value, types):
        found = "nothing" if given is None else str(given.model_dump(exclude_none=True))
        expected = f"type scalar and a value that is {' or '.join(kind.__name__ for kind in types)}"
        raise _flaw(where, f"workload.inputs.{name}", found, expected)
    return value


def _refuse_duplicates(field: str, values: Iterable[tuple[str, str]]) -> None:
    first: dict[str, str] = {}
    for where, value in values:
        if value in first:
            raise InputError(
                f"{where}: {field}",
                found=f"{value}, which {first[value]} already has",
                expected="each workload once",
                hint="delete one of the two lines",
            )
        first[value] = where


def _flaw(where: str, field: str, found: str, expected: str) -> InputError:
    return InputError(f"{where}: field {field}", found, expected, hint="correct the line; its neighbours show the form")
