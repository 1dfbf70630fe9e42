"""Outcomes that a rebuild must not change: of hostile solutions, of mutants, and the exit codes of every verb."""

from __future__ import annotations

import csv
import gzip
import re
import shlex
import shutil
from pathlib import Path

import pytest
from bakeoff.cli import VERBS, main
from bakeoff.files import PROJECT_ROOT
from bakeoff.verify.mutants import MUTANTS
from golden.compare import read
from support.hostile import facts
from support.measure_runs import write_solution

HERE = Path(__file__).parent
GPU_TESTS = PROJECT_ROOT / "tests/supervisor/test_measure_hostile_gpu.py"
RECORDED = PROJECT_ROOT / "results/recorded/2026-11-24_h100"


def expectation(path: Path) -> tuple[str, ...]:
    """Device, outcome and reason that a hostile solution names."""
    named = facts(path.read_text())
    return (named["DEVICE"], *named["EXPECTED"])


def uses() -> list[tuple[int, list[str]]]:
    """Exit code and words of every command line, in order."""
    lines = [line for line in (HERE / "exits.txt").read_text().splitlines() if line and not line.startswith("#")]
    return [(int(code), shlex.split(words)[1:]) for code, words in (line.split(maxsplit=1) for line in lines)]


def test_every_hostile_solution_expects_its_frozen_outcome() -> None:
    # That each gets what it expects is tested by running it (test_measure_hostile.py).
    expected = {path.stem: expectation(path) for path in (PROJECT_ROOT / "tests/hostile").glob("*.py")}
    with (HERE / "hostile.csv").open(newline="") as file:
        frozen = {row["solution"]: (row["device"], row["outcome"], row["reason"]) for row in csv.DictReader(file)}
    assert {name: expected.get(name) for name in frozen} == frozen
    assert set(expected) == set(frozen), "add the new one to hostile.csv"


def test_every_attack_of_a_gpu_was_rejected_on_one() -> None:
    # What `pytest -m gpu tests/supervisor/test_measure_hostile_gpu.py` said there; another GPU adds its rows.
    with (HERE / "hostile_gpu.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    attacks = {path.stem for path in (PROJECT_ROOT / "tests/hostile").glob("*.py") if expectation(path)[0] == "gpu"}
    walls = re.findall(r"^def (test_\w+)\((?!run)", GPU_TESTS.read_text(), re.MULTILINE)
    assert {row["test"] for row in rows} == attacks | set(walls)
    assert {row["outcome"] for row in rows} == {"PASSED"}


def test_every_mutant_has_its_frozen_kills() -> None:
    # compare.py compares them with those of the pipeline's run.
    for run in ("cpu", RECORDED.name):
        kills = read(HERE / f"figures/{run}.csv")["mutants"]
        assert {mutant.name: "yes" if mutant.must_die else "no" for mutant in MUTANTS} == {
            name: row["must_die"] for name, row in kills.items()
        }


def test_every_verb_is_used_rightly_and_twice_wrongly() -> None:
    codes = {verb: [code for code, words in uses() if words[:1] == [verb]] for verb in VERBS}
    assert all(found.count(2) >= 2 for found in codes.values()), codes
    # Both want what is not here: a GPU, an image.
    assert [verb for verb, found in codes.items() if 0 not in found] == ["first-contact", "preflight"]


@pytest.mark.slow
def test_every_verb_ends_with_its_frozen_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "results").mkdir()
    for kind in ("recorded", "published"):
        (tmp_path / "results" / kind).symlink_to(PROJECT_ROOT / "results" / kind)
    as_measured(RECORDED, tmp_path / "gpu")
    (tmp_path / "solutions/_template").parent.mkdir()
    (tmp_path / "solutions/_template").symlink_to(PROJECT_ROOT / "solutions/_template")
    write_solution(tmp_path / "solutions", "fails", "def run_with(honest, *arguments):\n    raise ValueError\n")
    write_solution(tmp_path / "solutions", "broken", "import nothing_of_this_name\n")
    monkeypatch.chdir(tmp_path)
    found = [(ended(words), words) for _, words in uses()]
    differ = [(words, was, now) for (was, words), (now, _) in zip(uses(), found, strict=True) if was != now]
    assert differ == []


def ended(words: list[str]) -> int:
    """The exit code of one command line."""
    try:
        return main(words)
    except SystemExit as end:
        return int(end.code or 0)


def as_measured(folder: Path, target: Path) -> None:
    """A recorded run as `measure` left it."""
    made_later = shutil.ignore_patterns("*.gz", "traces*.jsonl", "verification.jsonl", "analysis.json")
    shutil.copytree(folder, target, ignore=made_later)
    for path in folder.rglob("*.jsonl.gz"):
        (target / path.relative_to(folder)).with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
