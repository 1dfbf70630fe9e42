"""`make test-slurm`: a run of ten blocks on a Slurm cluster of four virtual nodes, and what goes wrong on clusters; and
`make smoke-slurm`: a block on one node."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.checkout import SMALL, Checkout, copy_project

KIND = os.environ.get("BAKEOFF_SLURM", "")
pytestmark = [
    pytest.mark.skipif(not KIND, reason="starts a Slurm cluster on this machine: `make test-slurm`"),
    pytest.mark.timeout(600 if KIND == "smoke" else 3600),
]
RUN, BLOCKS = "results/runs/slurm", 10
CLUSTER = Path(__file__).with_name("cluster.sh")
# Sums over one thread: their last digits depend on how many there are.
SAME = [*SMALL, "backend=cpu", "threads=1"]
CONFIG = [*SAME, f"blocks={BLOCKS}", "run=slurm"]
ASKED = ["--profile", "profiles/slurm", "--cores", "2", "--set-threads", "measure=1", "probe=1"]
# The plugin looks after jobs after a second, and waits ten seconds longer before each further look.
SOON = ["--slurm-init-seconds-before-status-checks", "1", "--seconds-between-status-checks", "1"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Four nodes; with BAKEOFF_SLURM=accounting, and slurmdbd; with BAKEOFF_SLURM=smoke, one node, and a host that
    cannot start Slurm is said, not failed: it may lack rights that a container can be without."""
    folder, nodes = tmp_path_factory.mktemp("slurm"), "1" if KIND == "smoke" else "4"
    words = [CLUSTER, "start", folder, *([KIND] if KIND == "accounting" else [])]
    started = subprocess.run(words, env={**os.environ, "NODES": nodes}, check=KIND != "smoke", timeout=300)
    if started.returncode:
        pytest.skip(f"Slurm does not start on this host: {CLUSTER.name} ended with {started.returncode}, see above")
    yield folder
    subprocess.run([CLUSTER, "stop", folder], check=True, timeout=60)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return copy_project(tmp_path_factory.mktemp("run") / "checkout")


class Submitted:
    """A Snakemake on the login node, and what it says."""

    def __init__(self, checkout: Checkout, *words: str, config: list[str] = CONFIG) -> None:
        self.said: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "snakemake", *words, *ASKED, *SOON, "--config", *config],
            cwd=checkout.root,
            env=checkout.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # A shell's background job ignores Ctrl-C, and so would this one.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            print(time.strftime("%H:%M:%S"), line, end="", flush=True)
            self.said.append(line)

    def wait(self) -> int:
        code = self.process.wait()
        self._reader.join()
        return code

    def jobs(self, step: str) -> list[str]:
        return re.findall(rf"^{step}\b.* is Slurm job (\d+)", "".join(self.said), re.MULTILINE)


