"""The process of `bakeoff first-contact` that works on the device: the steps in order, each compared with float64.

    python -m bakeoff.contact.child REQUEST_JSON

Prints one JSON line before a step and one after it, so that a step that hangs or dies is known; what solutions print
goes to standard error.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import types
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bakeoff.build.pack import pack
from bakeoff.build.spec import COMMON, discover
from bakeoff.core.bounds import bounds
from bakeoff.core.loader import load_entry, stage
from bakeoff.core.moe import reference
from bakeoff.core.moe.geometry import Geometry
from bakeoff.core.moe.inputs import make_inputs, make_weights
from bakeoff.schema.base import Part
from bakeoff.traces.store import Case, TraceRoot

LADDER = "ladder"  # module of the solutions' shared files: steps(arch), run_step(step, arch, device)
Measured = tuple[float, float]
"""Relative error, and its bound."""


class Request(Part):
    """What the child is to do."""

    backend: str
    definition: str
    solutions_root: str
    traces_root: str
    scratch: str
    workloads: list[str]
    solutions: list[str]
    """Empty: all."""


def steps(request: Request) -> Iterator[tuple[str, Callable[[], Measured]]]:
    """Name and work of each step: the shared kernels' own, then each solution's layer, workload by workload."""
    root, device = Path(request.solutions_root), "cpu" if request.backend == "cpu" else "cuda"
    if device != "cpu" and (root / COMMON / f"{LADDER}.py").is_file():
        package = types.ModuleType("first_contact_common")
        package.__path__ = [str(root / COMMON)]
        sys.modules[package.__name__] = package
        ladder = importlib.import_module(f"{package.__name__}.{LADDER}")
        for step in ladder.steps(request.backend):
            yield f"GEMM: {step.name}", partial(ladder.run_step, step, request.backend, device)
    layers = _Layers(request, device)
    for spec in discover(root):
        if request.backend in spec.backends and spec.name in (request.solutions or [spec.name]):
            for case in layers.cases:
                yield f"{spec.name}: {case.id}", partial(layers.run, spec, case)


class _Layers:
    """Whole layers of solutions against float64, on equal inputs."""

    def __init__(self, request: Request, device: str) -> None:
        root = TraceRoot(Path(request.traces_root))
        self._definition, self._device, self._scratch = request.definition, device, Path(request.scratch)
        self._geometry = Geometry.of(root.definition(request.definition))
        self.cases = [case for case in root.workloads(request.definition) if case.id in request.workloads]
        self._weights: dict[str, Any] | None = None
        self._expected: dict[str, torch.Tensor] = {}
        self._entries: dict[str, Callable[..., Any]] = {}

    def run(self, spec: Any, case: Case) -> Measured:
        """Relative error over the rows with a local expert; infinite where another row is not zero."""
        if spec.name not in self._entries:
            solution = pack(spec, self._definition)
            self._entries[spec.name] = load_entry(stage(solution, self._scratch), solution)
        if self._weights is None:
            self._weights = make_weights(self._geometry, "realistic", 0, self._device)
        inputs = make_inputs(self._geometry, case, "realistic", 0, self._device, weights=self._weights)
        want = self._expected.setdefault(case.id, layer_in_float64(inputs))
        output = torch.full(want.shape, float("nan"), dtype=torch.bfloat16, device=self._device)
        self._entries[spec.name](*inputs.values(), output)
        active, got = want.any(dim=1), output.double()
        if got[~active].any() or not got.isfinite().all():
            return float("inf"), self._bound(active)
        return float((got - want).norm() / want.norm()), self._bound(active)

    def _bound(self, active: torch.Tensor) -> float:
        """Of all active rows together; a few rows scatter as single ones may."""
        limit = bounds().strict.full["relative_l2" if int(active.sum()) >= 16 else "worst_row_l2"].max
        assert limit is not None
        return limit


def layer_in_float64(inputs: dict[str, Any]) -> torch.Tensor:
    """The layer (T, H) with every product in float64; routing as the reference has it."""
    x = inputs["hidden_states"].double() * inputs["hidden_states_scale"].t().repeat_interleave(reference.BLOCK, 1)
    chosen, weights = reference.choose_experts(
        inputs["routing_logits"], inputs["routing_bias"], float(inputs["routed_scaling_factor"])
    )
    output = torch.zeros(x.shape, dtype=torch.float64, device=x.device)
    for e in range(len(inputs["gemm2_weights"])):
        token, k = (chosen == int(inputs["local_expert_offset"]) + e).nonzero(as_tuple=True)
        if not token.numel():
            continue
        w1, w2 = (
            reference.dequantize(inputs[f"{name}_weights"][e : e + 1], inputs[f"{name}_weights_scale"][e : e + 1])[0]
            for name in ("gemm1", "gemm2")
        )
        up, gate = (x[token] @ w1.double().t()).chunk(2, dim=1)
        result = (torch.nn.functional.silu(gate) * up) @ w2.double().t()
        output.index_add_(0, token, result * weights[token, k].double().unsqueeze(1))
    return output


def main(arguments: list[str]) -> int:
    request = Request.model_validate_json(Path(arguments[0]).read_bytes())
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    torch.set_grad_enabled(False)

    def tell(**what: Any) -> None:
        print(json.dumps(what), file=told, flush=True)

    for name, work in steps(request):
        tell(begins=name)
        try:
            error, bound = work()
            if request.backend != "cpu":
                torch.cuda.synchronize()
        except Exception as problem:  # noqa: BLE001  (foreign code may raise anything)
            tell(raised=f"{type(problem).__name__}: {problem}"[:500])
            return 1
        tell(error=error, bound=bound)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
