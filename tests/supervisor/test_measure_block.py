"""A whole block on the cpu backend and on the fake device: what is recorded, what is resumed, what a kill costs."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from bakeoff.planned import block_cells, block_order
from bakeoff.processes.children import _name_of, children_of
from bakeoff.runs.assemble import assemble_run
from bakeoff.schema.outcomes import Outcome, Reason
from support.measure_runs import (
    bakeoff_here,
    command,
    environment,
    fake_device,
    make_run,
    measure,
    only,
    plan_of,
    plan_run,
    records,
    write_solution,
)
from support.once import once

# Whole blocks take some seconds each, and much longer on a busy host.
pytestmark = pytest.mark.timeout(900)

ALL = ("honest", "reference")


def lines_of(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((run / "samples" / "block-00").glob("*.jsonl"))}


def test_what_cannot_be_packed_costs_itself_alone(tmp_path: Path) -> None:
    for name in ("honest", "broken"):
        write_solution(tmp_path / "solutions", name)
    entry = tmp_path / "solutions/broken/solution.py"
    whole = entry.read_text()
    entry.write_text("def run(:\n" + whole)
    run = plan_run(tmp_path / "run", tmp_path / "solutions", twins=["broken"], anchors=["honest"])
    assert measure(run).returncode == 0
    for name in ("broken", "broken.twin"):
        found = records(run, name)
        assert len(found) == 2 and {(one.outcome, one.reason) for one in found} == {
            (Outcome.COMPILE_ERROR, Reason.NOT_PACKED)
        }
        assert {one.detail for one in found} == {
            "broken/solution.py:1: not valid Python: invalid syntax; expected: Python source"
        }
    assert {one.outcome for one in records(run, "honest")} == {Outcome.PASSED}
    # Mended, it is measured, and nothing else is.
    entry.write_text(whole)
    before = lines_of(run)
    plan_run(run, tmp_path / "solutions", twins=["broken"], anchors=["honest"])
    assert measure(run).returncode == 0
    assert [one.outcome for one in records(run, "broken")][2:] == [Outcome.PASSED] * 2
    assert lines_of(run)["honest.jsonl"] == before["honest.jsonl"]


@pytest.fixture(scope="module")
def of_honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one honest solution, and what was said meanwhile; tests must not change it."""

    def make(folder: Path) -> None:
        done = measure(make_run(folder, {"honest": None}, families=["fib", "realistic"]))
        assert done.returncode == 0, done.stderr
        (folder / "stderr").write_text(done.stderr)

    return once(tmp_path_factory, "of_honest", make)


def test_a_block_records_every_cell_once_passes_and_a_second_run_measures_nothing(
    of_honest: Path, tmp_path: Path
) -> None:
    run, said = Path(shutil.copytree(of_honest / "run", tmp_path / "run")), (of_honest / "stderr").read_text()
    plan = plan_of(run)
    found = [record for name in ALL for record in records(run, name)]
    assert sorted(record.key for record in found) == sorted(cell.key for cell in plan.cells)
    assert {record.outcome for record in found} == {Outcome.PASSED}
    timed = [record for record in found if record.kind == "measure"]
    assert all(len(record.tiers["wall_us"]) == 1 and "event_us" in record.missing_tiers for record in timed)
    assert all(record.gates["published"].passed and record.gates["strict"].passed for record in found)
    manifest = json.loads((run / "samples/block-00/manifest.json").read_text())
    assert manifest["outcomes"] == {"PASSED": len(plan.cells)} and manifest["order"] == block_order(plan, 0)
    assert "block 1/1" in said and f"{len(plan.cells)}/{len(plan.cells)}" in said and "left" in said
    before = lines_of(run)
    again = measure(run)
    assert again.returncode == 0 and lines_of(run) == before
    assert f"block 1/1  complete: all {len(plan.cells)} cells are recorded, {len(plan.cells)} PASSED" in again.stderr


