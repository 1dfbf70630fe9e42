"""Steps as jobs of a Slurm cluster: what is refused before the first job, and what is said of jobs, with a double of
Slurm's sinfo. `make test-slurm` starts a real cluster."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest
from bakeoff import cluster
from bakeoff.cluster import Asked, Node
from bakeoff.config import Config, resolve_for_jobs
from bakeoff.errors import InputError
from bakeoff.failures import JobWording
from support.checkout import SMALL, Checkout
from support.measure_runs import environment

# What `sinfo` says: partition, node, state, features, gres, memory (MB), time limit.
SINFO = """\
gpu*|node1|idle|h100,ib|gpu:h100:8(S:0-1)|512000|1-00:00:00
gpu*|node2|drained|h100|gpu:h100:8(S:0-1)|512000|1-00:00:00
gpu*|node3|mixed|a100|gpu:a100:4|256000|1-00:00:00
long|node3|mixed|a100|gpu:a100:4|256000|infinite
cpu|node4|idle|(null)|(null)|64000|2:00:00
"""


@pytest.fixture
def sinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A double of sinfo; the file that it prints."""
    (tmp_path / "bin").mkdir()
    said = tmp_path / "said"
    said.write_text(SINFO)
    program = tmp_path / "bin/sinfo"
    program.write_text(
        f"#!/bin/sh\n[ -s {said} ] && exec cat {said}\necho 'Unable to contact slurm controller' >&2\nexit 1\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return said


def test_nodes_are_read_with_their_gpus_and_limits(sinfo: Path) -> None:
    nodes = [Node.of(line) for line in SINFO.splitlines()]
    assert [(node.partition, node.is_default, node.gpus, node.limit) for node in nodes] == [
        ("gpu", True, {"h100": 8}, 1440),
        ("gpu", True, {"h100": 8}, 1440),
        ("gpu", True, {"a100": 4}, 1440),
        ("long", False, {"a100": 4}, None),
        ("cpu", False, {}, 120),
    ]
    assert nodes[0].features == {"h100", "ib"} and nodes[4].features == frozenset()


@pytest.mark.parametrize(
    ("asked", "found", "expected"),
    [
        (Asked("measure", partition="gone"), "slurm_partition\n  found:    gone", "cpu, gpu, long"),
        (Asked("measure", gpu=1, gpu_model="h200"), "gpu_model\n  found:    h200", "a100, h100"),
        (Asked("measure", partition="cpu", gpu=1), "gpu\n  found:    1", "a node with 1 GPU"),
        (Asked("measure", constraint="h100&b200"), "constraint\n  found:    b200", "a100, h100, ib"),
        (Asked("measure", constraint="a100&ib"), "constraint\n  found:    a100&ib", "have|has together"),
        (Asked("measure", mem_mb=600_000), "mem_mb\n  found:    600000", "at most 512000"),
        (Asked("measure", partition="cpu", runtime=121), "runtime\n  found:    121", "at most 120 minutes"),
    ],
)
def test_what_no_node_can_run_is_refused_with_what_there_is(
    sinfo: Path, asked: Asked, found: str, expected: str
) -> None:
    with pytest.raises(InputError, match=rf"(?s)step measure: {found}.*expected: .*(?:{expected}).*to do: .*profile"):
        cluster.require_possible([asked])


@pytest.mark.parametrize(
    "asked",
    [
        Asked("measure"),
        Asked("measure", gpu=1, gpu_model="a100", constraint="a100", mem_mb=256_000, runtime=1440),
        Asked("measure", constraint="[h100|b100]"),
        Asked("measure", partition="long", runtime=99_999),
    ],
)
def test_what_a_node_can_run_is_let_through(sinfo: Path, asked: Asked) -> None:
    if "b100" in asked.constraint:
        with pytest.raises(InputError, match="b100"):
            cluster.require_possible([asked])
    else:
        assert cluster.require_possible([asked]) == []


def test_jobs_that_only_nodes_out_of_service_can_run_are_named(sinfo: Path) -> None:
    sinfo.write_text(SINFO.replace("idle|h100", "down*|h100"))
    (said,) = cluster.require_possible([Asked("measure", gpu_model="h100"), Asked("probe", gpu_model="a100")])
    assert said.startswith("measure waits") and said.endswith("node1 down*, node2 drained")


def test_a_cluster_that_does_not_answer_is_no_login_node(sinfo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sinfo.write_text("")
    with pytest.raises(InputError, match="Unable to contact slurm controller"):
        cluster.require_possible([])
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InputError, match=r"(?s)No such file.*expected: a login node"):
        cluster.require_possible([])


def test_a_second_snakemake_for_a_run_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    run = tmp_path / "results/runs/one"
    first = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time; from pathlib import Path; from bakeoff import cluster\n"
            "with cluster.hold_run(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)",
            str(run),
        ],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert first.stdout and first.stdout.readline() == "held\n"
        words = rf"(?s)found:    process {first.pid} on .*the run one\n.*run=NAME"
        with pytest.raises(InputError, match=words), cluster.hold_run(run):
            pass
        with cluster.hold_run(run.with_name("other")):
            pass
    finally:
        first.kill()
        first.wait()
    with cluster.hold_run(run):  # whatever ended it
        pass


