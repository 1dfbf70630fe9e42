"""A worker's bench: inputs, the guarded call that is judged, the timed calls, and calls on changed values.

Entry points: `Bench.run` (a cell) and `Bench.probe` (the same cell again on changed values at the same addresses). Outputs go to
the shared memory that the supervisor made; the answers say where they lie and which values they belong to.
"""

from __future__ import annotations

import dataclasses
import mmap
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bakeoff.measure.children import Channel
from bakeoff.measure.device import Device, open_device
from bakeoff.measure.guarded import Digest, Finding, Functions, OutputBuffer, check_threads
from bakeoff.measure.outcomes import Outcome, Reason
from bakeoff.measure.participant import Call
from bakeoff.measure.sandbox import Audit
from bakeoff.measure.timing import RuleBroken, timed_calls
from bakeoff.measure.variants import INPUTS, Variant, activations, in_order, roll_weights
from bakeoff.moe.geometry import Geometry
from bakeoff.moe.inputs import make_weights
from bakeoff.traces.dataset import PublicDataset
from bakeoff.traces.store import Case, TraceRoot

# Honest kernels that add in a changing order differ by less than 1e-3 after rounding to bfloat16; a fresh FP8 rounding makes 0.03.
UNSTABLE_L2 = 0.01


@dataclass
class Cell:
    """One workload with one set of values, its tensors, and the function under test."""

    bench: Bench
    case: Case
    family: Any
    seed: int
    variants: list[Variant]  # the first is the workload's own
    weights: dict[str, torch.Tensor]
    parts: dict[str, Any]

    @property
    def inputs(self) -> list[Any]:
        return in_order(self.parts, self.weights)

    def variant(self, variant: Variant) -> dict[str, Any]:
        """The activations of a variant; its weights are for the caller to roll."""
        bench = self.bench
        return activations(bench.geometry, self.case, self.family, variant, bench.device.torch_name, bench.dataset)

    def output(self) -> OutputBuffer:
        return OutputBuffer(self.case.seq_len, self.bench.geometry.hidden, self.bench.device.torch_name)

    def watch(self) -> Audit:
        """A context for calls: what the participant tries is noted. Entered outside timed regions, for it costs some time."""
        return self.bench.audit

    def call(self, inputs: list[Any], output: torch.Tensor) -> None:
        self.bench.function(*inputs, output)


@dataclass
class Keeper:
    """Keeps the outputs of the timed calls that the supervisor picks after a batch is over."""

    channel: Channel
    identity: dict[str, Any]
    kept: list[tuple[torch.Tensor, int, int]] = dataclasses.field(default_factory=list)  # bits, variant, poison

    def offer(self, variants: list[int]) -> int | None:
        """Tell the supervisor which values each call of a batch had; returns the call whose output it wants, or None."""
        self.channel.send({"say": "batch", **self.identity, "variants": variants})
        command = self.channel.receive()
        return None if command is None or command.get("do") != "keep" else int(command["call"])

    def keep(self, bits: torch.Tensor, variant: int, poison: int) -> None:
        self.kept.append((bits.clone(), variant, poison))


