"""What the guards of `robust` cost: whole blocks on this host's GPU, with all guards and in copies without some.

    PYTHONPATH=workflow:tests python benchmarks/guards_cost.py FILE.json [--blocks 3] [--solutions NAME,...]
    PYTHONPATH=workflow:tests python benchmarks/guards_cost.py --recorded results/recorded/*_h200   # no GPU

The variants take turns, block by block; the first block of each compiles and is left out of the summary. Per block:
{variant, block, total_s, lock_s, timed_s, judged_s: of the manifest; calls_s, calls, ms_a_call: of its timed cells;
cell_ms: means of these cells, as a whole and by what they spent it on, `outside` being all that passed outside of the
worker; outcomes}. `--recorded` prints what `robust` cost in recorded runs, for the participants that all of them have,
`--cells` the same by what it was spent on. It also times single calls of the driver that the guards make. Printed as
Markdown, written as JSON. `guard_parts.py` has the operations of each guard.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from bakeoff.planned import read_plan
from bakeoff.runs.table import Journals
from support.patched import Edit, environment, patched

CUDA, TIMING, VARIANTS = (f"workflow/bakeoff/core/{name}.py" for name in ("device/cuda", "worker/timing", "variants"))
SAME_VALUES: tuple[Edit, ...] = (
    (VARIANTS, "        first = number = number", "        return Variant(self.seed)\n        first = number = number"),
    (VARIANTS, 'return self._number("repeats", number // REPEATS) % REPEATS == number % REPEATS', "return False"),
    (TIMING, "        pool.draw(numbers if self._alone else numbers[:1])\n", ""),
    (
        TIMING,
        "        drawn = self._drawn[number]\n",
        "        return in_order(self._places[place], self._weights[0])\n",
    ),
)
NO_DIGEST: tuple[Edit, ...] = ((TIMING, "[digest.of(output.bits())] if self._alone else []", "[]"),)
NO_WAIT: tuple[Edit, ...] = (
    (CUDA, "        self._sync()\n        self._driver.cuCtxResetPersistingL2Cache()\n", ""),
    (CUDA, "kept is None and self._held_lines()", "False"),
    (CUDA, "kept is None and self._window_bytes()", "False"),
    (CUDA, "self._kept = self._kept or strays(records, self._own)", "pass"),
)
WITHOUT: dict[str, tuple[Edit, ...]] = {
    "all guards": (),
    "without new values and rewriting": SAME_VALUES,
    "without the look after the call and the wait": NO_WAIT,
    "without a digest behind each call": NO_DIGEST,
    "without all of these": (*SAME_VALUES, *NO_WAIT, *NO_DIGEST),
}


def bakeoff(root: Path, *words: str) -> None:
    subprocess.run([sys.executable, "-m", "bakeoff", *words], cwd=root, env=environment(root), check=True)


def prepare(root: Path, solutions: list[str], workloads: list[str] | str, blocks: int) -> Path:
    """A planned run in a copy of the checkout."""
    run = root / "results/runs/cost"
    run.mkdir(parents=True)
    settings = {
        **{"run": "cost", "backend": "auto", "definition": "auto", "solutions": solutions, "workloads": workloads},
        **{"blocks": blocks, "families": ["fib"], "protocols": ["robust"], "image": None},
    }
    bakeoff(root, "probe", "-o", str(run / "host.json"))
    planned = ("--settings", json.dumps(settings), "--host", str(run / "host.json"), "-o", str(run / "config.json"))
    bakeoff(root, "plan", *planned)
    backend = json.loads((run / "config.json").read_text())["backend"]
    for name in solutions:
        bakeoff(root, "build", name, "--arch", backend, "-o", str(run / "build" / name), "--keep-going")
    return run


def block_figures(run: Path, variant: str, block: int) -> dict[str, Any]:
    folder = run / f"samples/block-{block:02}"
    manifest = json.loads((folder / "manifest.json").read_text())
    records = [json.loads(line) for path in folder.glob("*.jsonl") for line in path.read_text().splitlines()]
    timed = [record for record in records if record["kind"] == "measure" and record["participant"] != "reference"]
    calls = sum(len(record["tiers"].get("event_us", [])) for record in timed)
    calls_s = sum((record.get("spent_s") or {}).get("calls", 0.0) for record in timed)
    shares = [spent_ms(record["seconds"], record.get("spent_s") or {}) for record in timed]
    cell_ms = {what: round(statistics.mean(each.get(what, 0.0) for each in shares), 1) for what in SHARES}
    return {
        **{"variant": variant, "block": block},
        **{f"{what}_s": manifest["spent"][what] for what in ("total", "lock", "timed", "judged")},
        **{"calls_s": calls_s, "calls": calls, "ms_a_call": 1000 * calls_s / max(1, calls)},
        "cell_ms": cell_ms,
        "outcomes": dict(Counter(record["outcome"] for record in records)),
    }


SHARES = ("cell", "inputs", "checks", "calls", "outputs", "outside")


def spent_ms(seconds: float, spent_s: dict[str, float]) -> dict[str, float]:
    """A cell's milliseconds by what they were spent on (SHARES)."""
    within = {what: 1000 * value for what, value in spent_s.items()}
    return {"cell": 1000 * seconds, **within, "outside": 1000 * seconds - sum(within.values())}