def record(message: str, level: int = logging.INFO, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("snakemake", level, __file__, 1, message, None, None)
    made.__dict__.update(fields)
    return made


def test_jobs_are_told_of_from_queue_to_end(tmp_path: Path) -> None:
    wording, said = JobWording(), []
    job = {"jobid": 3, "rule_name": "measure", "wildcards": {"block": "07"}}
    local = {"jobid": 4, "rule_name": "plan", "wildcards": {}}
    log = tmp_path / "job.log"
    log.write_text("the end\n")
    died = "SLURM-job '12' failed, SLURM status is: 'TIMEOUT'. Detailed failure reason unavailable"
    for one in (
        record("", event="job_info", local=True, **local),
        record("", event="job_finished", job_id=4),
        record("", event="progress", done=1, total=5),
        record("", event="job_info", local=False, **job),
        record(f"Job 3 has been submitted with SLURM jobid 12 (log: {Path.cwd()}/x/12.log)."),
        record("", event="job_finished", job_id=3),
        record("", event="progress", done=2, total=5),
        record("", logging.ERROR, event="job_error", rule_name="measure", rule_msg=died, log=[str(log)]),
    ):
        if wording.is_news(one):
            said.append(wording.format(one))
    assert said[:2] == ["measure     07  is Slurm job 12; what it says: x/12.log", "measure     07  done, 2 of 5 steps"]
    assert re.search(r"(?s)the step measure failed.*'TIMEOUT'.*to do: .*raise the step's `runtime`.*the end", said[2])
    assert len(said) == 3


@pytest.mark.parametrize("status", [*cluster.HINTS, "DEADLINE"])
def test_every_end_of_a_job_comes_with_what_to_do(status: str) -> None:
    assert cluster.hint(f"SLURM-job '1' failed, SLURM status is: '{status}'. ")
    assert cluster.hint("some other failure") is None


def test_jobs_need_a_backend_by_name_and_both_halves_of_the_profile(checkout: Checkout) -> None:
    with pytest.raises(InputError, match="auto, and jobs of a cluster measure"):
        resolve_for_jobs(Config(cluster=True))
    # No GPU is asked for here: whether a node has one is its job's to say.
    assert resolve_for_jobs(Config(cluster=True, backend="sm_100a")).blocks == 10
    done = checkout.snakemake("results/verdict.txt", config=[*SMALL, "cluster=true", "backend=cpu"], check=False)
    assert done.returncode == 2 and "give `--profile profiles/slurm`" in done.stderr, done.stderr
    words = ("results/runs/cpu/traces.jsonl", "-n", "-p", "--latency-wait", "77", "--quiet", "host")
    shown = checkout.snakemake(*words, config=[*SMALL, "cluster=true", "backend=cpu"])
    assert "assemble results/runs/cpu --wait 77 " in shown.stdout + shown.stderr
