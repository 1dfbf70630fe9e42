"""A host that runs out of something with half a block done: one typed error, finished cells kept, the same bytes in the
end. A worker that stops while it starts costs its own cells only.

`make faults` has every fault, and kills at 50 random moments (BAKEOFF_KILLS) in the block of test_measure_block.py;
without it, two of each.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bakeoff.files import PROJECT_ROOT
from bakeoff.processes.children import children_of
from bakeoff.runs.assemble import assemble_run
from bakeoff.schema.outcomes import Outcome, Reason
from support.measure_runs import command, environment, fake_device, make_run, measure, plan_run, records
from support.once import once

pytestmark = pytest.mark.timeout(900)
WORKLOADS = ["T1_o32", "T7_o192", "T14_o0"]
OPTED_IN = "BAKEOFF_KILLS" in os.environ
Undo = Callable[[], object]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str], bytes]:
    """Solutions, environment and traces of a run on the test double that nothing disturbs."""

    def make(folder: Path) -> None:
        run = make_run(folder, {"honest": None}, workloads=WORKLOADS)
        done = measure(run, env=fake_device(folder))
        assert done.returncode == 0, done.stderr
        assemble_run(run)

    folder = once(tmp_path_factory, "before_faults", make)
    own = tmp_path_factory.mktemp("undisturbed")  # runs are planned from it, which writes beside the solutions
    shutil.copytree(folder / "solutions", own / "solutions", symlinks=True)
    return own / "solutions", fake_device(own), (folder / "run/traces.jsonl").read_bytes()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MB and 4,000 files; skips where none can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m,nr_inodes=4000", "none", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def limit(which: int, value: int) -> Callable[[int, Path], Undo]:
    def apply(process: int, run: Path) -> Undo:
        _, hard = resource.prlimit(process, which)
        resource.prlimit(process, which, (value, hard))
        return lambda: None

    return apply


def fill_bytes(process: int, run: Path) -> Undo:
    with contextlib.suppress(OSError), (run.parent / "large").open("ab") as file:
        while True:
            file.write(bytes(1 << 12))
            file.flush()
    return lambda: (run.parent / "large").unlink(missing_ok=True)


def fill_files(process: int, run: Path) -> Undo:
    (run.parent / "many").mkdir(exist_ok=True)
    with contextlib.suppress(OSError):
        for _ in range(10_000):
            (run.parent / "many" / str(time.monotonic_ns())).touch()
    return lambda: shutil.rmtree(run.parent / "many")


def starve_the_referee(process: int, run: Path) -> Undo:
    (referee,) = (one for one in children_of(process) if Path(f"/proc/{one}/comm").read_text() == "referee\n")
    return limit(resource.RLIMIT_AS, 1 << 20)(referee, run)


FAULTS = {
    "open files": limit(resource.RLIMIT_NOFILE, 8),
    "memory": starve_the_referee,
    "size of files": limit(resource.RLIMIT_FSIZE, 16),
    "disk": fill_bytes,
    "files on the disk": fill_files,
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS if OPTED_IN else ["open files", "disk"])
def test_what_a_host_lacks_is_one_typed_error_and_costs_no_finished_cell(
    small_disk: Path, undisturbed: tuple[Path, dict[str, str], bytes], fault: str
) -> None:
    solutions, env, expected = undisturbed
    for number in range(5):  # what an ended worker gives back may come in time for the little that is left to write
        run = plan_run(small_disk / f"run-{number}", solutions, workloads=WORKLOADS)
        journals = run / "samples/block-00"
        process = subprocess.Popen(
            command("measure", str(run), "--block", "0"), env=environment(env), stderr=subprocess.PIPE, text=True
        )
        while not any(path.stat().st_size for path in journals.glob("*.jsonl")) and process.poll() is None:
            time.sleep(0.01)
        undo = FAULTS[fault](process.pid, run)
        while FAULTS[fault] in (fill_bytes, fill_files) and process.poll() is None:
            undo = FAULTS[fault](process.pid, run)
        _, said = process.communicate(timeout=200)
        kept = {path: path.read_bytes() for path in journals.glob("*.jsonl")}
        undo()
        if process.returncode:
            break
    assert process.returncode == 2 and "finished cells are kept" in said and "Traceback" not in said, said
    assert any(kept.values()) and not (journals / "manifest.json").exists()
    assert_goes_on(run, env, kept, expected)


def test_a_whole_checkout_that_can_only_be_read_is_one_typed_error_and_costs_no_finished_cell(
    small_disk: Path, undisturbed: tuple[Path, dict[str, str], bytes]
) -> None:
    solutions, env, expected = undisturbed
    checkout, hidden = small_disk / "checkout", shutil.ignore_patterns("__pycache__")
    for folder in ("workflow", "config"):
        shutil.copytree(PROJECT_ROOT / folder, checkout / folder, ignore=hidden)
    shutil.copytree(solutions, checkout / "solutions", ignore=hidden)
    run = plan_run(checkout / "results/runs/mine", checkout / "solutions", workloads=WORKLOADS)
    its = {**env, "PYTHONPATH": str(checkout / "workflow")}
    journals = run / "samples/block-00"
    process = subprocess.Popen(command("measure", str(run), "--block", "0"), env=environment() | its)
    while not any(path.stat().st_size for path in journals.glob("*.jsonl")) and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.wait()
    mount(small_disk, "ro")
    kept = {path: path.read_bytes() for path in journals.glob("*.jsonl")}
    assert any(kept.values())
    for words in (("measure", str(run), "--block", "0"), ("assemble", str(run)), ("probe", "-o", f"{run}/other.json")):
        done = subprocess.run(command(*words), env=environment() | its, capture_output=True, text=True, check=False)
        assert done.returncode == 2 and "Read-only file system" in done.stderr, (words, done.stderr)
        assert "Traceback" not in done.stderr and ("finished cells are kept" in done.stderr or words[0] != "measure")
    mount(small_disk, "rw")
    assert {path: path.read_bytes() for path in journals.glob("*.jsonl")} == kept
    assert_goes_on(run, its, kept, expected)


def assert_goes_on(run: Path, env: dict[str, str], kept: dict[Path, bytes], expected: bytes) -> None:
    """The same command again keeps every finished line, and ends with the traces of an undisturbed run."""
    done = measure(run, env=env)
    assert done.returncode == 0, done.stderr
    for path, content in kept.items():
        assert path.read_bytes().startswith(content[: content.rfind(b"\n") + 1])
    assemble_run(run)
    assert (run / "traces.jsonl").read_bytes() == expected


def mount(disk: Path, how: str) -> None:
    """Let a file system be written (rw) or only read (ro); what was killed may hold a file open for a moment."""
    for _ in range(100):
        done = subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        time.sleep(0.1)
    raise AssertionError(done.stderr)


# `bakeoff measure` with a short limit for starting.
SHORT = """
import sys
from bakeoff.core import policy
from bakeoff.cli import main
policy.START_FORKED_S = 2.0
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("device", ["cpu", "fake"] if OPTED_IN else ["cpu"])
def test_a_worker_that_stops_while_it_starts_is_timed_out_and_costs_its_own_cells(tmp_path: Path, device: str) -> None:
    attack = "import os\nos.kill(os.getpid(), 19)\n\n\ndef run_with(honest, *arguments):\n    honest(*arguments)\n"
    run = make_run(tmp_path, {"stops": attack, "honest": None}, timeout_s=5)
    env = environment(fake_device(tmp_path) if device == "fake" else None)
    words = ("measure", str(run), "--block", "0")
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-c", SHORT, *words], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    stopped = records(run, "stops")
    assert {(one.outcome, one.reason) for one in stopped} == {(Outcome.TIMEOUT, Reason.HANG)} and len(stopped) == 2
    for name in ("honest", "reference"):
        assert [one.outcome for one in records(run, name)] == [Outcome.PASSED] * 2
    assert time.monotonic() - begun < 60 + 30 * os.getloadavg()[0]