def driver_calls() -> dict[str, float]:
    """Microseconds of single calls of the driver on an idle device, and of the reset behind 2 ms of enqueued work."""
    if not torch.cuda.is_available():
        return {}
    torch.zeros(1, device="cuda")
    driver, held, window = ctypes.CDLL("libcuda.so.1"), ctypes.c_size_t(), (ctypes.c_uint64 * 8)()
    calls = {
        "cuCtxGetLimit": lambda: driver.cuCtxGetLimit(ctypes.byref(held), 6),
        "cuStreamGetAttribute": lambda: driver.cuStreamGetAttribute(ctypes.c_void_p(0), 1, window),
        "cuCtxResetPersistingL2Cache": driver.cuCtxResetPersistingL2Cache,
        "cuCtxSetLimit": lambda: driver.cuCtxSetLimit(6, ctypes.c_size_t(0)),
        "torch.cuda.current_stream": torch.cuda.current_stream,
        "torch.cuda.synchronize": torch.cuda.synchronize,
    }

    def median_us(call: Any, busy: bool = False) -> float:
        times = []
        for _ in range(50):
            if busy:
                torch.cuda._sleep(4_000_000)
            start = time.perf_counter_ns()
            call()
            times.append((time.perf_counter_ns() - start) / 1000)
            torch.cuda.synchronize()
        return round(statistics.median(times), 2)

    behind = {f"{name}, behind enqueued work": median_us(calls[name], busy=True) for name in list(calls)[2:4]}
    status = {"cuStreamGetAttribute's status on the default stream": float(calls["cuStreamGetAttribute"]())}
    return {name: median_us(call) for name, call in calls.items()} | behind | status


def summary(rows: list[dict[str, Any]]) -> str:
    """A Markdown table: medians over the blocks after each variant's first."""
    heads = ("total_s", "lock_s", "calls_s", "ms_a_call")
    titles = (*heads, *(f"{what} ms" for what in SHARES))
    lines = [f"| variant | {' | '.join(titles)} |", f"| --- {'| --- ' * len(titles)}|"]
    for variant in WITHOUT:
        own = [row for row in rows if row["variant"] == variant and row["block"] > 0]
        if own:
            cells = [f"{statistics.median(row[head] for row in own):.2f}" for head in heads]
            cells += [f"{statistics.median(row['cell_ms'][what] for row in own):.1f}" for what in SHARES]
            lines.append(f"| {variant} | {' | '.join(cells)} |")
    return "\n".join(lines)


def recorded(folders: list[Path]) -> str:
    """A Markdown table: a run's mean seconds of a `robust` cell and milliseconds of a call, and a block's sum."""
    rows = {folder.name: Journals.read(folder, read_plan(folder)).records for folder in folders}
    robust = {
        run: [one for one in found if one.protocol == "robust" and one.outcome == "PASSED"]
        for run, found in rows.items()
    }
    names = sorted(set.intersection(*({one.participant for one in found} for found in robust.values())))
    lines = [f"| run | {' | '.join(names)} | a block's sum, s |", f"| --- {'| --- ' * len(names)}| --- |"]
    for run, found in robust.items():
        cells, total = [], 0.0
        for name in names:
            own = [one for one in found if one.participant == name]
            calls = sum(len(one.tiers["event_us"]) for one in own)
            mean_s = statistics.mean(one.seconds for one in own)
            each_ms = 1000 * sum(one.spent_s["calls"] for one in own) / calls
            total += mean_s * len({one.workload for one in own})
            cells.append(f"{mean_s:.3f} s, {each_ms:.2f} ms")
        lines.append(f"| `{run}` | {' | '.join(cells)} | {total:.1f} |")
    return "\n".join(lines)


def cells_of(folders: list[Path]) -> str:
    """A Markdown table: a run's mean milliseconds of a `robust` cell, the reference's apart, by what they were spent
    on."""
    lines = [f"| run | cells | {' | '.join(SHARES)} |", f"| --- | --- {'| --- ' * len(SHARES)}|"]
    for folder in folders:
        records = Journals.read(folder, read_plan(folder)).records
        robust = [one for one in records if one.protocol == "robust" and one.outcome == "PASSED"]
        for title, is_reference in (("solutions", False), ("reference", True)):
            own = [one for one in robust if (one.participant == "reference") is is_reference]
            shares = [spent_ms(one.seconds, one.spent_s) for one in own]
            means = (f"{statistics.mean(each.get(what, 0.0) for each in shares):.1f}" for what in SHARES)
            lines.append(f"| `{folder.name}` | {title} | {' | '.join(means)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, nargs="?", default=Path("guards_cost.json"))
    parser.add_argument("--recorded", type=Path, nargs="+", default=[], metavar="RUN")
    parser.add_argument("--cells", action="store_true", help="with --recorded: what a cell's time was spent on")
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--solutions", default="cutedsl_moe_fp8_v4,cutedsl_moe_fp8_v3_2,triton_grouped_moe")
    parser.add_argument("--workloads", default="all")
    given = parser.parse_args()
    if given.recorded:
        print(cells_of(given.recorded) if given.cells else recorded(given.recorded))
        return
    workloads = given.workloads if given.workloads == "all" else given.workloads.split(",")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        copies = {
            name: patched(Path(folder) / str(number), edits) for number, (name, edits) in enumerate(WITHOUT.items())
        }
        runs = {
            name: prepare(copy, given.solutions.split(","), workloads, given.blocks) for name, copy in copies.items()
        }
        for block in range(given.blocks):
            for name, run in runs.items():
                bakeoff(copies[name], "measure", str(run), "--block", str(block))
                rows.append(block_figures(run, name, block))
                print(json.dumps(rows[-1]), flush=True)

    found = {
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "driver_us": driver_calls(),
        "blocks": rows,
    }
    given.output.write_text(json.dumps(found, indent=1) + "\n")
    print(summary(rows))
    print(json.dumps(found["driver_us"], indent=1))


if __name__ == "__main__":
    main()
