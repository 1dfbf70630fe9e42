"""The published explanations: each test confirms what it should, contradicts what it should, knows what it cannot tell,
and says so of a solution that is not there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from bakeoff.errors import InputError
from bakeoff.files import PROJECT_ROOT
from bakeoff.profile import section
from bakeoff.runs.published import yardstick
from bakeoff.schema.analysis_outside import ClaimResult
from bakeoff.schema.plan import Plan
from bakeoff.schema.profile import CellProfile, SolutionProfile
from bakeoff.stats.explanations import explanations_of
from support.profile_documents import PLAIN, WORKLOADS, cell, counters, everyone, plan, write_run

V3, V32, TRITON, FLASHINFER = "cutedsl_moe_fp8_v3", "cutedsl_moe_fp8_v3_2", "triton_fused_moe_v2", "flashinfer_moe"
PUBLISHED = PROJECT_ROOT / "results/published/2026-02-26_4way"
LARGE = ("T11948_o128", "T14107_o32")
SPEEDUPS = {
    (name, workload): value * (1 + number * spread)
    for name, value, spread in ((V3, 10, 0.01), (V32, 11, 0.01), (TRITON, 30, 0.2), (FLASHINFER, 30, 0.1))
    for number, workload in enumerate(WORKLOADS)
}


def sizes(made: Plan) -> dict[str, dict[str, int]]:
    return {one.id: {"seq_len": one.seq_len, "local_pairs": one.stats.local_pairs} for one in made.workloads}


def judged(
    folder: Path,
    profiles: list[SolutionProfile],
    speedups: dict[tuple[str, str], float] | None = None,
    solutions: list[str] | None = None,
    published: Path = PUBLISHED,
) -> dict[str, ClaimResult]:
    loaded = section.load(write_run(folder, profiles), plan())
    assert loaded is not None
    names = solutions or [who.name for who in plan().participants]
    return {one.id: one for one in explanations_of(loaded, sizes(plan()), names, speedups or {}, published)}


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
        wild = [scaled(workload, factor) for workload in WORKLOADS]
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


def test_an_explanation_of_a_solution_that_was_renamed_says_that_it_is_not_there(tmp_path: Path) -> None:
    """None of them vanishes, and none is decided without the solution that it names, in a group or alone."""
    whole = judged(tmp_path / "a", everyone(), SPEEDUPS)
    for number, name in enumerate((V3, V32, TRITON, "deepgemm_moe")):
        renamed = [one for one in everyone() if one.solution != name]
        solutions = [who.name for who in plan().participants if who.name != name]
        found = judged(tmp_path / str(number), renamed, SPEEDUPS, [*solutions, f"{name}_renamed"])
        assert list(found) == list(whole)
        lost = [one for one in found.values() if one.needs == f"solution {name} is not in this run"]
        assert lost and all(one.verdict == "NOT TESTABLE" and not one.numbers for one in lost)
        kept = [one for one in found.values() if one not in lost]
        assert kept == [whole[one.id] for one in kept]


def published_with(folder: Path, old: str, new: str) -> Path:
    """The published folder with its explanations changed."""
    folder.mkdir()
    for name in ("claims.yaml", "explanations.yaml"):
        text = (PUBLISHED / name).read_text()
        (folder / name).write_text(text.replace(old, new))
    assert (folder / "explanations.yaml").read_text() != (PUBLISHED / "explanations.yaml").read_text()
    return folder


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("triton.permute_share", "triton.permute_part", "no column permute_part"),
        ("triton.permute_share", "tritan.permute_share", "no solution or group tritan"),
        ("all(share > 0.5)", "share", "`holds` is true or false"),
        ("id: large.why-stages\n    test", "id: large.why-nothing\n    test", "no claim of this id"),
        ('name: "share at {workload}"', "name: share", "2 values of 'share'"),
        ("median(saved)", "mode(saved)", "no function mode"),
        ("over: seq_len >= 10000", "over: seq_len + 10000", "no condition"),
    ],
)
def test_a_test_that_fits_no_profile_is_an_input_error_with_its_id(
    old: str, new: str, found: str, tmp_path: Path
) -> None:
    published = published_with(tmp_path / "published", old, new)
    with pytest.raises(InputError, match=r"explanation [a-z0-9.-]+") as caught:
        judged(tmp_path / "run", everyone(), published=published)
    assert found in caught.value.found


def test_a_divisor_of_zero_is_told_and_no_verdict(tmp_path: Path) -> None:
    """GEMMs that no rule names take no time: their share of the floor is no number."""
    nothing = with_stage(gemm1=0.0, gemm2=0.0)
    one = judged(tmp_path, everyone(**{TRITON: nothing}))["large.why-stable"]
    assert one.verdict == "NOT TESTABLE" and "is 0" in (one.needs or "")


def test_without_large_workloads_their_explanations_ask_for_them(tmp_path: Path) -> None:
    made = plan()
    small = made.model_copy(update={"workloads": [one for one in made.workloads if one.seq_len < 10_000]})
    loaded = section.load(write_run(tmp_path, everyone(), small), small)
    assert loaded is not None
    names = [who.name for who in made.participants]
    found = {one.id: one for one in explanations_of(loaded, sizes(small), names, SPEEDUPS, PUBLISHED)}
    assert found["large.why-stages"].needs == "a run with workloads of seq_len >= 10000"
    assert found["v32.why"].verdict == "CONTRADICTED"


def test_a_report_without_explanations_has_none(tmp_path: Path) -> None:
    assert judged(tmp_path, everyone(), published=PUBLISHED.parent / "2026-02-26_2way") == {}


def test_every_explanation_is_a_claim_of_the_published_report_or_says_where_it_stands(tmp_path: Path) -> None:
    claims = {claim["id"]: claim for claim in yaml.safe_load((PUBLISHED / "claims.yaml").read_text())["claims"]}
    found = judged(tmp_path, everyone())
    for one in found.values():
        assert one.id == "consistency.why" or (one.place, one.text) == (claims[one.id]["place"], claims[one.id]["text"])
        assert one.place in {claim["place"] for claim in claims.values()}
    untested = [
        name for name, claim in claims.items() if "bakeoff profile" in str(claim.get("needs", "")) and name not in found
    ]
    assert untested == [], "claims that ask for a profile, and that no test here answers"


def test_one_published_table_is_the_yardstick(tmp_path: Path) -> None:
    assert yardstick().folder == PUBLISHED
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "meta.yaml").write_text((PUBLISHED / "meta.yaml").read_text())
    with pytest.raises(InputError, match="true in a, b"):
        yardstick(tmp_path)


def test_the_package_names_no_solution_and_no_published_table() -> None:
    names = {path.parent.name for path in (PROJECT_ROOT / "solutions").glob("*/solution.yaml")} - {"_template"}
    names |= {path.name for path in PUBLISHED.parent.iterdir() if path.is_dir()}
    assert len(names) >= 8
    places = [*(PROJECT_ROOT / "workflow").rglob("*"), *(PROJECT_ROOT / "report_templates").rglob("*")]
    texts = {path: path.read_text() for path in places if path.suffix in (".py", ".yaml", ".smk", ".j2", ".json")}
    del texts[
        PROJECT_ROOT / "report_templates/marks.yaml"
    ]  # how solutions look; one that it does not name has a mark too
    found = [
        f"{path.relative_to(PROJECT_ROOT)}: {name}" for path, text in texts.items() for name in names if name in text
    ]
    assert not found, "data about solutions stands beside the claims, in results/published/"
