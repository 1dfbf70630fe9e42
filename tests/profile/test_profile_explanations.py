"""The published explanations: each test confirms what it should, contradicts what it should, and knows what it cannot
tell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from bakeoff.files import PROJECT_ROOT
from bakeoff.profile import section
from bakeoff.profile.explanations import TESTS
from bakeoff.schema import profile as section_model
from bakeoff.schema.profile import CellProfile, SolutionProfile
from support.profile_documents import PLAIN, WORKLOADS, cell, counters, everyone, plan, write_run

V3, V32, TRITON, FLASHINFER = "cutedsl_moe_fp8_v3", "cutedsl_moe_fp8_v3_2", "triton_fused_moe_v2", "flashinfer_moe"
LARGE = ("T11948_o128", "T14107_o32")
SPEEDUPS = {
    (name, workload): value * (1 + number * spread)
    for name, value, spread in ((V3, 10, 0.01), (V32, 11, 0.01), (TRITON, 30, 0.2), (FLASHINFER, 30, 0.1))
    for number, workload in enumerate(WORKLOADS)
}


def judged(
    folder: Path, profiles: list[SolutionProfile], speedups: object = None
) -> dict[str, section_model.Explanation]:
    run = write_run(folder, profiles)
    loaded = section.load(run, plan())
    assert loaded is not None
    result = section.explained(loaded, speedups) if speedups else loaded  # type: ignore[arg-type]
    return {one.id: one for one in result.explanations}


def each(make: Callable[[str], CellProfile]) -> list[CellProfile]:
    return [make(workload) for workload in WORKLOADS]


def with_stage(**times: float) -> list[CellProfile]:
    return each(lambda workload: cell(workload, {**PLAIN, **times}))


def at_large(**times: float) -> list[CellProfile]:
    return each(lambda workload: cell(workload, {**PLAIN, **(times if workload in LARGE else {})}))


def scaled(workload: str, factor: float) -> CellProfile:
    """GEMMs that keep one share of their floor over all workloads, except for `factor` at the large ones."""
    seq_len = int(workload[1:].split("_")[0])
    us = {1: 12.0, 80: 300.0, 901: 400.0}.get(seq_len, seq_len * 0.05)
    return cell(workload, {**PLAIN, "gemm1": us * (factor if workload in LARGE else 1), "gemm2": us / 2})


COUNTED = {"permute": counters(dram_share=0.7), "combine": counters(dram_share=0.65)}
CASES = {
    # id: (profiles that confirm it, profiles that contradict it)
    "large.why-stages": (lambda: everyone(**{TRITON: with_stage(combine=500.0)}), everyone),
    "large.why-traffic": (
        lambda: everyone(**{TRITON: each(lambda workload: cell(workload, counted=COUNTED))}),
        lambda: everyone(
            **{TRITON: each(lambda workload: cell(workload, counted={**COUNTED, "combine": counters(dram_share=0.5)}))}
        ),
    ),
    "large.why-gemm": (
        lambda: everyone(**{TRITON: at_large(gemm1=100.0)}),
        lambda: everyone(**{TRITON: with_stage(gemm1=100.0)}),
    ),
    "large.why-stable": (
        lambda: everyone(
            **{
                V3: each(lambda w: scaled(w, 1)),
                V32: each(lambda w: scaled(w, 1)),
                TRITON: each(lambda w: scaled(w, 40)),
            }
        ),
        lambda: everyone(
            **{
                V3: each(lambda w: scaled(w, 40)),
                V32: each(lambda w: scaled(w, 1)),
                TRITON: each(lambda w: scaled(w, 1)),
            }
        ),
    ),
    "v32.why": (
        lambda: everyone(**{V3: with_stage(activation_quant=20.0)}),
        lambda: everyone(**{V3: with_stage(activation_quant=11.0, gemm1=90.0)}),
    ),
    "previous.bottleneck": (
        lambda: everyone(**{V3: with_stage(gemm1=9000.0), V32: with_stage(gemm1=9000.0)}),
        lambda: everyone(**{V3: with_stage(gemm1=0.1), V32: with_stage(gemm1=9000.0)}),
    ),
    "priorities.routing": (
        lambda: everyone(**{V3: with_stage(routing=200.0), V32: with_stage(routing=200.0)}),
        lambda: everyone(**{V3: with_stage(gemm1=500.0)}),
    ),
    "priorities.launches": (
        lambda: everyone(**{V3: each(lambda w: cell(w, launches=9)), V32: each(lambda w: cell(w, launches=8))}),
        lambda: everyone(**{V3: each(lambda w: cell(w, launches=9))}),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_an_explanation_is_confirmed_or_contradicted_by_the_numbers(name: str, tmp_path: Path) -> None:
    for folder, make, verdict in zip("ab", CASES[name], ("CONFIRMED", "CONTRADICTED"), strict=True):
        one = judged(tmp_path / folder, make())[name]  # type: ignore[operator]
        assert (one.verdict, one.needs) == (verdict, None), one
        assert one.numbers


def test_expanded_tokens_are_counted_from_the_routing(tmp_path: Path) -> None:
    one = judged(tmp_path, everyone())["large.expanded"]
    assert one.verdict == "CONTRADICTED"
    pairs = {
        f"local pairs at {workload.id}": workload.stats.local_pairs
        for workload in plan().workloads
        if workload.id in LARGE
    }
    assert one.numbers == pairs and all(value < 20_000 for value in pairs.values())


def test_a_spread_that_is_hardly_smaller_is_not_steadier(tmp_path: Path) -> None:
    steady = each(lambda workload: scaled(workload, 1))
    for number, (factor, verdict) in enumerate(((1.05, "CONTRADICTED"), (1.5, "CONFIRMED"))):
        wild = each(lambda workload, factor=factor: scaled(workload, factor))
        found = judged(tmp_path / str(number), everyone(**{V3: steady, V32: steady, TRITON: wild}))["large.why-stable"]
        assert found.verdict == verdict, found.numbers


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({"gemm1": 68.0}, "CONTRADICTED"),
        ({"gemm1": 80.0}, "CONFIRMED"),
        ({"gemm1": 80.0, "combine": 40.0}, "CONTRADICTED"),
    ],
)
def test_a_gemm_explains_a_lag_if_it_falls_behind_and_is_half_of_it(
    changed: dict[str, float], verdict: str, tmp_path: Path
) -> None:
    """8 of 90 us are less than a tenth; 20 us are all of the lag; beside 25 us of combine they are less than half of
    it."""
    found = judged(tmp_path, everyone(**{TRITON: at_large(**changed)}))["large.why-gemm"]
    assert found.verdict == verdict, found.numbers


def test_consistency_is_judged_by_this_runs_speedups(tmp_path: Path) -> None:
    assert judged(tmp_path / "a", everyone())["consistency.why"].verdict == "NOT TESTABLE"
    assert judged(tmp_path / "b", everyone(), SPEEDUPS)["consistency.why"].verdict == "CONFIRMED"
    wild = {**SPEEDUPS, (V3, WORKLOADS[0]): 100.0}
    assert judged(tmp_path / "c", everyone(), wild)["consistency.why"].verdict == "CONTRADICTED"


@pytest.mark.parametrize("name", ["large.why-flashinfer", "priorities.gemm", "priorities.tma"])
def test_what_only_a_b200_can_tell_names_the_command_that_would(name: str, tmp_path: Path) -> None:
    one = judged(tmp_path, everyone())[name]
    assert (
        one.verdict == "NOT TESTABLE"
        and "snakemake --cores all --profile profiles/b200" in (one.needs or "")
        and not one.numbers
    )


def test_without_counters_the_traffic_claim_asks_for_them(tmp_path: Path) -> None:
    one = judged(tmp_path, everyone())["large.why-traffic"]
    assert one.verdict == "NOT TESTABLE" and f"--solution {TRITON} --tier ncu" in (one.needs or "")


def test_without_a_solution_its_claims_ask_for_it(tmp_path: Path) -> None:
    found = judged(tmp_path, [one for one in everyone() if one.solution != TRITON])
    assert found["large.why-stages"].verdict == "NOT TESTABLE" and f"--solution {TRITON}" in (
        found["large.why-stages"].needs or ""
    )


def test_every_explanation_is_a_claim_of_the_published_report_or_says_where_it_stands() -> None:
    path = PROJECT_ROOT / "results/published/2026-02-26_4way/claims.yaml"
    claims = {claim["id"]: claim for claim in yaml.safe_load(path.read_text())["claims"]}
    assert len({test.id for test in TESTS}) == len(TESTS)
    for test in TESTS:
        assert test.id == "consistency.why" or (test.place, test.text) == (
            claims[test.id]["place"],
            claims[test.id]["text"],
        )
        assert test.place in {claim["place"] for claim in claims.values()}
    untested = [
        name
        for name, claim in claims.items()
        if "bakeoff profile" in str(claim.get("needs", "")) and name not in {t.id for t in TESTS}
    ]
    assert untested == [], "claims that ask for a profile, and that no test here answers"
