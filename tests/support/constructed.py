"""Analyses made for the tests of the page: small functions, each for one thing that a run can look like.

The figures are arithmetic of the indices, not measurements.
"""

from __future__ import annotations

from bakeoff.schema.analysis import Analysis
from bakeoff.schema.analysis_figures import (
    Pair,
    PairVerdict,
    ProfileCurve,
    Ranked,
    Ranking,
    RankStability,
    Summary,
    Winner,
)
from bakeoff.schema.analysis_findings import (
    ConsistencyRow,
    Findings,
    LargeBatchFinding,
    LargeBatchRow,
    PreviousFinding,
    PreviousRow,
    RankingFinding,
    VersionFinding,
)
from bakeoff.schema.analysis_outside import (
    CellComparison,
    ClaimResult,
    ClaimVerdict,
    Comparison,
    ReportAudit,
    RunScatter,
)
from bakeoff.schema.analysis_run import (
    AnalysedCell,
    AnalysedWorkload,
    Build,
    Check,
    Fact,
    RunHeader,
    VerificationSummary,
)
from bakeoff.schema.base import Estimate, Verdict
from bakeoff.schema.gates import Gate, GateCheck, GatePower, MutantPower, Numerics, Rounding
from bakeoff.schema.plan import Participant

LENGTHS = (1, 7, 14, 15, 16, 32, 52, 53, 54, 55, 56, 57, 58, 59, 62, 80, 901, 11948, 14107)
FOUR = (
    ("flashinfer_moe", "flashinfer_moe"),
    ("cutedsl_moe_fp8_v3", "cutedsl_v3"),
    ("cutedsl_moe_fp8_v3_2", "cutedsl_v3.2"),
    ("triton_fused_moe_v2", "triton_v2"),
)


def workloads(number: int, *, routed: bool = True) -> list[AnalysedWorkload]:
    lengths = LENGTHS[:number] if number <= 19 else [*LENGTHS, *(20000 + 7 * k for k in range(number - 19))]
    return [
        AnalysedWorkload(
            id=f"T{t}_o{32 * (k % 8)}",
            seq_len=t,
            offset=32 * (k % 8),
            local_pairs=t + 1 if routed else None,
            active_tokens=(t + 1) // 2 if routed else None,
            active_experts=min(32, t + 1) if routed else None,
        )
        for k, t in enumerate(lengths)
    ]


def people(number: int) -> list[Participant]:
    names = [
        *FOUR,
        *((f"another_long_solution_name_{k}", f"another_long_solution_name_{k}") for k in range(number - 4)),
    ][:number]
    casts = Rounding(gemm1_output=["bfloat16"], intermediate=["fp8_block128"], gemm2_output=["bfloat16"])
    return [
        Participant(
            name=name,
            role="contestant",
            label=label,
            description="What it is, in <one> sentence.",
            digest="ab" * 32,
            rounding=casts,
        )
        for name, label in names
    ]


def gate(passed: bool) -> Gate:
    return Gate(
        passed=passed, checks={"relative_l2": GateCheck(value=0.043 if passed else 0.5, bound=0.06, passed=passed)}
    )


def passed_cell(
    solution: str, workload: str, *, speedup: Estimate | None = None, latency: float | None = None
) -> AnalysedCell:
    numerics = Numerics(
        matched_ratio=0.93,
        matched_ratio_active=0.8665,
        relative_l2=0.0431,
        worst_row_l2=0.062,
        cosine=0.99907,
        calc_diff=9.3e-4,
        scale=0.9998,
        max_abs=9123.5,
        max_rel=4.4,
        nonzero_inactive=0,
        non_finite=0,
        active_rows=450,
        ambiguous_rows=0,
    )
    return AnalysedCell(
        solution=solution,
        workload=workload,
        outcome="PASSED",
        published_gate=gate(True),
        strict_gate=gate(True),
        numerics=numerics,
        latency_us=Estimate(value=latency) if latency else None,
        speedup=speedup,
        blocks=1,
    )


def failed_cell(solution: str, workload: str, outcome: str = "CRASHED", reason: str | None = "signal") -> AnalysedCell:
    return AnalysedCell(
        solution=solution,
        workload=workload,
        outcome=outcome,
        reason=reason,
        detail="Segmentation fault | in <kernel>\n" + "x" * 600,
        hint="run `bakeoff check SOLUTION --workload ID`",
    )


