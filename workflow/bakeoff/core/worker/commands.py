"""What a worker does when told to: a cell, the same cell on changed values, or a first call that only warms up.

Entry points: `Commands.run`, `.probe` and `.warm`. Every call that is judged is guarded. Outputs go to the shared
memory that the supervisor made; the answers say where they lie and which values they belong to.
"""

import mmap
import threading
import time
from typing import Any

import torch

from bakeoff.core.device.base import NotCapturable
from bakeoff.core.messages import Channel
from bakeoff.core.variants import INPUTS, Values, Variant, draw, rewrite, roll_weights
from bakeoff.core.worker.guarded import Finding, OutputBuffer, check_threads
from bakeoff.core.worker.state import Keeper, OpenCell, WorkerState
from bakeoff.core.worker.timing import RuleBroken, timed_calls
from bakeoff.schema.outcomes import Outcome, Reason

# Honest kernels that add in a changing order differ by less than 1e-3 after rounding to bfloat16; a fresh FP8 rounding
# makes 0.03.
UNSTABLE_L2 = 0.01


class _Stopwatch:
    """Seconds by what they were spent on."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.monotonic()

    def __call__(self, what: str) -> None:
        now = time.monotonic()
        self.seconds[what] = round(self.seconds.get(what, 0.0) + now - self._since, 4)
        self._since = now


class Commands:
    """Obeys the supervisor."""

    def __init__(self, state: WorkerState, memory: mmap.mmap, slot_size: int) -> None:
        """memory: the outputs' slots, slot_size bytes each."""
        self.state, self.memory, self.slot_size = state, memory, slot_size
        self._calls = 0  # guarded calls of this process

    def run(self, command: dict[str, Any], channel: Channel) -> dict[str, Any]:
        """One cell: a guarded call, unless it had one under `robust`, then, where the device repeats, the timed calls.
        Returns the answer to the supervisor."""
        lap = _Stopwatch()
        cell = self.state.open_cell(command)
        lap("inputs")
        outputs: list[dict[str, Any]] = []
        answer: dict[str, Any] = {"outcome": None, "tiers": {}, "outputs": outputs, "spent_s": lap.seconds}
        repeats = command["kind"] == "measure" and self.state.device.repeats
        if command["own"]:
            output = cell.output()
            finding, wall_us = self._guarded_call(cell, cell.digests, output)
            if finding:
                return self._found(finding)
            lap("checks")
            outputs.append(self._put(command["slots"][0], output.bits(), 0, output.poison_bits))
            lap("outputs")
            answer["tiers"] = {"wall_us": [wall_us]} if command["kind"] == "measure" else {}
            finding = self._unstable(cell, output) if repeats else None
            if finding:
                return self._found(finding)
            lap("checks")
        if repeats:
            keeper = Keeper(channel, {"id": command["id"], "token": command["token"]})
            try:
                answer |= timed_calls(self.state.device, cell, command["protocol"], keeper, command["attach"])
            except RuleBroken as broken:
                return self._found(broken.finding)
            except NotCapturable as error:
                return self._found((Outcome.UNSUPPORTED, Reason.NOT_CAPTURABLE, str(error)))
            lap("calls")
            finding = self.state.rules_broken() or self._changed(cell.digests, cell.inputs)
            if finding:
                return self._found(finding)
            lap("checks")
            places = command["slots"][len(outputs) :]
            for slot, (_, kept) in zip(places, sorted(keeper.kept.items()), strict=False):
                outputs.append(self._put(slot, *kept))
            lap("outputs")
        return answer

    def probe(self, command: dict[str, Any]) -> dict[str, Any]:
        """The last cell again, at the same addresses: with every value changed, then with another part of the weights
        rewritten; restores the weights afterwards."""
        cell = self.state.cell
        assert cell is not None, "a probe follows a cell"
        variants = [Variant(**each) for each in command["variants"]]
        outputs: list[dict[str, int]] = []
        drawn = draw(self.state.geometry, cell.case.seq_len, variants, self.state.device.torch_name)
        Values(cell.parts).make(drawn[0], into=cell.parts)
        roll_weights(cell.weights, variants[0].experts, into=cell.weights)
        for number, (each, slot) in enumerate(zip(drawn, command["slots"], strict=True), 1):
            output = cell.output()
            rewrite(cell.weights, each)
            finding, _ = self._guarded_call(cell, self.state.digest.of_all(cell.inputs), output)
            if finding:
                return self._found(finding)
            rewrite(cell.weights, each)
            outputs.append(self._put(slot, output.bits(), number, output.poison_bits))
        roll_weights(cell.weights, -variants[0].experts, into=cell.weights)
        self.state.cell = None  # its activations are no longer the cell's
        return {"outcome": None, "outputs": outputs}

    def warm(self, command: dict[str, Any]) -> dict[str, Any]:
        """Call the participant once on a workload, so that what it compiles is in its cache before anything is
        timed."""
        cell = self.state.open_cell(command)
        with cell.watch():
            cell.call(cell.inputs, cell.output().view())
            self.state.device.synchronize()
        if command["last"]:
            del cell
            self.state.forget()
            self.state.device.trim()
        return {"outcome": None}

    def _guarded_call(self, cell: OpenCell, before: torch.Tensor, output: OutputBuffer) -> tuple[Finding | None, float]:
        """One call with every check around it; returns what was found and the wall time in microseconds. before: the
        inputs' digest."""
        inputs = cell.inputs
        output.poison()
        given, threads = output.view(), set(threading.enumerate())
        self.state.device.synchronize()
        with cell.watch():
            start = time.perf_counter_ns()
            cell.call(inputs, given)
            self.state.device.synchronize()
            wall_us = (time.perf_counter_ns() - start) / 1000
        # On a GPU a library may start its own threads in the process's first call; late work is caught by the outputs'
        # digests there.
        finding = (
            self.state.rules_broken()
            or output.check_tensor(given)
            or output.check_fence()
            or (check_threads(threads) if self._calls or not self.state.device.repeats else None)
            or self._changed(before, inputs)
        )
        self._calls += 1
        return finding, wall_us

    def _unstable(self, cell: OpenCell, first: OutputBuffer) -> Finding | None:
        """The same call again: how far its output is from the first one's."""
        second = cell.output()
        finding, _ = self._guarded_call(cell, cell.digests, second)
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

    def _changed(self, before: torch.Tensor, inputs: list[Any]) -> Finding | None:
        names = [name for name, value in zip(INPUTS, inputs, strict=True) if isinstance(value, torch.Tensor)]
        changed = (self.state.digest.of_all(inputs) != before).tolist()
        hit = [name for name, is_changed in zip(names, changed, strict=True) if is_changed]
        return (
            (Outcome.REJECTED, Reason.MODIFIED_INPUT, f"the call changed its inputs {', '.join(hit)}") if hit else None
        )

    def _found(self, finding: Finding) -> dict[str, Any]:
        self.state.forget()
        outcome, reason, detail = finding
        return {"outcome": outcome, "reason": reason, "detail": detail}

    def _put(self, slot: int, bits: torch.Tensor, variant: int, poison: int) -> dict[str, int]:
        """Copy an output into a slot of the shared memory."""
        place = torch.frombuffer(self.memory, dtype=torch.int16, count=bits.numel(), offset=slot * self.slot_size)
        place.copy_(bits)
        return {"slot": slot, "variant": variant, "poison": poison}