def test_assemble_and_verify_accept_a_complete_run_and_name_what_is_wrong_with_another(
    of_honest: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(of_honest / "run", tmp_path / "run"))
    assert bakeoff_here("assemble", str(run)).returncode == 0
    accepted = bakeoff_here("verify", str(run))
    assert accepted.returncode == 0 and "2 cells PASSED" in accepted.stdout
    traces = (run / "traces.jsonl").read_bytes()
    first, second = traces.splitlines(keepends=True)
    untyped = json.loads(first)
    del untyped["evaluation"]["bakeoff"]["outcome"]
    contradiction = json.loads(first)
    contradiction["evaluation"]["bakeoff"]["outcome"] = "CRASHED"
    spoilt = {
        "T7_o192: missing": first,
        "T1_o32: 2 times": first + first + second,
        "no typed outcome": json.dumps(untyped).encode() + b"\n" + second,
        "contradicts": json.dumps(contradiction).encode() + b"\n" + second,
    }
    for finding, content in spoilt.items():
        (run / "traces.jsonl").write_bytes(content)
        refused = bakeoff_here("verify", str(run))
        assert refused.returncode == 1 and finding in refused.stderr, refused.stderr
    (run / "traces.jsonl").write_bytes(traces)
    lines = (run / "verification.jsonl").read_bytes().splitlines(keepends=True)
    (run / "verification.jsonl").write_bytes(lines[0])
    assert "verification: honest T7_o192 fib 2: missing" in bakeoff_here("verify", str(run)).stderr


def test_a_failed_gate_fails_verify(tmp_path: Path) -> None:
    run = make_run(
        tmp_path,
        {"scaled": "def run_with(honest, *arguments):\n    honest(*arguments)\n    arguments[-1].mul_(1.05)\n"},
    )
    assert measure(run).returncode == 0
    assert {record.outcome for record in records(run, "scaled")} == {Outcome.INCORRECT_NUMERICAL}
    assert {record.reason for record in records(run, "scaled")} == {Reason.STRICT_GATE}
    bakeoff_here("assemble", str(run))
    assert "INCORRECT_NUMERICAL (strict_gate)" in bakeoff_here("verify", str(run)).stderr


def test_an_earlier_schema_version_and_another_host_are_input_errors(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"honest": None})
    text = (run / "config.json").read_text()
    (run / "config.json").write_text(text.replace(plan_of(run).host_fingerprint, "0" * 64))
    refused = measure(run)
    assert refused.returncode == 2 and "planned for the host" in refused.stderr
    (run / "config.json").write_text(text.replace("bakeoff/plan/1", "bakeoff/plan/0"))
    for verb in (("measure", str(run), "--block", "0"), ("assemble", str(run)), ("verify", str(run))):
        refused = bakeoff_here(*verb)
        assert refused.returncode == 2 and "bakeoff/plan/0" in refused.stderr and "Traceback" not in refused.stderr
    (run / "config.json").write_text(text)
    refused = measure(run, 1)
    assert refused.returncode == 2 and "--block" in refused.stderr


def test_one_changed_byte_of_one_solution_measures_exactly_its_cells_again(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"honest": None, "other": None}, workloads=["T1_o32"])
    assert measure(run).returncode == 0
    before = lines_of(run)
    source = tmp_path / "solutions/other/cpu.py"
    source.write_text(source.read_text() + "#\n")
    plan_run(run, tmp_path / "solutions", workloads=["T1_o32"])
    assert measure(run).returncode == 0
    after = lines_of(run)
    changed = {name for name, content in after.items() if content != before[name]}
    assert changed == {"other.jsonl"} and after["other.jsonl"].startswith(before["other.jsonl"])
    assemble_run(run)
    assert bakeoff_here("verify", str(run)).returncode == 0


