"""The trusted child that judges outputs: it makes its own inputs, runs the reference, and compares what workers left in
shared memory.

Started by the supervisor as `python -m bakeoff.core.referee PARENT COMMANDS RESULTS`. What is expected of
a workload is computed once and used for all participants; while nothing waits to be judged it works ahead. No
solution's code ever runs here.
"""

import functools
import mmap
import os
import sys
import time
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bakeoff.core.gates import judge
from bakeoff.core.messages import Channel, tie_to_parent
from bakeoff.core.moe import reference, routing
from bakeoff.core.moe.ambiguity import Ambiguity
from bakeoff.core.moe.emulate import DequantizedWeights, Emulator, Weights
from bakeoff.core.moe.geometry import Geometry
from bakeoff.core.moe.inputs import make_routing
from bakeoff.core.moe.values import make_weights
from bakeoff.core.variants import Drawn, Values, Variant, activations, copied, draw, in_order
from bakeoff.schema.gates import EXACT, Judgement, Rounding
from bakeoff.schema.outcomes import Outcome, Reason
from bakeoff.schema.sample import finite
from bakeoff.traces.dataset import PublicDataset
from bakeoff.traces.store import TraceRoot

# Answers kept: 19 workloads under 2 families and 3 variants; at the full width all of one take 0.43 GB.
KEPT_ANSWERS = 160
# An output that should have changed with its inputs and is this close to the old answer was remembered (honest
# solutions are within 0.06 of their own answer, and answers to different values are about 1.4 apart).
REMEMBERED_L2 = 0.2
# The same for weights: outputs that differ by one or two rewritten parts of them are about 0.4 apart.
STALE_L2 = 0.7


class ChangedWeights:
    """A variant's weights as a change of the workload's own, of which no copy is made: experts under other numbers, and
    products with the rewritten rows computed once more."""

    def __init__(self, own: DequantizedWeights, drawn: Drawn, experts: int) -> None:
        """experts: how many there are."""
        self._own, self._by, self._experts = own, drawn.variant.experts, experts
        self._parts = {name: (rows, 1 - flips.float() / 64) for name, (rows, flips) in drawn.flips.items()}

    def multiply(self, name: str, expert: int, rows: torch.Tensor, out: torch.Tensor) -> None:
        """As `Weights` has it."""
        own = (expert - self._by) % self._experts
        self._own.multiply(name, own, rows, out)
        if name in self._parts:
            part, signs = self._parts[name]
            out[:, part] = rows @ (self._own.matrix(name, own)[part] * signs).t()


class Answer:
    """What a workload's output must be, under one set of values.

    The workload's own come from the definition's reference, and are what is recorded. Secret ones are asked for once,
    and a run of the reference, which dequantizes all experts in each call, would cost more than most cells; the
    emulation without roundings is the same arithmetic on the experts that have tokens.
    """

    def __init__(
        self,
        geometry: Geometry,
        parts: dict[str, Any],
        weights: Weights,
        emulates: bool,
        tensors: dict[str, torch.Tensor] | None = None,
    ) -> None:
        """parts: the inputs without the weights; tensors: the weights, where the reference is to run."""
        factor, offset = float(parts["routed_scaling_factor"]), int(parts["local_expert_offset"])
        routed = routing.route(parts["routing_logits"], parts["routing_bias"], factor, geometry)
        pairs = routing.local_pairs(routed, offset, geometry)
        self.active = routing.active_tokens(pairs, len(routed.ids))
        emulator = Emulator(geometry, parts, weights, pairs)
        self.reference: torch.Tensor = (
            reference.run(*in_order(parts, tensors)) if tensors is not None else emulator.run(EXACT)
        )
        # Inputs are held on to only where some token has more than one admissible routing: on public data.
        self._ambiguous = (
            functools.partial(Ambiguity.of, geometry, parts, routed, weights=weights)
            if bool(routed.ambiguous.any())
            else None
        )
        self._emulator = emulator if emulates else None
        self._emulations: dict[Rounding, torch.Tensor] = {}

    def ambiguous(self, rounding: Rounding | None) -> Ambiguity | None:
        """The tokens that may come out in more than one way, for a solution that rounds so."""
        return self._ambiguous(rounding or EXACT) if self._ambiguous else None

    def emulation(self, rounding: Rounding | None) -> torch.Tensor | None:
        """The output under declared roundings, None where the gates take none; without a rounding, the reference
        itself."""
        if self._emulator is None or rounding is None:
            return self.reference if self._emulator else None
        if rounding not in self._emulations:
            self._emulations[rounding] = self._emulator.run(rounding)
        return self._emulations[rounding]


