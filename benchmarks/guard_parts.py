"""What each guard around a timed call asks of a GPU: launches, bytes and waits, and what they take.

    PYTHONPATH=workflow python benchmarks/guard_parts.py [--tokens 57]

Counted on tensors without memory at the full width, so that it needs no GPU. From the counts follows a prediction:
LAUNCH_US of the host for each operation that is launched, the bytes at BYTES_PER_US, WAIT_US for each wait; host and
device work side by side between waits. On a host with a GPU each part is measured beside its prediction: host time
of enqueuing it, and device time between two events. Parts that belong to a batch or a cell are given per call,
divided by the calls that share them.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from bakeoff.core.moe.geometry import Geometry
from bakeoff.core.protocols import Calls
from bakeoff.core.variants import Draws, Values, copied, draw, rewrite, roll_weights
from bakeoff.core.worker.guarded import WORDS, Digest, OutputBuffer, changed_fences
from torch.utils._python_dispatch import TorchDispatchMode

FULL = Geometry(7168, 2048)
LAUNCH_US, WAIT_US, BYTES_PER_US = 5.0, 20.0, 4.8e6  # of an H200, whose memory reads or writes 4.8 TB/s
CALLS_OF_A_CELL = 45  # of `robust`, in the mean of the recorded runs; with the warm-up
L2_BYTES = 50 << 20
TYPES = {"hidden_states": torch.uint8, "gemm1_weights": torch.uint8, "gemm2_weights": torch.uint8}


class Counted(TorchDispatchMode):
    """Counts what would run on a device: operations, bytes that they read and write, waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.launches = self.bytes = self.waits = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::")
        given = _on_device((args, kwargs))
        self.waits += bool(given) and name == "_local_scalar_dense"  # a tensor without memory has no answer to it
        found = func(*args, **kwargs)
        made = _on_device(found)
        is_view = any(one.alias_info is not None and not one.alias_info.is_write for one in func._schema.returns)
        if name == "_to_copy" and bool(given) != bool(made):
            self.waits += 1
        elif made and not is_view and not name.startswith("empty"):
            self.launches += 1
            only_written = _on_device(kwargs.get("out")) + (given[:1] if name in ("fill_", "copy_") else [])
            read = [one for one in given if not any(one is other for other in only_written)]
            if "out" in kwargs and any(kwargs["out"] is one for one in args):
                read += only_written  # in place
            self.bytes += sum(one.numel() * one.element_size() for one in (*read, *made))
        return found


def _on_device(value: Any) -> list[torch.Tensor]:
    return [one for one in _tensors(value) if one.device.type != "cpu"]


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    values = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [one for each in values for one in _tensors(each)]


@dataclass(frozen=True)
class Part:
    """calls: how many timed calls share it."""

    name: str
    run: Callable[[], object]
    calls: int = 1


def inputs(tokens: int, device: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Inputs of the full width, activations and weights, of any values."""
    made = {
        name: torch.empty(shape, dtype=TYPES.get(name, torch.float32), device=device)
        for name, shape in FULL.shapes(tokens).items()
    }
    made = {name: one.view(torch.float8_e4m3fn) if name in TYPES else one for name, one in made.items()}
    made["routing_bias"] = made["routing_bias"].bfloat16()
    weights = {name: made.pop(name) for name in list(made) if name.startswith("gemm")}
    return made, weights


def parts(tokens: int, device: str) -> list[Part]:
    """The guards' parts, ready to run on a device; `meta` has no memory."""
    own, weights = inputs(tokens, device)
    draws, batch = Draws.new(1, FULL.local_experts), Calls().batch_calls
    variants = [draws.variant(number) for number in range(batch)]
    drawn, values, into = draw(FULL, tokens, variants, device), Values(own), copied(own)
    second, digest = copied(weights), Digest("cuda" if device == "cuda" else "cpu")
    digest._words = WORDS["cuda"]
    digest._factors = torch.empty(WORDS["cuda"], dtype=torch.int64, device=device)
    outputs = [OutputBuffer(tokens, FULL.hidden, device) for _ in range(batch)]
    flush = torch.empty(2 * L2_BYTES // 4, dtype=torch.int32, device=device)

    def fences() -> None:
        with contextlib.suppress(*([RuntimeError] if device == "meta" else [])):  # when the answer is asked for
            changed_fences(outputs)

    return [
        Part("the L2 cache written over", lambda: flush.add_(1)),
        Part("the output poisoned", outputs[0].poison),
        Part("secret values and weights drawn", lambda: draw(FULL, tokens, variants, device), batch),
        Part("new values", lambda: values.make(drawn[1], into)),
        Part("weights rewritten and back", lambda: [rewrite(weights, drawn[1]) for _ in range(2)]),
        Part("digest of the output", lambda: digest.of(outputs[0].bits())),
        Part("fences", fences, batch),
        Part("a second set of weights", lambda: roll_weights(weights, 3, into=second), CALLS_OF_A_CELL),
        Part(
            "digests of all inputs, three times",
            lambda: [digest.of_all([*own.values(), *weights.values()]) for _ in range(3)],
            CALLS_OF_A_CELL,
        ),
    ]


def measured(part: Part) -> tuple[float, float]:
    """Microseconds of the host until all is enqueued, and of the device, for one run: medians of 20."""
    host, device = [], []
    for _ in range(20):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        torch.cuda._sleep(2_000_000)  # a part that does not wait is enqueued behind it
        start.record()
        begun = time.perf_counter_ns()
        part.run()
        host.append((time.perf_counter_ns() - begun) / 1000)
        end.record()
        torch.cuda.synchronize()
        device.append(start.elapsed_time(end) * 1000)
    return statistics.median(host), statistics.median(device)


def table(tokens: int) -> str:
    """Markdown: a row for each part, per timed call."""
    heads = ["part", "launches", "MB", "waits", "predicted host us", "predicted device us"]
    has_gpu = torch.cuda.is_available()
    heads += ["measured host us", "measured device us"] if has_gpu else []
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    real = {part.name: part for part in parts(tokens, "cuda")} if has_gpu else {}
    totals = [0.0] * (len(heads) - 1)
    for part in parts(tokens, "meta"):
        with Counted() as counted:
            part.run()
        launches, waits = counted.launches, counted.waits
        figures = [launches, counted.bytes / 1e6, waits, launches * LAUNCH_US + waits * WAIT_US]
        figures = [each / part.calls for each in (*figures, counted.bytes / BYTES_PER_US)]
        figures += [each / part.calls for each in measured(real[part.name])] if has_gpu else []
        totals = [total + each for total, each in zip(totals, figures, strict=True)]
        lines.append(f"| {part.name} | {' | '.join(f'{each:.1f}' for each in figures)} |")
    return "\n".join([*lines, f"| all | {' | '.join(f'{each:.1f}' for each in totals)} |"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=57, help="of the workload (default: %(default)s)")
    print(table(parser.parse_args().tokens))


if __name__ == "__main__":
    main()
