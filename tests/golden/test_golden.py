"""The comparison with frozen figures finds what it is there for; the names of the tests are accounted for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bakeoff.files import PROJECT_ROOT
from golden import compare, counts, extract, names

HERE = Path(__file__).parent
RUN = "2026-11-23_h200"


class Golden:
    """A results folder with one recorded run, rendered, and a golden folder with its frozen figures."""

    def __init__(self, root: Path) -> None:
        self.results, self.golden = root / "results", root / "golden"
        recorded = PROJECT_ROOT / "results/recorded" / RUN
        for kind, file in (("rendered", "analysis.json"), ("recorded", "traces.jsonl")):
            (self.results / kind / RUN).mkdir(parents=True)
            shutil.copy2(recorded / file, self.results / kind / RUN / file)
        power = self.results / "runs/cpu/gate_power.json"
        power.parent.mkdir(parents=True)
        (self.results / "published").mkdir()
        shutil.copy2(PROJECT_ROOT / "workflow/bakeoff/verify/power_narrow.json", power)
        (self.golden / "figures").mkdir(parents=True)
        for run in ("cpu", RUN):
            compare.write(self.golden / f"figures/{run}.csv", extract.tables(self.results, run))
        self.intend([])

    def intend(self, intended: list[dict[str, Any]]) -> None:
        (self.golden / "intended.json").write_text(json.dumps(intended))

    def change(self, change: Callable[[Any], object]) -> None:
        path = self.results / f"rendered/{RUN}/analysis.json"
        analysis = json.loads(path.read_text())
        change(analysis)
        path.write_text(json.dumps(analysis))

    def main(self, *words: str) -> int:
        return compare.main(["--results", str(self.results), "--golden", str(self.golden), *words])


@pytest.fixture
def golden(tmp_path: Path) -> Golden:
    return Golden(tmp_path)


def slower(factor: float) -> Callable[[Any], object]:
    def change(analysis: Any) -> None:
        latency = next(cell for cell in analysis["cells"] if cell["solution"] == "deepgemm_moe")["latency_us"]
        latency["value"] *= factor

    return change


LATENCY = f"{RUN}/cells/T1_o32 deepgemm_moe/latency_us"
CHANGES: dict[str, tuple[Callable[[Any], object], str]] = {
    "a figure": (slower(1 + 1e-8), f"{LATENCY}: was"),
    "a verdict": (
        lambda analysis: analysis["pairs"][0]["verdicts"][0].update(verdict="SAME"),
        f"{RUN}/verdicts/cutedsl_moe_fp8_v3 cutedsl_moe_fp8_v3_2 T1_o32/verdict: was 'SLOWER', is 'SAME'",
    ),
    "a winner": (
        lambda analysis: analysis["winners"][0].update(leader="deepgemm_moe"),
        f"{RUN}/winners/T1_o32/leader: was",
    ),
    "an interval that is gone": (
        lambda analysis: analysis["summaries"][0]["geometric_mean"].update(low=None),
        "/geometric_mean.low: was",
    ),
    "a cell that is gone": (lambda analysis: analysis["cells"].pop(0), "/latency_us: was"),
    "a row that is new": (
        lambda analysis: analysis["validity"].append({"code": "new", "status": "ok", "found": 1, "of": 1}),
        f"{RUN}/validity/new/status: was nothing, is 'ok'",
    ),
}


def test_the_committed_figures_are_the_frozen_ones(golden: Golden, capsys: pytest.CaptureFixture[str]) -> None:
    assert golden.main() == 0
    assert "figures of 2 runs compared, 0 differ" in capsys.readouterr().out
    golden.change(slower(1 + 1e-10))
    assert golden.main() == 0


@pytest.mark.parametrize("name", CHANGES)
def test_a_difference_is_named(golden: Golden, capsys: pytest.CaptureFixture[str], name: str) -> None:
    change, said = CHANGES[name]
    golden.change(change)
    assert golden.main() == 1
    assert said in capsys.readouterr().err


def test_a_mutant_that_lives_is_a_difference(golden: Golden, capsys: pytest.CaptureFixture[str]) -> None:
    path = golden.results / "runs/cpu/gate_power.json"
    power = json.loads(path.read_text())
    power["mutants"][0]["killed_strict"] -= 1
    path.write_text(json.dumps(power))
    assert golden.main() == 1
    assert f"cpu/mutants/{power['mutants'][0]['name']}/killed_strict: was" in capsys.readouterr().err


def test_an_intended_difference_is_shown_and_stays_within_its_bound(
    golden: Golden, capsys: pytest.CaptureFixture[str]
) -> None:
    golden.change(slower(1.01))
    golden.intend([{"figures": f"{RUN}/cells/*/latency_us", "within": 0.02, "reason": "another mean"}])
    assert golden.main() == 0
    assert "1 differences are intended" in (shown := capsys.readouterr().out) and "another mean" in shown
    golden.change(slower(1.05))
    assert golden.main() == 1
    assert LATENCY in capsys.readouterr().err


def test_an_intended_difference_that_is_none_fails(golden: Golden, capsys: pytest.CaptureFixture[str]) -> None:
    golden.intend([{"figures": "*/cells/*/latency_us", "reason": "another mean"}])
    assert golden.main() == 1
    assert "no difference matches '*/cells/*/latency_us'" in capsys.readouterr().err


def test_a_file_of_another_form_or_none_is_not_taken_for_equal(
    golden: Golden, capsys: pytest.CaptureFixture[str]
) -> None:
    golden.change(lambda analysis: analysis["cells"][0].pop("latency_us"))
    assert golden.main() == 2
    assert "KeyError('latency_us')" in capsys.readouterr().err
    shutil.rmtree(golden.results / "rendered")
    assert golden.main() == 2
    assert "make reproduce" in capsys.readouterr().err


def test_a_run_without_frozen_figures_fails_until_it_is_frozen(golden: Golden) -> None:
    before = (golden.golden / "figures/cpu.csv").read_bytes()
    (golden.golden / f"figures/{RUN}.csv").unlink()
    assert golden.main() == 1
    assert golden.main("--freeze") == 0 and golden.main() == 0
    (golden.golden / "figures/cpu.csv").write_bytes(before + b"\nother,figure\nsome,1\n")
    assert golden.main("--freeze") == 0 and golden.main() == 1  # what is frozen stays


def test_no_frozen_test_is_gone_without_a_word() -> None:
    assert names.main([]) == 0


def test_a_test_that_is_gone_needs_a_successor_or_a_reason() -> None:
    before = ["a/test_x.py::test_one", "a/test_x.py::test_two", "b/test_y.py::test_one"]
    now = ["a/test_x.py::test_two", "c/test_z.py::test_one"]
    lost = "b/test_y.py::test_one"
    assert names.gone(before, now) == [lost]  # one of the two has moved
    assert names.wrong(before, now, {})[0].startswith(f"{lost} is gone")
    assert names.wrong(before, now, {lost: "c/test_z.py::test_one"}) == []
    assert names.wrong(before, now, {lost: "what it tested is no longer there"}) == []
    assert "does not exist" in names.wrong(before, now, {lost: "c/test_z.py::test_ten"})[0]
    assert "expected a successor or a reason" in names.wrong(before, now, {lost: "obsolete"})[0]
    assert "is not gone" in names.wrong(before, before, {lost: "what it tested is no longer there"})[0]


def test_counts_are_those_of_the_tree_and_the_log() -> None:
    found = counts.counts()
    assert found["test functions"] == len(names.tests_of(PROJECT_ROOT / "tests"))
    assert found["statements of the package"] > found["classes of the package"] > found["pydantic classes"] > 20
    log = "\n== set-up (0 s so far)\nbusy\n\n== lint (85 s so far)\n\n== done (90 s so far)\n"
    assert counts.seconds(log) == {"set-up": 85, "lint": 5}


def test_stored_documents_and_messages_have_eighty_models_at_most() -> None:
    assert counts.counts()["pydantic classes"] <= 80