def slurm(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def until(what: str, found: object) -> None:
    """Wait until the function `found` returns something true."""
    for _ in range(600):
        if found():  # type: ignore[operator]
            return
        time.sleep(0.5)
    raise AssertionError(f"{what} did not come")


def lines(checkout: Checkout, run: str = RUN) -> list[dict[str, object]]:
    """All journal lines of a run."""
    found = sorted((checkout.root / run / "samples").glob("block-*/*.jsonl"))
    return [json.loads(line) for path in found for line in path.read_text().splitlines(keepends=False) if line]


def figures(root: Path) -> list[dict[str, object]]:
    """What the gates found, of every cell."""
    return [json.loads(line) for line in (root / "verification.jsonl").read_text().splitlines()]


def judged(record: dict[str, object]) -> list[object]:
    """What a record says of correctness."""
    return [record.get(name) for name in ("outcome", "gates", "numerics")]


@pytest.mark.skipif(KIND != "smoke", reason="part of the whole run")
def test_a_block_on_one_node(cluster: Path, checkout: Checkout) -> None:
    config = ["solutions=[triton_fused_moe_v2]", "workloads=[T1_o32]", "families=[fib]", "blocks=1", "compile=[]"]
    login = Submitted(checkout, f"{RUN}/traces.jsonl", config=[*config, "backend=cpu", "run=slurm"])
    assert login.wait() == 0
    assert len(login.jobs("probe")) == len(login.jobs("measure")) == 1, "each is a job, and no job ran twice"
    assert json.loads((checkout.root / RUN / "samples/block-00/host.json").read_text())["node"] == "node1"
    (trace,) = [json.loads(line) for line in (checkout.root / RUN / "traces.jsonl").read_text().splitlines()]
    assert trace["evaluation"]["status"] == "PASSED"


@pytest.mark.skipif(KIND == "smoke", reason="minutes")
def test_a_run_over_nodes_is_the_local_run_whatever_happens(cluster: Path, checkout: Checkout) -> None:
    login = Submitted(checkout)
    try:
        until("a first finished cell", lambda: lines(checkout))
        # A job dies in mid-block, one is put back into the queue, and a node goes out of service with what it runs.
        running = slurm("squeue", "-h", "-t", "R", "-o", "%i %N %k").splitlines()
        blocks = [line.split()[:2] for line in running if "measure" in line]
        killed = blocks[0][0]
        slurm("scancel", "--signal=KILL", "--full", killed)
        slurm("scancel", killed)
        drained = "node3"
        slurm("scontrol", "update", f"nodename={drained}", "state=drain", "reason=test")
        if len(blocks) > 1:
            slurm("scontrol", "requeue", blocks[1][0])
        until("the killed job's failure", lambda: any("step measure failed" in line for line in login.said))
        # The login node goes, too: the same command goes on.
        login.process.send_signal(signal.SIGINT)
        login.wait()
        slurm("scancel", "--user", slurm("id", "-un").strip())
        until("an empty queue", lambda: not slurm("squeue", "-h"))
        kept = Counter(str((one["block"], one["key"])) for one in lines(checkout))
        assert not (checkout.root / RUN / "verdict.txt").exists()

        login = Submitted(checkout)
        assert login.wait() == 0
        slurm("scontrol", "update", f"nodename={drained}", "state=resume")
    finally:
        login.process.kill()
    said = "".join(login.said)
    assert "cells PASSED, each on 2 sets of values; cpu backend: correctness only; run slurm" in said
    assert re.search(r"^measure +\d\d  done, \d+ of \d+ steps$", said, re.MULTILINE)

    # Every cell once, in every block, and none that was finished twice.
    records = lines(checkout)
    every = Counter(str((one["block"], one["key"])) for one in records)
    assert set(every.values()) == {1} and kept.keys() <= every.keys() and 0 < len(kept) < len(every)
    hosts = [json.loads(path.read_text()) for path in (checkout.root / RUN / "samples").glob("*/host.json")]
    nodes = Counter(host["node"] for host in hosts)
    assert len(hosts) == BLOCKS and len(nodes) > 1 and len({host["fingerprint"] for host in hosts}) == 1
    print("blocks by node:", dict(nodes), "cells kept over the interruption:", len(kept), "of", len(every))

    # One block alone, since every block must say the same of a cell.
    local = copy_project(checkout.root.parent / "local")
    own = "results/runs/local"
    local.snakemake(f"{own}/traces.jsonl", config=[*SAME, "run=local", "blocks=1"])
    here, there = local.root / own, checkout.root / RUN
    assert figures(here) == figures(there)
    expected = {one["key"]: judged(one) for one in lines(local, own)}
    assert [judged(one) for one in records] == [expected[one["key"]] for one in records]
    cells = [{cell["key"] for cell in json.loads((run / "config.json").read_text())["cells"]} for run in (here, there)]
    assert cells[0] == cells[1]
    shutil.rmtree(local.root)


@pytest.mark.skipif(KIND != "plain", reason="said once")
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (
            "slurm_partition=nowhere",
            "step measure: slurm_partition\n  found:    nowhere, which no node has\n  expected: .*gpu",
        ),
        ("constraint=h999", "step measure: constraint\n  found:    h999, .*\n  expected: .*a100, h100"),
        ("gpu_model=h999", "step measure: gpu_model\n  found:    h999, .*\n  expected: .*a100, h100"),
        ("mem_mb=9000000", "step measure: mem_mb\n  found:    9000000"),
        ("runtime=99999", "step measure: runtime\n  found:    99999, .*\n  expected: .*180 minutes"),
    ],
)
def test_what_the_cluster_does_not_have_is_refused(cluster: Path, checkout: Checkout, wrong: str, words: str) -> None:
    login = Submitted(checkout, "--set-resources", f"measure:{wrong}", config=[*SAME, "run=other"])
    assert login.wait() == 2 and re.search(words, "".join(login.said)), login.said


@pytest.mark.skipif(KIND != "plain", reason="said once")
def test_a_time_limit_in_mid_block_and_a_second_run_of_the_name_are_said(cluster: Path, checkout: Checkout) -> None:
    config = ["backend=cpu", "run=late", "blocks=1", "compile=[]"]
    login = Submitted(checkout, "--set-resources", "measure:runtime=1", "--restart-times", "0", config=config)
    until("the block", lambda: login.jobs("measure"))
    second = Submitted(checkout, config=config)
    assert second.wait() == 2 and "one Snakemake for a run" in "".join(second.said)
    assert login.wait() == 1
    assert "SLURM status is: 'TIMEOUT'" in "".join(login.said) and "raise the step's `runtime`" in "".join(login.said)
