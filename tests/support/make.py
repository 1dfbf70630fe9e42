"""Constructed runs: run folders with known truth, in the form in which the workflow leaves them.

`Made` describes a run; `write` makes its folder, `analysed` its analysis document (through the real analyser). `python
tests/support/make.py DIR` writes one analysis.json per entry of `RUNS`, for looking at reports.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bakeoff.files import pretty_json
from support.made import FOUR, NARROW, PAIRS, Made
from support.made_documents import build, gate_power, host, plan
from support.made_journals import journals


def write(made: Made, folder: Path) -> Path:
    """Write the run's folder; equal descriptions give equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    documents = {
        "config.json": pretty_json(plan(made)),
        "host.json": pretty_json(host(made)),
        **journals(made),
        **{f"build/{name}/build.json": pretty_json(build(made, name)) for name in made.speed},
    }
    if made.gate_power:
        documents["gate_power.json"] = pretty_json(gate_power(made))
    for name, content in documents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def analysed(made: Made):
    """The analysis document of a constructed run, comparison with the published run included."""
    from bakeoff.stats.verbs import analysis_of

    with tempfile.TemporaryDirectory() as folder:
        return analysis_of(write(made, Path(folder) / made.name))


def _twelve() -> dict[str, tuple[float, float]]:
    return {f"solution_{number:02d}": (8.0 + 2.5 * number, 20.0 - 1.2 * number) for number in range(12)}


# What a report must survive, by name.
RUNS: dict[str, Callable[[], Made]] = {
    "four": lambda: Made(name="four"),
    "with_peer": lambda: Made(name="with_peer", speed={**FOUR, "deepgemm_moe": (24.0, 19.0)}, peers=["deepgemm_moe"]),
    "five_blocks": lambda: Made(name="five_blocks", blocks=5),
    "one_block": lambda: Made(name="one_block", blocks=1),
    "cpu": lambda: Made(name="cpu", backend="cpu", definition=NARROW, blocks=1),
    "faulty": lambda: Made(
        name="faulty",
        blocks=5,
        unsupported=["cutedsl_moe_fp8_v3"],
        outcomes={
            ("flashinfer_moe", 901): ("CRASHED", "signal"),
            ("flashinfer_moe", 14107): ("OUT_OF_MEMORY", "allocation"),
            ("triton_fused_moe_v2", 52): ("INCORRECT_NUMERICAL", "strict_gate"),
            ("triton_fused_moe_v2", 54): ("TIMEOUT", "hang"),
            ("cutedsl_moe_fp8_v3_2", 16): ("NOT_WRITTEN", None),
            ("cutedsl_moe_fp8_v3_2", 80): ("REJECTED", "cached_output"),
        },
        missing_blocks={("triton_fused_moe_v2", 58): [1, 3], ("flashinfer_moe", 59): [0, 1, 2, 4]},
    ),
    "nothing_passed": lambda: Made(
        name="nothing_passed", outcomes={(name, pair[0]): ("CRASHED", "signal") for name in FOUR for pair in PAIRS}
    ),
    "one_solution": lambda: Made(name="one_solution", speed={"flashinfer_moe": FOUR["flashinfer_moe"]}),
    "twelve_solutions": lambda: Made(name="twelve_solutions", speed=_twelve(), blocks=5),
    "one_workload": lambda: Made(name="one_workload", workloads=[(901, 96)]),
    "forty_workloads": lambda: Made(
        name="forty_workloads", workloads=[(4 + 37 * number, 32 * (number % 8)) for number in range(40)], blocks=5
    ),
    "other_definition": lambda: Made(
        name="other_definition", definition="gemm_n4096_k7168", workloads=[(64, 0), (2048, 0), (8192, 0)]
    ),
    "b200_published_protocol": lambda: Made(
        name="b200_published_protocol",
        backend="sm_100a",
        gpu="NVIDIA B200",
        protocols=["fib-0.1.2"],
        dataset="/data/flashinfer-trace",
        blocks=5,
    ),
    "no_noise": lambda: Made(name="no_noise", noise=0.0, outliers=0.0, blocks=5),
}


def named(name: str, **changes) -> Made:
    """One of `RUNS`, with changes."""
    return replace(RUNS[name](), **changes)


if __name__ == "__main__":
    from bakeoff.stats.analyse import document_bytes

    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    for key, run in RUNS.items():
        (target / f"{key}.json").write_bytes(document_bytes(analysed(run())))