# What the solution does on a workload of T tokens, and how the cell must end.
FAILURES = {
    "T7_o192": ("raise KeyError('lost')", Outcome.RUNTIME_ERROR, None),
    "T14_o0": ("ctypes.string_at(0)", Outcome.CRASHED, Reason.SIGNAL),
    "T15_o32": ("os._exit(0)", Outcome.CRASHED, Reason.EXITED),
    "T16_o224": ("sys.exit(0)", Outcome.CRASHED, Reason.EXITED),
    "T32_o32": ("os.kill(os.getpid(), 9)", Outcome.CRASHED, Reason.SIGNAL),
    "T52_o160": ("torch.ones(1 << 46)", Outcome.OUT_OF_MEMORY, Reason.ALLOCATION),
    "T53_o32": ("raise UnsupportedDevice('no backend for this')", Outcome.UNSUPPORTED, Reason.NO_BACKEND),
    "T54_o128": ("arguments[-1].resize_(3)", Outcome.INCORRECT_SHAPE, None),
}


def test_every_way_to_fail_is_typed_costs_its_own_cell_only_and_comes_with_what_was_seen(tmp_path: Path) -> None:
    branches = "".join(
        f"    if arguments[-1].shape[0] == {name[1:].split('_')[0]}:\n        {how}\n"
        for name, (how, _, _) in FAILURES.items()
    )
    attack = (
        "import ctypes, os, sys, torch\nfrom .common.checks import UnsupportedDevice\n"
        f"def run_with(honest, *arguments):\n    honest(*arguments)\n{branches}"
    )
    run = make_run(
        tmp_path, {"varied": attack, "unimportable": "import no_such_module\n"}, workloads=["T1_o32", *FAILURES]
    )
    assert measure(run).returncode == 0
    found = {record.workload: record for record in records(run, "varied")}
    assert found.pop("T1_o32").outcome == Outcome.PASSED
    for name, (_, outcome, reason) in FAILURES.items():
        assert (found[name].outcome, found[name].reason) == (outcome, reason), found[name]
        assert found[name].detail and (reason is None or found[name].hint)
    assert "KeyError: 'lost'" in str(found["T7_o192"].detail)
    assert {record.outcome for record in records(run, "reference")} == {Outcome.PASSED}
    unimportable = records(run, "unimportable")
    assert len(unimportable) == 9 and {record.outcome for record in unimportable} == {Outcome.COMPILE_ERROR}
    assert "no_such_module" in str(unimportable[0].detail)


# Each hangs on a workload of 7 tokens.
STUCK = """
import os, signal, subprocess, time


def run_with(honest, *arguments):
    if arguments[-1].shape[0] == 7:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        subprocess.Popen(["sleep", "7654"])
        time.sleep(7654)
    honest(*arguments)
"""
WAITS = """
import time


def wait_for_nothing():
    time.sleep(7654)


def run_with(honest, *arguments):
    if arguments[-1].shape[0] == 7:
        wait_for_nothing()
    honest(*arguments)
"""


def test_a_hang_shows_where_is_killed_with_its_children_and_the_other_cells_go_on(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"stuck": STUCK, "waits": WAITS}, timeout_s=6)
    assert measure(run).returncode == 0
    for name in ("stuck", "waits"):
        by_workload = {record.workload: record for record in records(run, name)}
        hung = by_workload["T7_o192"]
        assert (hung.outcome, hung.reason) == (Outcome.TIMEOUT, Reason.HANG) and "within 6 s" in str(hung.detail)
        assert by_workload["T1_o32"].outcome == Outcome.PASSED
    assert "wait_for_nothing" in str(hung.detail)
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert "sleep 7654" not in listed


