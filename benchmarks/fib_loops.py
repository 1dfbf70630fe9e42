"""Where do two harnesses that follow one protocol differ? Their timing loops on the same tensors, in turns, in one
process.

    python benchmarks/fib_loops.py measure calls.json        # on a GPU, with flashinfer-bench 0.1.2 installed
    python benchmarks/fib_loops.py compare calls.json

`measure` times two solutions with FlashInfer-Bench's own loop (`do_bench`, called as its evaluator calls it) and with
ours, each also without Python's garbage collector and with the process held to one core, in an order that is its own
mirror image. Every call's time is kept: {solution, seq_len, loop, event_us: 50 microseconds}. `compare` needs no GPU:
for the mean, the median and the tenth percentile of a loop's calls, how far a loop is from itself a second later, and
from the other one.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SOLUTIONS = ("cutedsl_moe_fp8_v3_2", "triton_fused_moe_v2")
TOKENS = (14, 80, 901)
THEIRS, OURS = "flashinfer-bench", "bakeoff"
ORDER = (THEIRS, OURS, "no collector", "one core", "one core", "no collector", OURS, THEIRS, OURS, THEIRS)

Calls = dict[
    tuple[str, int], dict[str, list[list[float]]]
]  # (solution, seq_len) -> loop -> repetitions -> microseconds


def tenth(times: list[float]) -> float:
    return sorted(times)[len(times) // 10]


def grouped(rows: list[dict[str, Any]]) -> Calls:
    found: Calls = {}
    for row in rows:
        found.setdefault((row["solution"], row["seq_len"]), {}).setdefault(row["loop"], []).append(row["event_us"])
    return found


def deviations(calls: Calls, figure: Callable[[list[float]], float]) -> dict[str, float]:
    """Medians over cells: of each harness's first repetition from its second, and of each loop's mean figure from
    THEIRS."""
    pooled = {
        cell: {loop: statistics.mean(map(figure, times)) for loop, times in loops.items()}
        for cell, loops in calls.items()
    }
    own = {
        f"{loop} from itself": [abs(figure(loops[loop][0]) / figure(loops[loop][1]) - 1) for loops in calls.values()]
        for loop in (THEIRS, OURS)
    }
    other = {
        f"{loop} from {THEIRS}": [abs(loops[loop] / loops[THEIRS] - 1) for loops in pooled.values()]
        for loop in dict.fromkeys(ORDER)
        if loop != THEIRS
    }
    return {what: statistics.median(values) for what, values in (own | other).items()}


def table(calls: Calls) -> str:
    """A Markdown table: rows are comparisons, columns the figure that a loop's calls are reduced to."""
    figures = {"mean": statistics.mean, "median": statistics.median, "tenth percentile": tenth}
    found = {name: deviations(calls, figure) for name, figure in figures.items()}
    lines = [f"| deviation | {' | '.join(figures)} |", f"| --- {'| --- ' * len(figures)}|"]
    for what in found["mean"]:
        lines.append(f"| {what} | {' | '.join(f'{100 * found[name][what]:.1f} %' for name in figures)} |")
    return "\n".join(lines)


@contextlib.contextmanager
def collector_off() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(cores)[len(cores) // 2]})
    try:
        with collector_off():
            yield
    finally:
        os.sched_setaffinity(0, cores)


def measure() -> list[dict[str, Any]]:
    """Time all loops on this GPU; needs flashinfer-bench."""
    sys.path.insert(0, str(ROOT / "workflow"))
    import torch
    from bakeoff.build.pack import pack
    from bakeoff.build.spec import read_spec
    from bakeoff.core.moe.geometry import Geometry
    from bakeoff.core.protocols import Fib
    from bakeoff.core.worker.sandbox import AuditHook
    from bakeoff.core.worker.state import OpenCell, WorkerState, load
    from bakeoff.core.worker.timing import _fib_trial
    from bakeoff.traces.models import document
    from flashinfer_bench.bench.timing import _clone_args, do_bench

    definition = Geometry(hidden=7168, intermediate=2048).name
    scratch = Path(tempfile.mkdtemp())
    audit, protocol = AuditHook([Path(tempfile.gettempdir())]), Fib()
    backend = f"sm_{torch.cuda.get_device_capability()[0]}0a"
    job = {"traces_root": str(ROOT / "traces"), "definition": definition, "dataset": "synthetic"}
    bench = WorkerState.of({**job, "solution": "", "backend": backend, "threads": 8, "participant": "loops"})

    def theirs(cell: OpenCell, arguments: list[Any]) -> list[float]:
        def call(inputs: list[Any]) -> None:  # its evaluator allocates the output of such a solution in each call
            cell.call(inputs, torch.empty_like(arguments[-1]))

        calls = {"warmup": protocol.warmup_calls, "rep": protocol.timed_calls, "return_mode": "all"}
        times = do_bench(fn=call, setup=lambda: _clone_args(arguments[:-1]), device="cuda", **calls)
        return [1000 * milliseconds for milliseconds in times]

    def ours(cell: OpenCell, arguments: list[Any]) -> list[float]:
        with cell.watch():
            _fib_trial(bench.device, cell, protocol, arguments)
        return bench.device.harvest()["event_us"]

    around = {"no collector": collector_off, "one core": one_core}
    rows = []
    for name in SOLUTIONS:
        packed = scratch / f"{name}.json"
        packed.write_bytes(document(pack(read_spec(ROOT / "solutions" / name), definition)))
        bench.adopt(load({"solution": str(packed), "scratch": str(scratch / name)}, audit), audit)
        for tokens in TOKENS:
            case = next(case for case in bench.cases.values() if case.seq_len == tokens)
            cell = bench.open_cell({"workload": case.id, "family": "fib", "seed": 0})
            bench.device.trace(False)
            output = torch.empty((tokens, bench.geometry.hidden), dtype=torch.bfloat16, device="cuda")
            arguments = [*cell.inputs, output]
            cell.call(arguments[:-1], output)  # compiles
            for loop in ORDER:
                with around.get(loop, contextlib.nullcontext)():
                    times = (theirs if loop == THEIRS else ours)(cell, arguments)
                rows.append(
                    {"solution": name, "seq_len": tokens, "loop": loop, "event_us": [round(t, 1) for t in times]}
                )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("measure", "compare"))
    parser.add_argument("calls", type=Path, help="file of the calls' times: written by measure, read by compare")
    args = parser.parse_args()
    if args.what == "measure":
        args.calls.write_text("[\n" + ",\n".join(map(json.dumps, measure())) + "\n]\n")
    print(table(grouped(json.loads(args.calls.read_text()))))


if __name__ == "__main__":
    main()
