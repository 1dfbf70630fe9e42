"""Many candidates end to end, through Snakemake: screened in shards, the leading selected, those confirmed on fresh
blocks.

Where there is no GPU, times come from support.fake_device, and the analysis, which shows none of the cpu backend, is
given the plan as one of a GPU's. All else is as a user runs it.
"""

from __future__ import annotations

import csv
import json
import sys

import pytest
from bakeoff.schema.selection import Selection
from support.checkout import Checkout, copy_project
from support.measure_runs import SMALL, fake_device, small_traces, write_solution

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
US = {"anchor": 100.0, "even": 98.0, "best": 60.0, "good": 70.0, "slow": 300.0, "second": 65.0}
WRONG = "def run_with(honest, *arguments):\n    honest(*arguments)\n    arguments[-1].mul_(1.1)\n"
BAD = {"broken": "def run_with(:\n", "wrong": WRONG}
PYTHON = f"""#!{sys.executable}
import runpy, sys
module, verb = sys.argv[2:4]
if verb == "analyse":
    from bakeoff import planned
    read = planned.read_plan
    planned.read_plan = lambda run: read(run).model_copy(update={{"backend": "sm_90a"}})
sys.argv = [module, *sys.argv[3:]]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def confirmed(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout with both runs."""
    place = tmp_path_factory.mktemp("screening")
    checkout = copy_project(place / "checkout")
    for name in (*US, *BAD):
        write_solution(place / "found", name, BAD.get(name))
    python = place / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    us = {"us": {name: {"T1_o32": time} for name, time in {**US, "wrong": 50.0, "reference": 1000.0}.items()}}
    env = {**fake_device(place, **us), "BAKEOFF_PYTHON": str(python)}
    common = [
        *(
            f"solutions_root=[{place / 'found'}]",
            f"traces_root={small_traces(place / 'traces')}",
            f"definition={SMALL}",
        ),
        *("workloads=[T1_o32]", "families=[fib]", "seeds=[2]", "protocols=[robust]", "compile=[]", "backend=cpu"),
        *("anchors=[anchor]", "leading=2"),
    ]
    screening = ["selection.json", "report/report.html"], ["run=screening", "shards=2", "blocks=1"]
    selected = "selection=results/runs/screening/selection.json"
    for words, config in (screening, (["analysis.json"], ["run=confirmed", selected, "blocks=1"])):
        run = config[0].replace("run=", "results/runs/")
        checkout.snakemake(*(f"{run}/{word}" for word in words), config=[*common, *config], env=env)
    return checkout


def read(checkout: Checkout, path: str) -> dict:
    return json.loads((checkout.root / "results/runs" / path).read_text())


def test_the_screening_selects_those_that_lead_and_passed(confirmed: Checkout) -> None:
    found = Selection.model_validate(read(confirmed, "screening/selection.json"))
    assert [one.solution for one in found.selected] == ["best", "second"], "wrong is faster, and wrong"
    assert (found.screened, found.unfit, found.anchors) == (7, 2, ["anchor"])
    plan = read(confirmed, "screening/config.json")
    shards = {who["name"]: who["shard"] for who in plan["participants"]}
    assert shards.pop("reference") is shards.pop("anchor") is None and set(shards.values()) == {0, 1}
    assert plan["blocks"] == 2


def test_each_bad_candidate_costs_itself_and_stands_by_its_cause(confirmed: Checkout) -> None:
    outcomes = {cell["solution"]: cell["outcome"] for cell in read(confirmed, "screening/analysis.json")["cells"]}
    assert outcomes == {**dict.fromkeys(US, "PASSED"), "broken": "COMPILE_ERROR", "wrong": "INCORRECT_NUMERICAL"}
    assert read(confirmed, "screening/build/broken/build.json")["status"] == "failed"
    with (confirmed.root / "results/runs/screening/report/tables/troubles.csv").open() as file:
        rows = {(row["outcome"], row["reason"]): row for row in csv.DictReader(file)}
    assert "broken/attack.py:1: not valid Python" in rows["COMPILE_ERROR", "not_packed"]["detail"]
    assert len(rows) == 2


def test_the_confirmation_is_of_the_selected_on_blocks_of_its_own(confirmed: Checkout) -> None:
    analysis = read(confirmed, "confirmed/analysis.json")
    assert {who["name"] for who in analysis["participants"]} == {"anchor", "best", "second"}
    assert analysis["selection"] == read(confirmed, "screening/selection.json")
    means = {one["solution"]: one["geometric_mean"]["value"] for one in analysis["summaries"]}
    assert means["best"] > means["second"] > means["anchor"]
    assert {cell["outcome"] for cell in analysis["cells"]} == {"PASSED"}
    (folder,) = (confirmed.root / "results/runs/confirmed/samples").iterdir()
    journals = {path.stem: path.read_text().count("\n") for path in folder.glob("*.jsonl")}
    assert journals == dict.fromkeys(("anchor", "best", "second", "reference"), 1)