def test_cells_run_in_a_seeded_order_that_differs_between_blocks_and_verify_cells_come_in_block_0(
    tmp_path: Path,
) -> None:
    run = make_run(tmp_path, {f"s{n}": None for n in range(5)}, families=["fib", "realistic"], blocks=8)
    plan = plan_of(run)
    orders = [tuple(block_order(plan, block)) for block in range(8)]
    assert orders == [tuple(block_order(plan, block)) for block in range(8)] and len(set(orders)) > 4
    assert sorted(orders[0]) == sorted(who.name for who in plan.participants)
    assert {cell.kind for cell in block_cells(plan, 0)} == {"measure", "verify"}
    assert {cell.kind for cell in block_cells(plan, 1)} == {"measure"}
    assert len(block_cells(plan, 0)) == len(plan.cells)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str], dict[str, bytes], float]:
    """A run on the fake device that nothing disturbs: its solutions' folder, environment, traces, how long it took."""

    def make(folder: Path) -> None:
        run, begun = make_run(folder, {"honest": None}), time.monotonic()
        done = measure(run, env=fake_device(folder))
        assert done.returncode == 0, done.stderr
        (folder / "seconds").write_text(str(time.monotonic() - begun))
        assemble_run(run)

    folder = once(tmp_path_factory, "before_kills", make)
    made = {name: (folder / "run" / name).read_bytes() for name in ("traces.jsonl", "verification.jsonl")}
    own = tmp_path_factory.mktemp("undisturbed")  # runs are planned from it, which writes beside the solutions
    shutil.copytree(folder / "solutions", own / "solutions", symlinks=True)
    return own, fake_device(own), made, float((folder / "seconds").read_text())


