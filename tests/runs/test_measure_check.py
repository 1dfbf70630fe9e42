"""`bakeoff check`, and what a worker may say."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path

import psutil
import pytest
from bakeoff.core.messages import ChannelError, Done, Ready, understand
from bakeoff.files import PROJECT_ROOT
from bakeoff.runs.check import _likeness
from support.measure_runs import bakeoff, bakeoff_here, command, environment, write_solution

TOO_LARGE = (
    "def run_with(honest, *arguments):\n    honest(*arguments)\n    if arguments[-1].shape[0] == 7:\n        "
    "arguments[-1].mul_(1.1)\n"
)

WITHOUT_FACTOR = (
    "def run_with(honest, *arguments):\n    is_wrong = arguments[0].shape[0] == 7\n    "
    "honest(*arguments[:9], arguments[9] / (2.5 if is_wrong else 1), arguments[10])\n"
)

# Decided by the referee, the supervisor's clock and the state of the host.
NOT_FOR_WORKERS = ("PASSED", "INCORRECT_NUMERICAL", "TIMEOUT", "DISTURBED", "NOT_RUN")


def test_check_prints_a_row_per_workload_and_fails_on_a_wrong_one(tmp_path: Path) -> None:
    folder = write_solution(tmp_path, "slightly", TOO_LARGE)
    words = ("check", str(folder), "--backend", "cpu", "--family", "fib", "--workload")
    right = bakeoff(*words, "T1_o32")
    assert right.returncode == 0 and "1 of 1 cells PASSED" in right.stdout, right.stderr
    wrong = bakeoff(*words, "T1_o32", "--workload", "7")
    assert wrong.returncode == 1 and "1 of 2 cells PASSED" in wrong.stdout
    printed = wrong.stdout.splitlines()
    assert printed[0].startswith("slightly on cpu, moe_fp8_block_scale_ds_routing") and "fib values" in printed[0]
    assert printed[2].split()[:6] == ["Workload", "Outcome", "Values", "gate", "gate", "(active)"]
    assert printed[2].split()[-2:] == ["scale", "Seconds"]
    rows = {line.split()[0]: line for line in printed if re.match(r"T\d+_o\d+  ", line)}
    scales = {name: float(row.split()[-2]) for name, row in rows.items()}
    assert scales["T1_o32"] == pytest.approx(1, abs=0.02) and scales["T7_o192"] > 1.02
    assert "PASSED" in rows["T1_o32"] and "INCORRECT_NUMERICAL" in rows["T7_o192"] and "failed" in rows["T7_o192"]
    assert "strict_gate" in wrong.stdout and "to do:" in wrong.stdout
    assert re.search(r"emulation_l2 0\.\d{1,4} \(bound", wrong.stdout)
    assert re.search(r"\nresembles no known mistake; relative L2 0\.\d+ against .*, at T7_o192 fib\n", wrong.stdout)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["nonesuch"], "new-solution"),
        (["triton_fused_moe"], "did you mean triton_fused_moe_v2?"),
        (["triton_v2", "--workload", "91"], "did you mean 901?"),
        (["triton_fused_moe_v2", "--workload", "T3_o0"], "T3_o0"),
        (["triton_fused_moe_v2", "--definition", "wide"], "wide"),
    ],
)
def test_check_refuses_what_is_not_there(words: list[str], named: str) -> None:
    refused = bakeoff_here("check", *words, "--backend", "cpu")
    assert refused.returncode == 2 and named in refused.stderr and "Traceback" not in refused.stderr


def test_check_names_the_users_file_and_not_a_copy(tmp_path: Path) -> None:
    folder = write_solution(tmp_path, "broken")
    (folder / "solution.py").write_text("def run(:\n")
    refused = bakeoff_here("check", str(folder), "--backend", "cpu")
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    assert refused.stderr.startswith(f"bakeoff check: {folder / 'solution.py'}:1\n")


def test_check_fails_on_a_solution_that_answers_passed_itself(tmp_path: Path) -> None:
    attack = (PROJECT_ROOT / "tests/hostile/answers_every_command.py").read_text()
    folder = write_solution(tmp_path, "answers", f"{attack}\n\nrun_with = hostile\n")
    refused = bakeoff("check", str(folder), "--backend", "cpu", "--workload", "T1_o32")
    assert refused.returncode == 1 and "0 of 2 cells PASSED" in refused.stdout, refused.stdout
    assert "REJECTED" in refused.stdout and "forged_message" in refused.stdout


def test_check_says_each_cause_once_in_the_users_own_files(tmp_path: Path) -> None:
    folder = write_solution(tmp_path, "raises", "def run_with(honest, *arguments):\n    raise ValueError('so')\n")
    place = str(folder / "solution.py")
    failed = bakeoff("check", str(folder), "--backend", "cpu", "--workload", "1", "--workload", "7")
    said = failed.stdout
    assert failed.returncode == 1 and said.count("ValueError: so") == 1 and said.count("RUNTIME_ERROR") == 4
    assert place in said and "bakeoff-check" not in said and "workflow/bakeoff" not in said
    assert "T1_o32 fib, T1_o32 realistic, T7_o192 fib, T7_o192 realistic: The solution raised" in said
    assert "to do" not in said


def test_check_gives_a_line_of_json_for_each_cell(tmp_path: Path) -> None:
    folder = write_solution(tmp_path, "without_factor", WITHOUT_FACTOR)
    done = bakeoff("check", str(folder), "--backend", "cpu", "--workload", "7", "--workload", "1", "--json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["workload"], row["family"], row["outcome"]) for row in rows] == [
        ("T1_o32", "fib", "PASSED"),
        ("T1_o32", "realistic", "PASSED"),
        ("T7_o192", "fib", "INCORRECT_NUMERICAL"),
        ("T7_o192", "realistic", "INCORRECT_NUMERICAL"),
    ]
    assert rows[0]["strict_gate"] is True and 0 <= rows[0]["relative_l2"] < 0.1
    like = rows[2]["resembles"]
    assert [row["resembles"] for row in rows] == [None, None, like, like]
    assert [one["name"] for one in like["mistakes"]] == ["no_factor"] and like["workload"] == "T7_o192"
    assert like["relative_l2"] < 0.02 < 0.5 < like["from_right"]
    assert [*_likeness(like)] == [
        "\nresembles: the routing weights lack the scaling factor (no_factor); relative L2 "
        f"{like['relative_l2']:.2g} against the output of that mistake, {like['from_right']:.2g} against the right "
        f"one, at T7_o192 {like['family']}"
    ]


def test_an_interrupt_ends_a_check_and_its_processes_and_keeps_nothing(tmp_path: Path) -> None:
    words = ("check", "triton_v2", "--backend", "cpu", "--json")
    env, pipe = environment({"TMPDIR": str(tmp_path)}), subprocess.PIPE
    check = subprocess.Popen(command(*words), env=env, stdout=pipe, stderr=pipe, text=True)
    assert check.stdout and '"PASSED"' in check.stdout.readline()
    started = psutil.Process(check.pid).children(recursive=True)
    assert started and list(tmp_path.iterdir())
    check.send_signal(signal.SIGINT)
    assert check.communicate(timeout=60)[1] == "bakeoff check: interrupted; nothing is kept\n"
    assert check.returncode == 130 and not list(tmp_path.iterdir())
    assert not [process for process in started if process.is_running()]


def test_check_on_a_gpu_that_is_not_there_is_an_input_error(tmp_path: Path) -> None:
    from bakeoff.config import Config, resolve

    if resolve(Config()).backend == "sm_100a":
        pytest.skip("this host has the GPU that the test needs to be absent")
    refused = bakeoff_here("check", str(write_solution(tmp_path, "tiny")), "--backend", "sm_100a")
    assert refused.returncode == 2 and "sm_100a" in refused.stderr


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"say": "judged", "id": 1},
        {"say": "done", "id": 1, "token": "t"},
        {"say": "done", "id": 1, "token": "t", "outcome": "WONDERFUL"},
        *({"say": "done", "id": 1, "token": "t", "outcome": outcome} for outcome in NOT_FOR_WORKERS),
        *({"say": "failed", "outcome": outcome, "reason": None, "detail": ""} for outcome in NOT_FOR_WORKERS),
        {"say": "done", "id": 1, "token": "t", "outcome": "REJECTED", "reason": "strict_gate"},
        {"say": "done", "id": 1, "token": "t", "outcome": None, "tiers": {"event_us": [-1.0]}},
        {"say": "done", "id": 1, "token": "t", "outcome": None, "tiers": {"event_us": [float("nan")]}},
        {"say": "done", "id": 1, "token": "t", "outcome": None, "tiers": {"imagined_us": [1.0]}},
        {"say": "done", "id": 1, "token": "t", "outcome": None, "gates": {}},
        {"say": "batch", "id": 1, "token": "t", "calls": 0},
        {"say": "ready"},
    ],
)
def test_a_message_that_is_none_of_the_harness_is_refused(message: dict[str, object]) -> None:
    with pytest.raises(ChannelError):
        understand(message)


def test_messages_of_the_harness_are_understood() -> None:
    assert isinstance(understand({"say": "ready", "missing_tiers": {}}), Ready)
    done = understand({"say": "done", "id": 1, "token": "t", "outcome": None, "tiers": {"wall_us": [1.5]}})
    assert isinstance(done, Done) and done.tiers == {"wall_us": [1.5]}