def summaries(
    a_people: list[Participant], loads: list[AnalysedWorkload], cells: list[AnalysedCell], shown: bool
) -> list[Summary]:
    result = []
    for p in a_people:
        own = [c for c in cells if c.solution == p.name]
        values = sorted(c.speedup.value for c in own if c.speedup) if shown else []
        passed = sum(c.outcome == "PASSED" for c in own)
        if not values:
            result.append(Summary(solution=p.name, cells=0, due=len(loads), passed=passed))
            continue
        mean = sum(values) / len(values)
        result.append(
            Summary(
                solution=p.name,
                cells=len(values),
                due=len(loads),
                passed=passed,
                leads=3,
                wins=2,
                ties=1,
                geometric_mean=Estimate(value=mean, low=mean * 0.99, high=mean * 1.01),
                arithmetic_mean=mean,
                median=values[len(values) // 2],
                minimum=values[0],
                minimum_at=loads[0].id,
                maximum=values[-1],
                maximum_at=loads[-1].id,
                std_sample=1.5,
                std_population=1.4,
                cv_sample=0.11,
                cv_population=0.1,
            )
        )
    return result


def header(kind: str = "run", **rest: object) -> RunHeader:
    fields: dict[str, object] = {
        "kind": kind,
        "id": "constructed",
        "title": "Four FP8 mixture-of-experts kernels",
        "backend": "sm_90a",
        "hardware": "NVIDIA H100",
        "definition": "moe_fp8_block_scale_ds_routing_topk8_ng8_kg4_e32_h7168_i2048",
        "dataset": "synthetic",
        "protocol": "robust",
        "families": ["fib", "realistic"],
        "seeds": [0],
        "blocks": 5,
        "timeout_s": 1200,
        "rtol": 0.2,
        "atol": 0.1,
        "required_matched_ratio": 0.85,
        "time_tier": "cupti_span_us",
    }
    return RunHeader.model_validate(fields | rest)


def cpu_run(solutions: int = 4, number: int = 19, failed: bool = False) -> Analysis:
    everyone, loads = people(solutions), workloads(number)
    cells = [passed_cell(p.name, w.id) for p in everyone for w in loads]
    if failed:
        outcomes = (
            ("CRASHED", "signal"),
            ("UNSUPPORTED", "no_backend"),
            ("NOT_RUN", None),
            ("INCORRECT_NUMERICAL", "strict_gate"),
        )
        for place, (outcome, reason) in zip(range(0, len(cells), 5), outcomes, strict=False):
            cells[place] = failed_cell(cells[place].solution, cells[place].workload, outcome, reason)
    good = sum(c.outcome == "PASSED" for c in cells)
    checks = [
        Check(code="cells_complete", status="ok", found=len(cells), of=len(cells)),
        Check(code="cells_passed", status="ok" if good == len(cells) else "failed", found=good, of=len(cells)),
        Check(code="gate_power", status="ok", found=0.985, of=0.95),
    ]
    return Analysis(
        run=header(id="cpu", backend="cpu", hardware="a CPU", blocks=1, time_tier="wall_us", definition="moe_narrow"),
        performance_shown=False,
        validity=checks,
        provenance=[
            Fact(group="software", key="torch", value="2.13.0"),
            Fact(group="host", key="memory", value=24, unit="GiB"),
        ],
        participants=everyone,
        workloads=loads,
        cells=cells,
        verifications=[
            VerificationSummary(
                solution=p.name,
                family=family,
                seed=0,
                due=number,
                passed=number,
                worst_relative_l2=0.051,
                worst_calc_diff=1.1e-3,
                least_matched_active=0.86,
                widest_scale=1.001,
            )
            for p in everyone
            for family in ("fib", "realistic")
        ],
        summaries=summaries(everyone, loads, cells, False),
        gate_power=GatePower(
            definition="moe_narrow",
            families=["fib"],
            counted=19,
            excluded=1,
            killed_published=8,
            killed_strict=19,
            honest_cells=19,
            honest_rejected_published=0,
            honest_rejected_strict=0,
            mutants=[
                MutantPower(
                    name="gate_up_swapped", must_die=True, cells=19, excluded=1, killed_published=8, killed_strict=18
                ),
                MutantPower(
                    name="fp8_output", must_die=False, cells=19, excluded=0, killed_published=0, killed_strict=1
                ),
            ],
        ),
        builds=[Build(solution=p.name, arch="cpu", status="ok", digest="ab" * 32, executed=True) for p in everyone],
    )


def _speedup(k: int, n: int, blocks: int) -> Estimate:
    value = 10.0 + 7 * ((k * 5 + n * 3) % 4) + n / 10
    return Estimate(value=value, low=value * 0.985, high=value * 1.015) if blocks > 1 else Estimate(value=value)


def gpu_run(solutions: int = 4, number: int = 19, blocks: int = 5, lost: int = 0) -> Analysis:
    """A run with performance; the first `lost` cells failed in one of several ways."""
    base = cpu_run(solutions, number)
    everyone, loads = base.participants, base.workloads
    cells = []
    for k, p in enumerate(everyone):
        for n, w in enumerate(loads):
            ratio = _speedup(k, n, blocks)
            made = passed_cell(p.name, w.id, speedup=ratio, latency=20000 / ratio.value)
            cells.append(made.model_copy(update={"blocks": blocks}))
    for place in range(lost):
        outcome = ("CRASHED", "UNSUPPORTED", "NOT_RUN", "TIMEOUT")[place % 4]
        cells[place] = failed_cell(cells[place].solution, cells[place].workload, outcome, None)
    return base.model_copy(
        update={
            "run": header(blocks=blocks),
            "performance_shown": True,
            "cells": cells,
            "summaries": summaries(everyone, loads, cells, True),
            "winners": [winner(w.id, cells, blocks) for w in loads],
            "pairs": pairs(everyone, loads, blocks),
            "profile": curves(everyone),
            "rank_stability": stability(everyone),
            "findings": findings(everyone, loads, blocks),
            "comparisons": [comparison(everyone, loads)],
        }
    )


def winner(workload: str, cells: list[AnalysedCell], blocks: int) -> Winner:
    ranked = sorted((c for c in cells if c.workload == workload and c.speedup), key=lambda c: -c.speedup.value)  # type: ignore[union-attr]
    if not ranked:
        return Winner(workload=workload, leader=None, supported=False, basis="none")
    lead = None
    if len(ranked) > 1:
        value = ranked[0].speedup.value / ranked[1].speedup.value  # type: ignore[union-attr]
        lead = Estimate(value=value, low=value * 0.99, high=value * 1.01) if blocks > 1 else Estimate(value=value)
    supported = blocks > 1 and len(workload) % 2 == 0 and len(ranked) > 1
    tied = [] if supported or blocks == 1 or len(ranked) == 1 else [ranked[1].solution]
    return Winner(
        workload=workload,
        leader=ranked[0].solution,
        runner_up=ranked[1].solution if len(ranked) > 1 else None,
        lead=lead,
        supported=supported,
        verdict=Verdict.FASTER_2_PERCENT if supported else None,
        blocks=blocks,
        fastest=ranked[0].solution,
        tied=tied,
        basis="blocks" if blocks > 1 else "none",
    )


def pairs(everyone: list[Participant], loads: list[AnalysedWorkload], blocks: int) -> list[Pair]:
    result = []
    for i, a in enumerate(everyone):
        for b in everyone[i + 1 :]:
            verdicts = [
                PairVerdict(
                    workload=w.id,
                    verdict=list(Verdict)[(0, 5, 3, 7)[n % 4]] if blocks > 1 else None,
                    undecided=None if blocks > 1 else "few_blocks",
                    ratio=Estimate(value=1.1, low=1.05, high=1.15),
                    blocks=blocks,
                    p_difference=0.001,
                    p_equivalence=1.0,
                    mde=0.021,
                )
                for n, w in enumerate(loads)
            ]
            result.append(
                Pair(
                    a=a.name,
                    b=b.name,
                    ratio=Estimate(value=1.1, low=1.05, high=1.15),
                    workloads=len(loads),
                    a_ahead=3,
                    b_ahead=1,
                    verdicts=verdicts,
                )
            )
    return result


def curves(everyone: list[Participant]) -> list[ProfileCurve]:
    return [
        ProfileCurve(solution=p.name, factors=[1.0, 1.5 + k / 10, 4.0], shares=[0.2, 0.7, 1.0])
        for k, p in enumerate(everyone)
    ]


def ranked(everyone: list[Participant]) -> list[Ranked]:
    return [Ranked(solution=p.name, value=30.0 - k, rank=k + 1) for k, p in enumerate(everyone)]


def stability(everyone: list[Participant]) -> RankStability | None:
    if len(everyone) < 2:
        return None
    orders = [Ranking(aggregate="geometric_mean", baseline="reference", order=ranked(everyone))]
    orders.append(Ranking(aggregate="total_latency", baseline=everyone[0].name, order=ranked(everyone[::-1])))
    return RankStability(
        workloads=19, rankings=orders, orders=2, always_first=None, swaps=[(everyone[0].name, everyone[1].name)]
    )


def findings(everyone: list[Participant], loads: list[AnalysedWorkload], blocks: int) -> Findings:
    step = Estimate(value=1.031, low=1.02, high=1.042) if blocks > 1 else Estimate(value=1.031)
    names = [p.name for p in everyone]
    version = None
    if len(everyone) > 2:
        version = VersionFinding(
            new=names[2],
            old=names[1],
            ratio=step,
            mean_ratio=1.07,
            ahead=16,
            behind=3,
            workloads=19,
            faster=12,
            clearly_faster=10,
            slower=1,
            std_new=1.06,
            std_old=1.28,
        )
    large = LargeBatchFinding(
        small=[w.id for w in loads[:1]],
        large=[w.id for w in loads[-2:]],
        small_below=1000,
        large_from=10000,
        rows=[LargeBatchRow(solution=name, small=30.0, large=6.0, kept=0.2) for name in names],
        leader_small=names[-1],
        leader_large=names[0],
    )
    return Findings(
        ranking=RankingFinding(
            order=ranked(everyone),
            steps=[step] * (len(names) - 1),
            leads=dict.fromkeys(names, 4),
            wins=dict.fromkeys(names, 2),
            undecided=9,
        ),
        large_batch=large,
        version=version,
        consistency=[ConsistencyRow(solution=n, cv_sample=0.1, cv_population=0.09, spread=3.2) for n in names],
        previous=[
            PreviousFinding(
                id="2026-02-26_2way",
                relation="repeat",
                comparable=True,
                reasons=[],
                flipped=[loads[0].id],
                rows=[PreviousRow(solution=names[0], workloads=19, ratio=1.08, least=0.9, greatest=1.55)],
            ),
            PreviousFinding(id="older", relation="previous", comparable=False, reasons=["device"], rows=[], flipped=[]),
        ],
    )


def comparison(everyone: list[Participant], loads: list[AnalysedWorkload]) -> Comparison:
    cells = [
        CellComparison(solution=p.name, workload=w.id, verdict="NOT COMPARABLE", reasons=["device", "inputs"], old=30.0)
        for p in everyone
        for w in loads
    ]
    return Comparison(
        old="2026-02-26_4way",
        new="constructed",
        rule="published",
        not_comparable=["device", "inputs"],
        scatter=[RunScatter(seq_lens="below 900 tokens", sd=0.12, rows=16)],
        counts={"REPRODUCED": 0, "DIFFERS": 0, "NOT COMPARABLE": len(cells)},
        cells=cells,
    )


def claims() -> ReportAudit:
    return ReportAudit(
        report="4-Way Benchmark",
        figures=2,
        repeated=0,
        conclusions=1,
        confirmed=1,
        contradicted=1,
        contradicted_by_others=0,
        not_testable=1,
        claims=[
            ClaimResult(
                id="median",
                place="Summary",
                kind="figure",
                text="Median 31.21x",
                printed="31.21x",
                verdict=ClaimVerdict.CONTRADICTED,
                computed=["31.1500"],
                tolerance="0.005",
            ),
            ClaimResult(
                id="mean",
                place="Summary",
                kind="figure",
                text="Average 30.37x",
                printed="30.37x",
                verdict=ClaimVerdict.CONFIRMED,
                computed=["30.3737"],
                tolerance="0.005",
            ),
            ClaimResult(
                id="why",
                place="Findings",
                kind="conclusion",
                text="scatter dominates | at scale",
                verdict=ClaimVerdict.NOT_TESTABLE,
                needs="a profile",
            ),
        ],
    )


def published_run(solutions: int = 4, number: int = 19) -> Analysis:
    """A published table: values alone."""
    base = gpu_run(solutions, number, blocks=1)
    loads = workloads(number, routed=False)
    cells = [
        AnalysedCell(solution=c.solution, workload=w, outcome="PASSED", speedup=c.speedup)
        for c, w in zip(base.cells, [w.id for w in loads] * solutions, strict=True)
    ]
    return base.model_copy(
        update={
            "run": header(
                "published",
                id="2026-02-26_4way",
                backend="sm_100a",
                hardware="NVIDIA B200",
                date="2026-02-26",
                blocks=1,
                families=[],
                seeds=[],
                protocol=None,
                time_tier=None,
                dataset=None,
            ),
            "workloads": loads,
            "cells": cells,
            "validity": [Check(code="values_recorded", status="warning", items=["dataset revision"])],
            "verifications": [],
            "gate_power": None,
            "builds": [],
            "comparisons": [],
            "audit": claims(),
        }
    )
