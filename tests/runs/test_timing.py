"""`bakeoff time`: right or wrong on one workload, and a range of ratios without a verdict."""

import json
import re
from pathlib import Path

import pytest
from support.measure_runs import bakeoff, fake_device, write_solution

WRONG = "def run_with(honest, *arguments):\n    honest(*arguments)\n    arguments[-1].mul_(1.1)\n"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    root = tmp_path_factory.mktemp("timed")
    return write_solution(root, "quick"), write_solution(root, "slow"), write_solution(root, "wrong", WRONG)


def test_a_solution_is_timed_beside_another_one(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    quick, slow, _ = folders
    env = fake_device(tmp_path, factor={"slow": 2})
    done = bakeoff("time", str(slow), "--against", str(quick), "--workload", "901", env=env)
    assert done.returncode == 0, done.stderr
    said = re.fullmatch(
        r"slow takes ([\d.]+) × the time of quick at T901_o96, "
        r"range ([\d.]+) to ([\d.]+), 2 blocks: a verdict needs 5\n",
        done.stdout,
    )
    assert said and float(said[2]) <= float(said[1]) <= float(said[3]) and float(said[1]) > 1.5


def test_a_line_of_json_is_given_for_each_solution(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    quick, slow, wrong = folders
    env = fake_device(tmp_path, factor={"slow": 2})
    words = (str(slow), str(wrong), "--against", str(quick), "--workload", "T80_o96", "--blocks", "1", "--json")
    done = bakeoff("time", *words, env=env)
    rows = {row["solution"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 1 and set(rows) == {"slow", "wrong"}
    assert rows["slow"]["outcome"] == "PASSED" and rows["slow"]["ratio"] > 1.5 and len(rows["slow"]["us"]) == 1
    assert rows["wrong"]["outcome"] == "INCORRECT_NUMERICAL" and rows["wrong"]["ratio"] is None


def test_without_a_gpu_it_says_what_it_cannot_tell(folders: tuple[Path, Path, Path]) -> None:
    quick, _, wrong = folders
    done = bakeoff("time", str(quick), str(wrong), "--backend", "cpu", "--workload", "32")
    assert done.returncode == 1 and "only a GPU tells" in done.stdout and "not how long it takes" in done.stderr
    assert "quick is right at T32_o32 on cpu" in done.stdout and "wrong is not right at T32_o32" in done.stdout
    assert "µs" not in done.stdout


def test_a_batch_goes_on_where_it_stopped_and_a_bad_one_costs_itself(
    folders: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    quick, slow, _ = folders
    hangs = write_solution(tmp_path, "hangs", "import time\ndef run_with(honest, *arguments):\n    time.sleep(600)\n")
    broken = write_solution(tmp_path, "broken", "def run_with(:\n")
    into = tmp_path / "rows.jsonl"
    words = ("--against", str(quick), "--workload", "32", "--blocks", "1", "--timeout", "15", "--into", str(into))
    env = fake_device(tmp_path)
    first = bakeoff("time", str(hangs), str(broken), str(slow), *words, env=env)
    rows = {row["solution"]: row for row in map(json.loads, into.read_text().splitlines())}
    assert first.returncode == 1, first.stderr
    assert {name: row["outcome"] for name, row in rows.items()} == {
        "hangs": "TIMEOUT",
        "broken": "UNUSABLE",
        "slow": "PASSED",
    }
    assert "broken/attack.py:1" in rows["broken"]["detail"]
    into.write_text("".join(json.dumps(row) + "\n" for row in rows.values() if row["solution"] == "hangs"))
    again = bakeoff("time", str(hangs), str(slow), *words, env=env)
    assert again.returncode == 1 and "hangs: known already" in again.stderr
    names = [json.loads(line)["solution"] for line in into.read_text().splitlines()]
    assert names == ["hangs", "slow"] and "hangs" not in again.stdout


def test_what_cannot_be_used_is_said_once_and_again_when_something_else_is_wrong(tmp_path: Path) -> None:
    broken, into = write_solution(tmp_path, "broken", "def run_with(:\n"), tmp_path / "rows.jsonl"
    other = write_solution(tmp_path, "other", "import bakeoff\n")
    words = ("time", str(broken), str(other), "--workload", "32", "--blocks", "1", "--into", str(into))
    for number in range(3):
        if number == 2:
            (broken / "attack.py").write_text("\ndef run_with(:\n")
        done = bakeoff(*words)
        assert done.returncode == 1 and ("broken: known already" in done.stderr) == (number == 1), done.stderr
    rows = [json.loads(line) for line in into.read_text().splitlines()]
    assert [row["solution"] for row in rows] == ["broken", "other", "broken"]
    assert "attack.py:1" in rows[0]["detail"] and "attack.py:2" in rows[2]["detail"]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["triton_v3"], "did you mean triton_v2?"),
        (["triton_v2", "--against", "nobody"], "new-solution"),
        (["triton_v2", "--workload", "T902_o96"], "did you mean T901_o96?"),
        (["triton_v2", "--blocks", "0"], "from 1 to 100"),
        (["triton_v2", "--backend", "cpu", "--workload", ""], "number of tokens"),
        (["triton_v2", "--backend", "cpu", "--into", "README.md"], "README.md:1"),
        (["triton_v2", "--backend", "cpu", "--into", "workflow/schemas/host.schema.json"], "json:1"),
        (["triton_v2", "--backend", "cpu", "--into", "no-such-folder/rows.jsonl"], "cannot write"),
    ],
)
def test_a_wrong_use_is_answered_with_what_is_right(words: list[str], named: str) -> None:
    refused = bakeoff("time", *words)
    assert refused.returncode == 2 and named in refused.stderr and "Traceback" not in refused.stderr