@pytest.mark.parametrize("moment", range(int(os.environ.get("BAKEOFF_KILLS", "2")) // 2))
@pytest.mark.parametrize("victim", ["supervisor", "worker"])
def test_sigkill_at_any_moment_ends_in_the_same_bytes_and_measures_no_finished_cell_twice(
    tmp_path: Path, undisturbed: tuple[Path, dict[str, str], dict[str, bytes], float], victim: str, moment: int
) -> None:
    folder, env, expected, seconds = undisturbed
    run = plan_run(tmp_path / "run", folder / "solutions")
    chance = random.Random(f"{victim}{moment}")
    process = subprocess.Popen(
        command("measure", str(run), "--block", "0"), env=environment(env), stderr=subprocess.DEVNULL
    )
    time.sleep(chance.uniform(0.3, seconds))
    _kill(process, victim)
    process.wait(timeout=120)
    kept = (
        {name: content[: content.rfind(b"\n") + 1] for name, content in lines_of(run).items()}
        if (run / "samples").exists()
        else {}
    )
    done = measure(run, env=env)
    assert done.returncode == 0, done.stderr
    for name, content in kept.items():
        assert lines_of(run)[name].startswith(content)
    keys = [record.key for name in ("honest", "reference") for record in records(run, name)]
    assert sorted(keys) == sorted(cell.key for cell in plan_of(run).cells)
    assemble_run(run)
    assert {name: (run / name).read_bytes() for name in expected} == expected


# Ends its own supervisor at one step of journalling one record.
DIES_AT = """
import os, signal, sys
from bakeoff.cli import main
from bakeoff.runs import journal
step, due = sys.argv[1], int(sys.argv[2])

class Os:
    writes = 0
    def __getattr__(self, name):
        return getattr(os, name)
    def die(self, here):
        if self.writes == due and here == step:
            os.kill(os.getpid(), signal.SIGKILL)
    def write(self, descriptor, data):
        self.writes += 1
        self.die("before")
        if self.writes == due and step == "torn":
            os.write(descriptor, data[: len(data) // 2])
            self.die("torn")
        written = os.write(descriptor, data)
        self.die("written")
        return written
    def fsync(self, descriptor):
        os.fsync(descriptor)
        self.die("synced")

journal.os = Os()
main(["measure", sys.argv[3], "--block", "0"])
"""


@pytest.mark.slow
@pytest.mark.parametrize(("step", "kept"), [("before", 2), ("torn", 2), ("written", 3), ("synced", 3)])
def test_sigkill_at_each_step_of_the_journal_loses_one_record_at_most(
    tmp_path: Path, undisturbed: tuple[Path, dict[str, str], dict[str, bytes], float], step: str, kept: int
) -> None:
    folder, env, expected, _ = undisturbed
    run = plan_run(tmp_path / "run", folder / "solutions")
    done = subprocess.run([sys.executable, "-c", DIES_AT, step, "3", str(run)], env=environment(env), check=False)
    assert done.returncode == -signal.SIGKILL
    assert sum(content.count(b"\n") for content in lines_of(run).values()) == kept
    assert measure(run, env=env).returncode == 0
    keys = [record.key for name in ("honest", "reference") for record in records(run, name)]
    assert sorted(keys) == sorted(cell.key for cell in plan_of(run).cells)
    assemble_run(run)
    assert {name: (run / name).read_bytes() for name in expected} == expected


def _kill(process: subprocess.Popen[bytes], victim: str) -> None:
    if victim == "supervisor":
        process.kill()
        return
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    for child in children.read_text().split() if children.exists() else []:
        if Path(f"/proc/{child}/comm").read_text() == "worker\n":
            os.kill(int(child), signal.SIGKILL)


def test_a_second_supervisor_waits_for_the_first_and_measures_nothing_again(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"honest": None}, workloads=["T1_o32"])
    arguments: Any = {"env": environment(), "stderr": subprocess.PIPE, "text": True}
    first = subprocess.Popen(command("measure", str(run), "--block", "0"), **arguments)
    children = Path(f"/proc/{first.pid}/task/{first.pid}/children")
    while not children.read_text():  # it holds the block by the time it starts a process
        time.sleep(0.01)
    first.send_signal(signal.SIGSTOP)
    try:
        second = subprocess.Popen(command("measure", str(run), "--block", "0"), **arguments)
        assert second.stderr and f"waiting for process {first.pid} on " in second.stderr.readline()
    finally:
        first.send_signal(signal.SIGCONT)
    for process in (first, second):
        process.communicate(timeout=120)
        assert process.returncode == 0
    assert only(run, "honest").outcome == Outcome.PASSED, "one record, not two"


def test_a_packed_solution_that_is_not_the_planned_one_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"honest": None}, workloads=["T1_o32"], twins=["honest"])
    packed = run / "build/honest/solution.json"
    document = json.loads(packed.read_text())
    document["sources"][0]["content"] += "\nEDITED_AFTER_THE_PLAN = True\n"
    packed.write_text(json.dumps(document))
    refused = measure(run)
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    assert str(packed) in refused.stderr and "digest" in refused.stderr and "bakeoff build honest" in refused.stderr
    assert not any(lines_of(run).values()), "a cell was measured"


def test_a_process_of_the_host_may_have_any_bytes_as_its_name() -> None:
    name_itself = "import ctypes; ctypes.CDLL(None).prctl(15, b'od) d\\xff\\xfe'); print(flush=True); input()"
    odd = subprocess.Popen([sys.executable, "-c", name_itself], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert odd.stdout is not None and odd.stdout.readline()
        assert odd.pid in children_of(os.getpid())
        assert _name_of(odd.pid) == f"{odd.pid} (od) d\\xff\\xfe)"
    finally:
        odd.communicate(b"\n")


def test_a_missing_pack_and_an_unwritable_folder_are_input_errors(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"honest": None}, workloads=["T1_o32"])
    (run / "build/honest/solution.json").unlink()
    refused = measure(run)
    assert refused.returncode == 2 and "bakeoff build honest" in refused.stderr
    (tmp_path / "file").write_text("")
    write_solution(tmp_path / "elsewhere", "honest")
    plan_run(tmp_path / "second", tmp_path / "elsewhere", workloads=["T1_o32"])
    (tmp_path / "second/samples").write_text("in the way")
    refused = measure(tmp_path / "second")
    assert refused.returncode == 2 and "cannot write" in refused.stderr and "Traceback" not in refused.stderr
