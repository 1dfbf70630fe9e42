"""A worker's own user namespace: what is out of reach without Landlock and seccomp, what still works, and why one stays
where it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from bakeoff.core.confine import WALLS
from bakeoff.schema.outcomes import Outcome
from support.measure_runs import environment, make_run, measure, records

# Says why it stays (or None), and in which namespace it is.
ENTER = """
import os, sys
from pathlib import Path
from bakeoff.core import namespaces
root, sibling = Path(sys.argv[1]), sys.argv[2]
namespaces.MADE_LATE = root / "made_late"
print(namespaces.enter([str(root / "read")], [str(root / "own")], gpu={gpu}))
print(os.readlink("/proc/self/ns/user"))
"""
HERE = str(Path("/proc/self/ns/user").readlink())
OWN = f"""
import os

assert os.readlink("/proc/self/ns/user") != "{HERE}"


def run_with(honest, *arguments):
    honest(*arguments)
"""


def entered(folder: Path, code: str = "", gpu: bool = False, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run code in a process that has entered, beside a sibling of the same user."""
    for name in ("own", "read"):
        (folder / name).mkdir(exist_ok=True)
    sibling = subprocess.Popen(["sleep", "100"], env={"SECRET": "of the sibling"})
    try:
        words = [sys.executable, "-c", before + ENTER.format(gpu=gpu) + code, str(folder), str(sibling.pid)]
        return subprocess.run(words, env=environment(), text=True, capture_output=True, check=False)
    finally:
        sibling.kill()
        sibling.wait()


def require_namespaces(folder: Path) -> None:
    why = entered(folder).stdout.splitlines()[0]
    if why.startswith("the kernel refuses"):
        pytest.skip(f"this host has no user namespaces for processes without rights ({why})")


# Each raises PermissionError; nothing but the namespace refuses it.
ATTEMPTS = """
import ctypes


def call(name, *words):
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*words) < 0:
        raise OSError(ctypes.get_errno(), name)


for number, attempt in enumerate((
    lambda: open(f"/proc/{sibling}/environ", "rb").read(),
    lambda: open(f"/proc/{sibling}/mem", "r+b"),
    lambda: open(f"/proc/{sibling}/maps").read(),
    lambda: os.readlink(f"/proc/{sibling}/fd/1"),
    lambda: open(f"/proc/{os.getppid()}/environ", "rb").read(),
    lambda: os.nice(-1),
    lambda: call("ptrace", 16, int(sibling), 0, 0),
    lambda: call("setns", os.open(f"/proc/{os.getppid()}/ns/user", os.O_RDONLY), 0),
)):
    try:
        attempt()
        print(number, "was allowed")
    except PermissionError:
        pass
"""


def test_a_sibling_is_out_of_reach_without_any_other_wall(tmp_path: Path) -> None:
    require_namespaces(tmp_path)
    done = entered(tmp_path, ATTEMPTS)
    first, place, *allowed = done.stdout.splitlines()
    assert (first, allowed, done.returncode) == ("None", [], 0) and place != HERE, done


def test_what_is_its_own_stays_in_reach(tmp_path: Path) -> None:
    require_namespaces(tmp_path)
    code = """
import subprocess
child = subprocess.Popen(["cat"], env={"OWN": "1"}, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdin.write(b"\\n")
child.stdin.flush()
child.stdout.read(1)  # its answer: the kernel has given it its environment
assert b"OWN" in open(f"/proc/{child.pid}/environ", "rb").read()
child.kill()
open("/proc/self/mem", "rb").close()
(root / "own" / "file").write_text("here")
assert (root / "own" / "file").stat().st_uid == os.getuid() == os.geteuid()
"""
    done = entered(tmp_path, code)
    first, place = done.stdout.splitlines()
    assert (first, done.returncode) == ("None", 0) and place != HERE, done.stderr


def test_it_stays_where_it_would_lose_something_and_says_what(tmp_path: Path) -> None:
    require_namespaces(tmp_path)
    filtered = "from bakeoff.core.confine import filter_calls\nassert filter_calls(scoped=True) is None\n"
    threads = "import threading, time\nthreading.Thread(target=time.sleep, args=(1,), daemon=True).start()\n"
    found = {
        "the kernel refuses one: Operation not permitted": entered(tmp_path, before=filtered),
        "the process has threads already": entered(tmp_path, before=threads),
        f"the driver has not made {tmp_path}/made_late yet": entered(tmp_path, gpu=True),
    }
    if os.geteuid() == 0:
        secret = tmp_path / "read" / "secret"
        secret.touch(0o600)
        os.chown(secret, 12345, 12345)
        found[f"{secret} would be out of reach"] = entered(tmp_path)
    for told, done in found.items():
        assert done.stdout.splitlines() == [told, HERE], done.stderr


def test_every_worker_of_a_block_has_its_own_and_the_run_says_so(tmp_path: Path) -> None:
    require_namespaces(tmp_path)
    run = make_run(tmp_path, {"own": OWN}, workloads=["T1_o32"])
    assert measure(run).returncode == 0
    assert [one.outcome for one in records(run, "own")] == [Outcome.PASSED]
    assert json.loads((run / "samples/block-00/manifest.json").read_bytes())["walls"][-1] == "user namespace"
    # Without walls the same run says what is missing, in the manifest and on the page.
    (run / "samples/block-00/own.jsonl").unlink()
    (run / "samples/block-00/reference.jsonl").unlink()
    assert measure(run, env={"BAKEOFF_UNCONFINED": "1"}).returncode == 0
    (record,) = records(run, "reference")
    assert "no user namespace of its own: switched off by BAKEOFF_UNCONFINED" in record.warnings
    assert json.loads((run / "samples/block-00/manifest.json").read_bytes())["walls"] == []
    said = " ".join(record.warnings)
    assert all(f"{missing}: switched off" in said for missing in WALLS.values())