class _Laps:
    """Seconds by what they were spent on."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def __call__(self, what: str) -> None:
        now = time.perf_counter()
        self.seconds[what] = round(self.seconds.get(what, 0.0) + now - self._since, 4)
        self._since = now


class Bench:
    """Everything that outlives a cell in a worker."""

    def __init__(self, job: dict[str, Any], device: Device, memory: mmap.mmap) -> None:
        root = TraceRoot(Path(job["traces_root"]))
        self.device, self.memory, self.slot_size = device, memory, int(job["slot_size"])
        self.geometry = Geometry.of(root.definition(job["definition"]))
        self.cases = {case.id: case for case in root.workloads(job["definition"])}
        self.dataset = None if job["dataset"] == "synthetic" else PublicDataset(Path(job["dataset"]))
        self.digest = Digest(device.torch_name)
        self.functions = Functions()
        self._weights: tuple[tuple[str, int], dict[str, torch.Tensor]] | None = None
        self._calls = 0  # guarded calls of this process
        self._second: dict[str, torch.Tensor] | None = None
        self._cell: Cell | None = None
        self.is_reference = job["solution"] is None

    @classmethod
    def of(cls, job: dict[str, Any], memory: mmap.mmap) -> Bench:
        return cls(job, open_device(job["backend"], int(job["threads"]), job["participant"]), memory)

    def adopt(self, function: Call, audit: Audit) -> None:
        """Take the participant in; importing it may already have broken a rule."""
        self.function, self.audit = function, audit

    def forget(self) -> None:
        """Drop what a failed cell may have damaged."""
        self._weights = self._cell = self._second = None

    def second_weights(self, experts: int) -> dict[str, torch.Tensor]:
        """A second set of weights at other addresses: the first one's, rolled over the experts; rolled anew for each cell."""
        assert self._weights is not None
        first = self._weights[1]
        if self._second is None:
            self._second = {name: torch.empty_like(value) for name, value in first.items()}
        return roll_weights(first, experts, into=self._second)

    def run(self, command: dict[str, Any], channel: Channel) -> dict[str, Any]:
        """One cell: a guarded call, then, where the device repeats, the timed calls. Returns the answer to the supervisor."""
        lap = _Laps()
        cell = self.open_cell(command)
        output = cell.output()
        lap("inputs")
        finding, wall_us = self._guarded_call(cell, self._before, output)
        if finding:
            return self._found(finding)
        lap("checks")
        outputs = [self._put(command["slots"][0], output.bits(), 0, output.poison_bits)]
        lap("outputs")
        answer: dict[str, Any] = {"outcome": None, "tiers": {}, "outputs": outputs, "spent_s": lap.seconds}
        if command["kind"] == "measure":
            answer["tiers"] = {"wall_us": [wall_us]}
        if command["kind"] == "measure" and self.device.repeats:
            finding = self._unstable(cell, output)
            if finding:
                return self._found(finding)
            lap("checks")
            keeper = Keeper(channel, {"id": command["id"], "token": command["token"]})
            try:
                answer |= timed_calls(self.device, cell, command["protocol"], keeper)
            except RuleBroken as broken:
                return self._found(broken.finding)
            lap("calls")
            finding = self._rules_broken() or self._inputs_changed(cell)
            if finding:
                return self._found(finding)
            lap("checks")
            for slot, kept in zip(command["slots"][1:], keeper.kept, strict=False):
                outputs.append(self._put(slot, *kept))
            lap("outputs")
        return answer

    def probe(self, command: dict[str, Any]) -> dict[str, Any]:
        """The last cell again, at the same addresses, with every value changed; restores the weights afterwards."""
        cell = self._cell
        assert cell is not None, "a probe follows a cell"
        variant = Variant(**command["variants"][1])
        for name, value in cell.variant(variant).items():
            if isinstance(value, torch.Tensor):
                cell.parts[name].copy_(value)
        roll_weights(cell.weights, variant.experts, into=cell.weights)
        output = cell.output()
        finding, _ = self._guarded_call(cell, self.digest.of_all(cell.inputs), output)
        roll_weights(cell.weights, -variant.experts, into=cell.weights)
        self._cell = None  # its activations are no longer the cell's
        if finding:
            return self._found(finding)
        return {"outcome": None, "outputs": [self._put(command["slots"][0], output.bits(), 1, output.poison_bits)]}

    def warm(self, command: dict[str, Any]) -> dict[str, Any]:
        """Call the participant once on a workload, so that what it compiles is in its cache before anything is timed."""
        cell = self.open_cell(command)
        with cell.watch():
            cell.call(cell.inputs, cell.output().view())
            self.device.synchronize()
        if command["last"]:
            del cell
            self.forget()
            self.device.trim()
        return {"outcome": None}

    def open_cell(self, command: dict[str, Any]) -> Cell:
        """Make a cell's tensors; the last cell's are freed first."""
        case, family, seed = self.cases[command["workload"]], command["family"], int(command["seed"])
        self.device.enter(case.id, case.seq_len)
        self._cell = None  # frees its tensors before the next ones are made
        if self._weights is None or self._weights[0] != (family, seed):
            self._weights = None
            self._weights = ((family, seed), make_weights(self.geometry, family, seed, self.device.torch_name))
        parts = activations(self.geometry, case, family, Variant(seed), self.device.torch_name, self.dataset)
        variants = [Variant(**each) for each in command["variants"]]
        self._cell = Cell(self, case, family, seed, variants, self._weights[1], parts)
        self._before = self.digest.of_all(self._cell.inputs)
        return self._cell

    def _guarded_call(self, cell: Cell, before: torch.Tensor, output: OutputBuffer) -> tuple[Finding | None, float]:
        """One call with every check around it; returns what was found and the wall time in microseconds. before: the inputs' digest."""
        inputs = cell.inputs
        output.poison()
        given, threads = output.view(), set(threading.enumerate())
        self.device.synchronize()
        with cell.watch():
            start = time.perf_counter_ns()
            cell.call(inputs, given)
            self.device.synchronize()
            wall_us = (time.perf_counter_ns() - start) / 1000
        # On a GPU a library may start its own threads in the process's first call; late work is caught by the outputs' digests there.
        finding = (
            self._rules_broken()
            or output.check_tensor(given)
            or output.check_fence()
            or (check_threads(threads) if self._calls or not self.device.repeats else None)
            or self._changed(before, inputs)
        )
        self._calls += 1
        return finding, wall_us

    def _unstable(self, cell: Cell, first: OutputBuffer) -> Finding | None:
        """The same call again: how far its output is from the first one's."""
        second = cell.output()
        finding, _ = self._guarded_call(cell, self._before, second)
        if finding:
            return finding
        one, two = first.view().float(), second.view().float()
        distance = float((one - two).norm() / one.norm().clamp_min(1e-30))
        # An output that is not finite is for the referee to judge, unless only one of the two is not.
        if not distance <= UNSTABLE_L2 and bool(one.isfinite().all() | two.isfinite().all()):
            return (
                Outcome.REJECTED,
                Reason.UNSTABLE_OUTPUT,
                f"two calls on equal inputs differ by {distance:.4f} (relative L2)",
            )
        return None

    def _rules_broken(self) -> Finding | None:
        if self.audit.violation:
            return (Outcome.REJECTED, *self.audit.violation)
        return self.functions.check()

    def _inputs_changed(self, cell: Cell) -> Finding | None:
        return self._changed(self._before, cell.inputs)

    def _changed(self, before: torch.Tensor, inputs: list[Any]) -> Finding | None:
        names = [name for name, value in zip(INPUTS, inputs, strict=True) if isinstance(value, torch.Tensor)]
        changed = (self.digest.of_all(inputs) != before).tolist()
        hit = [name for name, is_changed in zip(names, changed, strict=True) if is_changed]
        return (
            (Outcome.REJECTED, Reason.MODIFIED_INPUT, f"the call changed its inputs {', '.join(hit)}") if hit else None
        )

    def _found(self, finding: Finding) -> dict[str, Any]:
        self.forget()
        outcome, reason, detail = finding
        return {"outcome": outcome, "reason": reason, "detail": detail}

    def _put(self, slot: int, bits: torch.Tensor, variant: int, poison: int) -> dict[str, int]:
        """Copy an output into a slot of the shared memory."""
        place = torch.frombuffer(self.memory, dtype=torch.int16, count=bits.numel(), offset=slot * self.slot_size)
        place.copy_(bits)
        return {"slot": slot, "variant": variant, "poison": poison}
