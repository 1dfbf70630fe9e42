"""What outlives a cell in a worker: the device, the participant, and the tensors of the cell at hand.

Entry points: `load`, from a packed solution or the definition's reference to something to call;
`WorkerState.open_cell`, and `OpenCell`, which is called. `Keeper` keeps outputs that the supervisor asks for. Side
effect: a solution's sources are written to the worker's scratch folder and imported from there.
"""

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bakeoff.core.device.base import Device
from bakeoff.core.loader import load_entry, stage
from bakeoff.core.messages import Channel
from bakeoff.core.moe.geometry import Geometry
from bakeoff.core.moe.inputs import make_routing
from bakeoff.core.moe.values import make_weights
from bakeoff.core.variants import Draws, activations, in_order, roll_weights
from bakeoff.core.worker.guarded import Digest, Finding, Functions, Hooks, OutputBuffer
from bakeoff.core.worker.sandbox import AuditHook
from bakeoff.files import read_json
from bakeoff.schema.outcomes import Outcome
from bakeoff.traces.dataset import PublicDataset
from bakeoff.traces.models import Definition, Solution
from bakeoff.traces.store import Case, TraceRoot

Call = Callable[..., None]


def load(job: dict[str, Any], definition: Definition, audit: AuditHook) -> Call:
    """The participant as a function of the ten inputs and the output; whatever its import raises is passed on."""
    if job["solution"] is None:
        return _reference(definition)
    solution = read_json(Path(job["solution"]), Solution)
    package = stage(solution, Path(job["scratch"]) / "package")
    with audit:
        return load_entry(package, solution)


def _reference(definition: Definition) -> Call:
    """The definition's own source, with its returned value written to the output: allocation and copy are part of its
    time."""
    names: dict[str, Any] = {}
    exec(compile(definition.reference, f"{definition.name}: reference", "exec"), names)
    run = names["run"]

    def call(*arguments: Any) -> None:
        *inputs, output = arguments
        output.copy_(run(*inputs))

    return call


@dataclass
class OpenCell:
    """One workload with one set of values, its tensors, and the function under test."""

    state: "WorkerState"
    case: Case
    family: Any
    seed: int
    draws: Draws | None  # of the timed calls' variants
    weights: dict[str, torch.Tensor]
    parts: dict[str, Any]
    digests: torch.Tensor  # of the inputs' tensors as they were made

    @property
    def inputs(self) -> list[Any]:
        return in_order(self.parts, self.weights)

    def output(self) -> OutputBuffer:
        return OutputBuffer(self.case.seq_len, self.state.geometry.hidden, self.state.device.torch_name)

    def watch(self) -> AuditHook:
        """A context for calls: what the participant tries is noted. Entered outside timed regions, for it costs some
        time."""
        return self.state.audit

    def call(self, inputs: list[Any], output: torch.Tensor) -> None:
        self.state.function(*inputs, output)


@dataclass
class Keeper:
    """Keeps the outputs of the timed calls that the supervisor picks after a batch is over."""

    channel: Channel
    identity: dict[str, Any]
    kept: dict[int, tuple[torch.Tensor, int, int]] = dataclasses.field(default_factory=dict)  # bits, variant, poison
    calls: int = 0  # that were offered so far

    def offer(self, calls: int) -> list[tuple[int, int]]:
        """Tell the supervisor that so many calls are over; returns the calls whose outputs it wants, each with its
        place."""
        self.channel.send({"say": "batch", **self.identity, "calls": calls})
        command = self.channel.receive()
        self.calls += calls
        return [(int(call), int(place)) for place, call in command["calls"]] if command else []

    def keep(self, place: int, bits: torch.Tensor, number: int, poison: int) -> None:
        """Keep the output of the call with this number, in place of what is kept there."""
        self.kept[place] = (bits.clone(), number + 1, poison)


class WorkerState:
    """Everything that outlives a cell in a worker."""

    def __init__(self, job: dict[str, Any], device: Device, audit: AuditHook) -> None:
        root = TraceRoot(Path(job["traces_root"]))
        self.device, self.audit, self._job = device, audit, job
        self._definition = root.definition(job["definition"])
        self.geometry = Geometry.of(self._definition)
        self.cases = {case.id: case for case in root.workloads(job["definition"], further=True)}
        self.dataset = None if job["dataset"] == "synthetic" else PublicDataset(Path(job["dataset"]))
        self.digest = Digest(device.torch_name)
        self.functions, self.hooks = Functions(), Hooks()
        # Family and seed, the weights, and their digests as they were made.
        self._weights: tuple[tuple[str, int], dict[str, torch.Tensor], torch.Tensor] | None = None
        self._second: dict[str, torch.Tensor] | None = None
        self.cell: OpenCell | None = None
        self.is_reference = job["solution"] is None

    @functools.cached_property
    def function(self) -> Call:
        """The participant, imported when it is asked for the first time; that may already break a rule."""
        return load(self._job, self._definition, self.audit)

    def rules_broken(self) -> Finding | None:
        """What the participant has tried, replaced or left behind so far."""
        if self.audit.violation:
            return (Outcome.REJECTED, *self.audit.violation)
        return self.functions.check() or self.hooks.check()

    def forget(self) -> None:
        """Drop what a failed cell may have damaged."""
        self._weights = self.cell = self._second = None

    def second_weights(self, experts: int) -> dict[str, torch.Tensor]:
        """A second set of weights at other addresses: the first one's, rolled over the experts; rolled anew for each
        cell."""
        assert self._weights is not None
        first = self._weights[1]
        if self._second is None:
            self._second = {name: torch.empty_like(value) for name, value in first.items()}
        return roll_weights(first, experts, into=self._second)

    def open_cell(self, command: dict[str, Any]) -> OpenCell:
        """Make a cell's tensors; the last cell's are freed first."""
        case, family, seed = self.cases[command["workload"]], command["family"], int(command["seed"])
        self.device.enter(case.id, case.seq_len)
        self.cell = None  # frees its tensors before the next ones are made
        if self._weights is None or self._weights[0] != (family, seed):
            self._weights = None
            made = make_weights(self.geometry, family, seed, self.device.torch_name)
            self._weights = (family, seed), made, self.digest.of_all(list(made.values()))
        routing = make_routing(self.geometry, case, self.device.torch_name, self.dataset)
        parts = activations(self.geometry, case, family, seed, self.device.torch_name, routing)
        draws = Draws(**command["draws"]) if command.get("draws") else None
        _, weights, of_weights = self._weights
        digests = torch.cat([self.digest.of_all(list(parts.values())), of_weights])
        self.cell = OpenCell(self, case, family, seed, draws, weights, parts, digests)
        return self.cell