class Referee:
    """Answers by (workload, family, seed, variant), the least recently used dropped first."""

    def __init__(self, job: dict[str, Any]) -> None:
        torch.set_num_threads(int(job["threads"]))
        torch.set_grad_enabled(False)
        root = TraceRoot(Path(job["traces_root"]))
        self.geometry = Geometry.of(root.definition(job["definition"]))
        self.cases = {case.id: case for case in root.workloads(job["definition"], further=True)}
        self.dataset = None if job["dataset"] == "synthetic" else PublicDataset(Path(job["dataset"]))
        self.device = job["device"]
        # The emulation is part of the strict gate at the narrow width only.
        self.emulates = bool(job["emulates"])
        self.roundings = list({Rounding.model_validate(rounding): None for rounding in job["roundings"]})
        self._answers: OrderedDict[tuple[Any, ...], Answer] = OrderedDict()

    def prepare(self, workload: str, family: str, seed: int) -> None:
        """Compute all that will be asked for about a workload's own values."""
        answer = self.answer(workload, family, seed, Variant(seed))
        for rounding in self.roundings:
            answer.emulation(rounding)

    def answer(self, workload: str, family: str, seed: int, variant: Variant) -> Answer:
        """What is expected; of a workload's own values it is kept, secret ones are asked for once."""
        if variant != Variant(seed):
            return self._made(workload, family, seed, variant)
        key = (workload, family, seed)
        if key not in self._answers:
            self._answers[key] = self._made(workload, family, seed, variant)
            if len(self._answers) > KEPT_ANSWERS:
                self._answers.popitem(last=False)
        self._answers.move_to_end(key)
        return self._answers[key]

    def _made(self, workload: str, family: str, seed: int, variant: Variant) -> Answer:
        own, (tensors, weights) = self._own(workload, family, seed), self._weights(family, seed)
        if variant == Variant(seed):
            return Answer(self.geometry, own, weights, self.emulates, tensors)
        (drawn,) = draw(self.geometry, self.cases[workload].seq_len, [variant], self.device)
        changed = ChangedWeights(weights, drawn, self.geometry.local_experts)
        return Answer(self.geometry, Values(own).make(drawn, copied(own)), changed, self.emulates)

    @functools.lru_cache(maxsize=1)  # noqa: B019 - one referee lives as long as its process
    def _own(self, workload: str, family: str, seed: int) -> dict[str, Any]:
        case, given = self.cases[workload], self._routing(workload)
        return activations(self.geometry, case, family, seed, self.device, given)  # type: ignore[arg-type]

    @functools.cache  # noqa: B019 - one referee lives as long as its process
    def _routing(self, workload: str) -> tuple[torch.Tensor, torch.Tensor]:
        return make_routing(self.geometry, self.cases[workload], self.device, self.dataset)

    @functools.lru_cache(maxsize=3)  # noqa: B019 - one referee lives as long as its process
    def _weights(self, family: str, seed: int) -> tuple[dict[str, torch.Tensor], DequantizedWeights]:
        made = make_weights(self.geometry, family, seed, self.device)  # type: ignore[arg-type]
        # A GPU that holds such a layer's weights has room for them in float32 (5.6 GB at the full width).
        return made, DequantizedWeights(dict(made), keep=True if self.device == "cuda" else None)

    def judge(self, command: dict[str, Any]) -> dict[str, Any]:
        """Judge a cell's outputs: the first is the workload's own and gives the record's figures.

        The others, on secret values, show that the solution computed them; they are held to the strict gate alone. The
        published gate is a rule about the workload's own values: a single row misses it by chance, so that secret
        values would make a cell's outcome a matter of luck.
        """
        workload, family, seed = command["workload"], command["family"], int(command["seed"])
        rounding = Rounding.model_validate(command["rounding"]) if command["rounding"] else None
        result: dict[str, Any] = {"outcome": Outcome.PASSED, "reason": None, "detail": None}
        earlier: list[torch.Tensor] = []  # outputs on other values
        for place in command["outputs"]:
            variant = Variant(**place["variant"])
            answer = self.answer(workload, family, seed, variant)
            output = self._read(command, place, answer.reference.shape)
            judged = self._compare(output, answer, rounding)
            is_own = variant == Variant(seed)
            if is_own and "gates" not in result:
                result |= {
                    "gates": finite(
                        {name: getattr(judged, name).model_dump(mode="json") for name in ("published", "strict")}
                    ),
                    "numerics": finite(judged.numerics.model_dump(mode="json")),
                }
            passed = judged.strict.passed and (judged.published.passed or not is_own)
            if result["outcome"] == Outcome.PASSED and not passed:
                base = None if is_own else self.answer(workload, family, seed, Variant(seed))
                remembered = any(torch.equal(output, other) for other in earlier)
                result |= self._explain(command, place, output, answer, judged, base, remembered)
            earlier.append(output)
        return result

    def _read(self, command: dict[str, Any], place: dict[str, Any], shape: torch.Size) -> torch.Tensor:
        """A private copy of an output: what a worker writes later changes nothing."""
        descriptor = os.open(command["memory"], os.O_RDONLY)
        try:
            memory = mmap.mmap(descriptor, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        finally:
            os.close(descriptor)
        start = int(place["slot"]) * int(command["slot_size"])
        shared = torch.frombuffer(memory, dtype=torch.int16, count=shape.numel(), offset=start)
        return shared.to(self.device, copy=True).view(torch.bfloat16).view(shape)

    def _compare(self, output: torch.Tensor, answer: Answer, rounding: Rounding | None) -> Judgement:
        return judge(
            output,
            answer.reference,
            answer.active,
            ambiguous=answer.ambiguous(rounding),
            emulation=answer.emulation(rounding),
            geometry=self.geometry,
        )

    def _explain(
        self,
        command: dict[str, Any],
        place: dict[str, Any],
        output: torch.Tensor,
        answer: Answer,
        judged: Judgement,
        base: Answer | None,
        remembered: bool,
    ) -> dict[str, Any]:
        """Name the rule that a failing output broke, as far as its values tell."""
        unwritten = int((output.view(torch.int16) == int(place["poison"])).sum())
        if unwritten:
            detail = f"{unwritten} of {output.numel()} elements of output were never written"
            return _failed(Outcome.INCORRECT_NUMERICAL, Reason.UNWRITTEN_OUTPUT, detail)
        if base is not None:
            variant = Variant(**place["variant"])
            if remembered or _distance(output, base.reference) < REMEMBERED_L2:
                told = "after its inputs changed, the output is still that of the earlier values"
                return _failed(Outcome.REJECTED, Reason.CACHED_OUTPUT, told)
            for earlier in (replace(variant, part=0), replace(variant, part=0, experts=0)):
                stale = self.answer(command["workload"], command["family"], int(command["seed"]), earlier)
                if _distance(output, stale.reference) < STALE_L2:
                    told = "after the weights changed, the output is that of the earlier weights"
                    return _failed(Outcome.REJECTED, Reason.STALE_INPUT, told)
        by_strict = judged.published.passed or base is not None
        gate = Reason.STRICT_GATE if by_strict else Reason.PUBLISHED_GATE
        checks = (judged.strict if by_strict else judged.published).checks
        failed = "; ".join(
            f"{name} {f'{check.value:.4g}' if isinstance(check.value, float) else check.value} (bound {check.bound})"
            for name, check in checks.items()
            if not check.passed
        )
        values = "" if base is None else " on changed values"
        return _failed(Outcome.INCORRECT_NUMERICAL, gate, f"failed{values}: {failed}")


def _failed(outcome: Outcome, reason: Reason, detail: str) -> dict[str, Any]:
    return {"outcome": outcome, "reason": reason, "detail": detail}


def _distance(output: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative L2 distance; infinite for an all-zero expectation or a non-finite output."""
    difference, size = (output.float() - expected.float()).norm(), expected.float().norm()
    ratio = float(difference / size)
    return ratio if ratio == ratio else float("inf")


def main(arguments: list[str]) -> None:
    parent, commands, results = (int(word) for word in arguments)
    tie_to_parent(parent)
    channel = Channel(commands, results)
    job = channel.receive()
    if job is None:
        return
    referee = Referee(job)
    ahead = list(job["ahead"])
    channel.send({"say": "ready"})
    while True:
        if ahead and not channel.waiting():
            referee.prepare(*ahead.pop(0))
            if not ahead:
                channel.send({"say": "idle"})
            continue
        command = channel.receive()
        if command is None:
            return
        start = time.monotonic()
        answer = referee.judge(command)
        channel.send({"say": "judged", "id": command["id"], "seconds": time.monotonic() - start, **answer})


if __name__ == "__main__":
    main(sys.argv[1:])
