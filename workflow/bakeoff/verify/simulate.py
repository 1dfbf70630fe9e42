"""Measures what correct solutions need of the strict gate's bounds at the full width: `python -m
bakeoff.verify.simulate -o FILE`.

Whole workloads are computed on the CPU, expert by expert (each is drawn when it is needed, so memory stays small), once
in float32 and once with each of the roundings that solutions declare. Recorded in simulation.json; docs/numerics.md
reads it. Not simulated: the order of a kernel's float32 sums, and tensor cores that keep fewer bits than float32 while
they add.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from bakeoff.core.bounds import bounds
from bakeoff.core.gates import Numerics, compare, judge
from bakeoff.core.moe.emulate import DequantizedWeights, Emulator, Inputs, pairs_of
from bakeoff.core.moe.geometry import Geometry
from bakeoff.core.moe.inputs import WorkloadFacts, make_routing
from bakeoff.core.moe.routing import Pairs, active_tokens
from bakeoff.core.moe.values import FAMILIES, Family, make_activations, make_weights
from bakeoff.files import PROJECT_ROOT, model_json, write_atomic
from bakeoff.schema.base import Part
from bakeoff.schema.gates import EXACT, Rounding
from bakeoff.traces.store import TraceRoot

FILE = Path(__file__).with_name("simulation.json")
FULL = Geometry(hidden=7168, intermediate=2048)
# The distinct roundings that the solutions declare, by what they round.
ROUNDINGS = {
    "gemm1_output_bfloat16_fp8": Rounding(
        gemm1_output=("bfloat16", "fp8_block128"), intermediate=("fp8_block128",), gemm2_output=("bfloat16",)
    ),
    "gemm1_output_fp8": Rounding(
        gemm1_output=("fp8_block128",), intermediate=("fp8_block128",), gemm2_output=("bfloat16",)
    ),
    "gemm1_output_bfloat16": Rounding(
        gemm1_output=("bfloat16",), intermediate=("fp8_block128",), gemm2_output=("bfloat16",)
    ),
}
# (workload, families, seeds): a small one that a test derives again, one of middle size, and one with many rows for the
# tails.
PLAN: tuple[tuple[str, Sequence[Family], Sequence[int]], ...] = (
    ("T7_o192", FAMILIES, (0,)),
    ("T901_o96", FAMILIES, (0, 1)),
    ("T14107_o32", FAMILIES, (0,)),
)


@dataclass(frozen=True)
class Rows:
    """The worst single active row by each measure, as if it were the whole output (which at T = 1 it is)."""

    relative_l2: float
    calc_diff: float
    matched_ratio: float
    scale_low: float
    scale_high: float
    rejected: int
    """Rows that the strict gate would reject if each were the whole output."""


@dataclass(frozen=True)
class Observation:
    """One workload under one rounding."""

    workload: str
    family: str
    seed: int
    rounding: str
    strict: bool
    """Whether the strict gate passes it; False would mean that a bound is too tight."""
    numerics: Numerics
    rows: Rows


class Simulation(Part):
    """simulation.json."""

    command: str
    definition: str
    roundings: dict[str, Rounding]
    observations: list[Observation]


def simulate(geometry: Geometry, name: str, case: WorkloadFacts, family: Family, seed: int) -> list[Observation]:
    """All roundings of one workload against float32."""
    outputs, active = forward(geometry, case, family, seed, {"exact": EXACT, **ROUNDINGS})
    reference = outputs.pop("exact")
    found = []
    for rounding, output in outputs.items():
        judgement = judge(output, reference, active, geometry=geometry)
        found.append(
            Observation(
                workload=name,
                family=family,
                seed=seed,
                rounding=rounding,
                strict=judgement.strict.passed,
                numerics=judgement.numerics,
                rows=_rows(output[active], reference[active]),
            )
        )
    return found


def forward(
    geometry: Geometry, case: WorkloadFacts, family: Family, seed: int, roundings: dict[str, Rounding]
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Outputs (T, H) bfloat16 by the roundings' names, and the active rows; one expert in memory at a time."""
    logits, bias = make_routing(geometry, case)
    states, scale = make_activations(geometry, case, family, seed)
    inputs: Inputs = {
        "routing_logits": logits,
        "routing_bias": bias,
        "hidden_states": states,
        "hidden_states_scale": scale,
        "local_expert_offset": case.offset,
        "routed_scaling_factor": case.factor,
    }
    pairs = pairs_of(geometry, inputs)
    totals = {name: torch.zeros(case.seq_len, geometry.hidden) for name in roundings}
    one = replace(geometry, local_experts=1)
    for expert, rows in pairs.spans:
        weights = DequantizedWeights(make_weights(geometry, family, seed, experts=range(expert, expert + 1)), keep=True)
        token, weight = pairs.token[rows], pairs.weight[rows]
        alone = Pairs(token, torch.zeros_like(token), weight)
        emulator = Emulator(one, inputs, weights, alone)
        for name, rounding in roundings.items():
            totals[name].index_add_(0, token, emulator.rows(rounding) * weight.unsqueeze(1))
    return {name: total.to(torch.bfloat16) for name, total in totals.items()}, active_tokens(pairs, case.seq_len)


def _rows(output: torch.Tensor, reference: torch.Tensor) -> Rows:
    sums, b = compare(output, reference, bounds().published), bounds().strict.full
    l2, scale = (sums.dd / sums.yy).sqrt(), sums.xy / sums.yy
    difference = 1 - 2 * sums.xy / (sums.xx + sums.yy)
    matched = 1 - sums.missed / output.shape[1]
    figures = {"relative_l2": l2, "calc_diff": difference, "matched_ratio_active": matched, "scale": scale}
    rejected = torch.zeros_like(l2, dtype=torch.bool)
    for name, values in figures.items():
        low, high = b[name].min, b[name].max
        rejected |= (values < (-torch.inf if low is None else low)) | (values > (torch.inf if high is None else high))
    return Rows(
        relative_l2=float(l2.max()),
        calc_diff=float(difference.max()),
        matched_ratio=float(matched.min()),
        scale_low=float(scale.min()),
        scale_high=float(scale.max()),
        rejected=int(rejected.sum()),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the whole plan and write the file; 1 if the strict gate rejects a correct output."""
    parser = argparse.ArgumentParser(prog="python -m bakeoff.verify.simulate", description=__doc__)
    parser.add_argument(
        "-o", "--output", type=Path, default=FILE, metavar="FILE", help="default: simulation.json beside this module"
    )
    args = parser.parse_args(argv)
    cases = {case.id: case for case in TraceRoot(PROJECT_ROOT / "traces").workloads(FULL.name)}
    observations = []
    for name, families, seeds in PLAN:
        for family in families:
            for seed in seeds:
                start = time.monotonic()
                observations += simulate(FULL, name, cases[name], family, seed)
                print(f"{name} {family} seed {seed}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    result = Simulation(
        command="python -m bakeoff.verify.simulate",
        definition=FULL.name,
        roundings=ROUNDINGS,
        observations=observations,
    )
    write_atomic(args.output, model_json(result))
    return 0 if all(found.strict for found in observations) else 1


if __name__ == "__main__":
    sys.exit(main())
