"""Processes forked by the fork server are what a new interpreter would be, to the supervisor and to themselves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from bakeoff.core.device.gpu_state import Monitor
from bakeoff.schema.outcomes import Outcome
from support.measure_runs import command, environment, make_run, measure, only

# A module that a forked process runs: it says what it finds, and ends as it is told.
CHILD = """
import json, os, sys
from bakeoff.core.messages import tie_to_parent
def main(arguments):
    tie_to_parent(int(arguments[0]))
    os.write(int(arguments[2]), json.dumps({
        "parent": os.getppid(), "session": os.getsid(0) == os.getpid(), "folder": os.getcwd(),
        "word": os.environ.get("WORD"),
        "home": os.environ.get("HOME"), "only": os.environ.get("ONLY"), "arguments": len(arguments),
        "torch": "torch" in sys.modules,
        "harness": [
            name for name in sys.modules
            if name.startswith(("bakeoff.core.worker", "bakeoff.core.referee"))
        ],
        "descriptors": {
            name: os.readlink(f"/proc/self/fd/{name}")
            for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")
        },
        "given": [int(word) for word in arguments[1:]],
    }).encode())
    print("said on standard output")
    how = os.environ["HOW"]
    if how == "exit":
        sys.exit(7)
    if how == "signal":
        os.abort()
    if how == "raise":
        raise ValueError("told to")
    if how == "hang":
        import time
        time.sleep(600)
"""
# A supervisor with a fork server; prints what each child said, printed, and how it ended.
PARENT = """
import json, os, sys, time
from pathlib import Path
from bakeoff.core.confine import adopt_orphans
from bakeoff.processes.children import Child, descendants
from bakeoff.processes.fork_server import ForkServer
adopt_orphans()
folder, ways = Path(sys.argv[1]), sys.argv[2:]
forks = ForkServer.start({**os.environ, "WORD": "server's", "ONLY": "server's"}, folder.parent, ("torch",))
for how in ways:
    if how == "orphan":
        forks._process.kill(); forks._process.wait()
    child = Child.spawn("said", {**os.environ, "WORD": "own", "HOME": "/nowhere", "HOW": how}, folder, (0,), forks)
    if how == "hang":
        print(json.dumps({"pid": child.pid}), flush=True)
        time.sleep(600)
    os.set_blocking(child.results, True); os.set_blocking(child.output, True)
    said = json.loads(os.read(child.results, 65536))
    status = child.process.wait()
    child.drain()
    found = {"me": os.getpid(), "said": said, "printed": child.printed(), "status": status}
    print(json.dumps(found | {"again": child.process.poll()}))
    child.close()
forks.close()
print(json.dumps({"left": descendants(os.getpid())}))
"""


def start(folder: Path, *ways: str) -> subprocess.Popen[str]:
    (folder / "said.py").write_text(CHILD)
    variables = {
        **environment(),
        "HOME": "/somewhere",
        "PYTHONPATH": f"{environment()['PYTHONPATH']}:{folder}",
    }
    words = [sys.executable, "-c", PARENT, str(folder), *ways]
    return subprocess.Popen(words, env=variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_forked_process_is_the_supervisors_child_with_its_own_surroundings(tmp_path: Path) -> None:
    out, error = start(tmp_path, "return", "exit", "signal", "raise").communicate(timeout=120)
    *ends, left = [json.loads(line) for line in out.splitlines()]
    assert [end["status"] for end in ends] == [0, 7, -signal.SIGABRT, 1], error
    assert left == {"left": []}
    for end in ends:
        said = end["said"]
        assert said["parent"] == end["me"] and said["session"], "one signal to its group ends it"
        assert (said["folder"], said["word"], said["only"], said["home"]) == (str(tmp_path), "own", None, "/nowhere")
        assert said["torch"] and said["harness"] == [], "torch is there already, nothing that only one side may see"
        assert set(map(int, said["descriptors"])) == {0, 1, 2, *said["given"]}, (
            "neither the fork server's nor another child's"
        )
        assert end["again"] == end["status"]
        assert "said on standard output" in end["printed"] or end["status"] == -signal.SIGABRT
    assert "ValueError: told to" in ends[-1]["printed"]


def test_forked_processes_and_the_fork_server_end_with_the_supervisor(tmp_path: Path) -> None:
    parent = start(tmp_path, "hang")
    assert parent.stdout
    child = json.loads(parent.stdout.readline())["pid"]
    server = next(int(pid) for pid in Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split())
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while (alive := [pid for pid in (child, server) if _runs(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert alive == []


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_fork_server_that_is_gone_is_an_error_and_not_a_verdict(tmp_path: Path) -> None:
    parent = start(tmp_path, "orphan")
    _, error = parent.communicate(timeout=60)
    assert parent.returncode != 0 and "the process that prepares others" in error and "it has died" in error


def test_a_block_whose_fork_server_is_killed_goes_on_when_started_again(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"honest": None}, workloads=["T1_o32"])
    first = subprocess.Popen(command("measure", str(run), "--block", "0"), env=environment(), stderr=subprocess.PIPE)
    children = Path(f"/proc/{first.pid}/task/{first.pid}/children")
    deadline = time.monotonic() + 60
    while not (pids := children.read_text().split()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(int(pids[0]), signal.SIGKILL)
    _, error = first.communicate(timeout=120)
    assert first.returncode == 2 and b"has died" in error and b"Traceback" not in error
    assert measure(run).returncode == 0
    assert only(run, "honest").outcome == Outcome.PASSED


@pytest.mark.parametrize(("gpu", "forks"), [(None, True), ("GPU-1", False)])
def test_on_a_gpu_every_process_is_a_new_interpreter(
    gpu: str | None, forks: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from types import SimpleNamespace

    from bakeoff.supervisor import block

    class Seen(Exception):
        pass

    def workers(settings: object, forks: object) -> None:
        raise Seen(forks is not None)

    monkeypatch.setattr(block, "adopt_orphans", lambda: None)
    monkeypatch.setattr(block, "Workers", workers)
    monkeypatch.setattr(block, "open_monitor", lambda *_: Monitor())
    monkeypatch.setattr(block.ForkServer, "start", lambda *_: SimpleNamespace(close=lambda: None))
    settings: Any = SimpleNamespace(gpu=gpu, backend="cpu", scratch=tmp_path, threads=1)
    with pytest.raises(Seen) as seen:
        block.run_block(settings, [], SimpleNamespace())  # type: ignore[arg-type]
    assert seen.value.args == (forks,)


# A block as on a GPU host: without a fork server.
FRESH = """
import sys
from bakeoff.cli import main
from bakeoff.supervisor import block
class Absent:
    def __bool__(self): return False
    def close(self): pass
block.ForkServer.start = lambda *_: Absent()
sys.exit(main(["measure", sys.argv[1], "--block", "0"]))
"""


def test_new_interpreters_come_to_the_same_results(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, {"honest": None}, workloads=["T7_o192"]) for name in ("forked", "fresh")]
    assert measure(runs[0]).returncode == 0
    done = subprocess.run(
        [sys.executable, "-c", FRESH, str(runs[1])], env=environment(), text=True, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    forked, fresh = (only(run, "honest") for run in runs)
    assert fresh.outcome == Outcome.PASSED
    assert (fresh.key, fresh.gates, fresh.numerics) == (forked.key, forked.gates, forked.numerics)
