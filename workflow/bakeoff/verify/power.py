"""Measures what the gates catch: every mutant on every workload, judged by both gates.

Entry point: `gate_power`. At the full width on a CPU a sample of rows stands for each workload: every row of the output
depends on its own token alone, so that the sampled rows are exactly those of the whole.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch

from bakeoff.core.gates import judge
from bakeoff.core.moe.emulate import Inputs
from bakeoff.core.moe.geometry import Geometry
from bakeoff.core.moe.inputs import WorkloadFacts, make_inputs
from bakeoff.core.moe.routing import Routing, active_tokens, local_pairs
from bakeoff.core.moe.values import Family, Tensors, make_weights
from bakeoff.schema.gates import EXACT, GatePower, Judgement, MutantPower, Rounding
from bakeoff.verify.mutants import MUTANTS, Honest, Mutant, Shared, routed

# The coarsest that a solution declares: mistakes stand out least against it.
ROUNDING = Rounding(
    gemm1_output=("bfloat16", "fp8_block128"), intermediate=("fp8_block128",), gemm2_output=("bfloat16",)
)

HONEST = ""  # the honest solution's name among the mutants


class _Cell(NamedTuple):
    """What became of one mutant (or, without a name, of the honest solution) on one workload; None where it was not
    judged."""

    mutant: str
    workload: str
    family: str
    outcome: Judgement | None


def gate_power(
    geometry: Geometry,
    cases: Sequence[tuple[str, WorkloadFacts]],
    families: Sequence[Family],
    *,
    seed: int = 0,
    rows: int | None = None,
    rounding: Rounding = ROUNDING,
    device: torch.device | str = "cpu",
    progress: Callable[[int, str], None] = lambda done, cell: None,
) -> GatePower:
    """cases: (workload id, case). rows: at most so many rows of each workload, half of them active; None for all.

    progress: called after each (workload, family) with how many are done and the last one's name.
    """
    cells: list[_Cell] = []
    done = 0
    for family in families:
        weights = make_weights(geometry, family, seed, device)
        shared = Shared.of(weights)
        for name, case in cases:
            inputs, routing = _inputs(geometry, case, family, seed, weights, rows, device)
            # Weights too large to keep for all workloads are kept for the few experts of one sample.
            mine = Shared.of(weights, keep=True) if rows else shared
            solution = Honest(geometry, inputs, routing, rounding, mine)
            reference = Honest(geometry, inputs, routing, EXACT, mine).output
            cells += [_Cell(who, name, family, outcome) for who, outcome in _outcomes(solution, reference)]
            done += 1
            progress(done, f"{family} {name}")
    return GatePower(
        definition=geometry.name,
        families=list(families),
        seed=seed,
        rows=rows,
        rounding=rounding,
        **_tabulate(cells),
    )


def summary(found: GatePower) -> str:
    """The kill rates, and who survived, as text."""
    lines = [
        f"{found.killed_strict} of {found.counted} wrong outputs killed by the strict gate, {found.killed_published} "
        f"by the "
        f"published gate; {found.excluded} equal the honest output and are not counted",
        f"honest outputs rejected: {found.honest_rejected_strict} strict, {found.honest_rejected_published} published, "
        f"of {found.honest_cells}",
    ]
    for power in found.mutants:
        judged = power.cells - power.excluded
        note = "" if power.must_die else "  (may live)"
        strict, published = power.killed_strict, power.killed_published
        kills = (
            f"strict {strict:3}/{judged:<3} published {published:3}/{judged:<3}"
            if judged
            else "equals the honest output"
        )
        lines.append(f"  {power.name:28} {kills}{note}")
    lines += ["  survived: {mutant} on {workload}, {family}".format(**s) for s in found.survivors]
    return "\n".join(lines)


def _tabulate(cells: list[_Cell]) -> dict[str, Any]:
    must_die = {mutant.name for mutant in MUTANTS if mutant.must_die}
    honest = [cell.outcome for cell in cells if cell.mutant == HONEST and cell.outcome]
    due = [cell for cell in cells if cell.mutant in must_die]
    counted = [cell.outcome for cell in due if cell.outcome]
    return {
        "mutants": [
            _mutant_power(mutant, [cell for cell in cells if cell.mutant == mutant.name]) for mutant in MUTANTS
        ],
        "counted": len(counted),
        "excluded": len(due) - len(counted),
        "killed_published": sum(not outcome.published.passed for outcome in counted),
        "killed_strict": sum(not outcome.strict.passed for outcome in counted),
        "survivors": [
            {"mutant": cell.mutant, "workload": cell.workload, "family": cell.family}
            for cell in due
            if cell.outcome and cell.outcome.strict.passed
        ],
        "honest_cells": len(honest),
        "honest_rejected_published": sum(not outcome.published.passed for outcome in honest),
        "honest_rejected_strict": sum(not outcome.strict.passed for outcome in honest),
    }


def _mutant_power(mutant: Mutant, cells: list[_Cell]) -> MutantPower:
    judged = [cell.outcome for cell in cells if cell.outcome]
    return MutantPower(
        name=mutant.name,
        must_die=mutant.must_die,
        mistake=mutant.mistake,
        cells=len(cells),
        excluded=len(cells) - len(judged),
        killed_published=sum(not outcome.published.passed for outcome in judged),
        killed_strict=sum(not outcome.strict.passed for outcome in judged),
    )


def _inputs(
    geometry: Geometry,
    case: WorkloadFacts,
    family: Family,
    seed: int,
    weights: Tensors,
    rows: int | None,
    device: torch.device | str,
) -> tuple[Inputs, Routing]:
    inputs = make_inputs(geometry, case, family, seed, device, weights=weights)
    routing = routed(geometry, inputs)
    if rows is None or rows >= case.seq_len:
        return inputs, routing
    tokens = _sample(geometry, routing, case.offset, rows)
    for name in ("routing_logits", "hidden_states"):
        tensor = inputs[name]
        assert isinstance(tensor, torch.Tensor)
        inputs[name] = tensor.view(torch.uint8)[tokens].view(tensor.dtype)
    scale = inputs["hidden_states_scale"]
    assert isinstance(scale, torch.Tensor)
    inputs["hidden_states_scale"] = scale[:, tokens].contiguous()
    return inputs, routed(geometry, inputs)


def _sample(geometry: Geometry, routing: Routing, offset: int, rows: int) -> torch.Tensor:
    """Evenly spaced active and inactive tokens, half and half, and the last token."""
    tokens = len(routing.ids)
    active = active_tokens(local_pairs(routing, offset, geometry), tokens)
    picked = torch.zeros(tokens, dtype=torch.bool, device=active.device)
    for kind, count in ((active, rows // 2), (~active, rows - rows // 2 - 1)):
        of_kind = kind.nonzero().flatten()
        step = max(1, -(-len(of_kind) // max(1, count)))
        picked[of_kind[::step]] = True
    picked[-1] = True
    return picked.nonzero().flatten()


def _outcomes(solution: Honest, reference: torch.Tensor) -> Iterator[tuple[str, Judgement | None]]:
    """What both gates say to the honest output and to each mutant's; None where that is the honest one."""
    yield HONEST, _judge(solution, solution.output, reference)
    for mutant in MUTANTS:
        output = mutant.make(solution)
        same = torch.equal(output.view(torch.int16), solution.output.view(torch.int16))
        yield mutant.name, None if same else _judge(solution, output, reference)


def _judge(solution: Honest, output: torch.Tensor, reference: torch.Tensor) -> Judgement:
    return judge(output, reference, solution.active, geometry=solution.geometry, emulation=solution.output)
