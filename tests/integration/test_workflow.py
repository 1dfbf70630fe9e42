"""The workflow as a whole, on a small run."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from bakeoff.config import DEFINITIONS
from support.checkout import SMALL, Checkout, copy_of

RUN = "results/runs/cpu"
TRACES = f"{RUN}/traces.jsonl"
PUBLISHED = ("2026-02-04_4way", "2026-02-26_2way", "2026-02-26_4way")


def journal_lines(checkout: Checkout) -> list[dict]:
    text = b"".join(checkout.files(f"{RUN}/samples/*/*.jsonl").values()).decode()
    return [json.loads(line) for line in text.splitlines()]


def cells(checkout: Checkout) -> dict[tuple[str, str], dict]:
    """Per cell what must not depend on how often the run was interrupted: the outcome and the correctness figures."""
    traces = [json.loads(line) for line in (checkout.root / TRACES).read_text().splitlines()]
    return {
        (trace["solution"], trace["workload"]["uuid"]): {
            "status": trace["evaluation"]["status"],
            "correctness": trace["evaluation"]["correctness"],
            "gates": trace["evaluation"]["bakeoff"]["gates"],
        }
        for trace in traces
    }


def test_dry_run_works_in_a_fresh_copy_and_writes_no_results(checkout: Checkout) -> None:
    shown = checkout.run("snakemake", "--cores", "all", "-n")
    assert "measure" in shown.stdout
    assert not (checkout.root / "results/runs").exists()


def test_a_remote_job_which_gets_no_profile_reads_the_workflow(checkout: Checkout) -> None:
    checkout.run("snakemake", "-n", "--workflow-profile", "none", "--cores", "1")


def test_what_is_built_and_measured_comes_from_the_planned_folders(checkout: Checkout, tmp_path: Path) -> None:
    """Another folder of solutions, in which one triples its output, and another of traces, with a workload more."""
    solutions = shutil.copytree(checkout.root / "solutions", tmp_path / "other solutions")
    with (solutions / "triton_fused_moe_v2/cpu.py").open("a") as file:
        file.write("\n_once = run_cpu\n\n\ndef run_cpu(call):\n    _once(call)\n    call.output.mul_(3.0)\n")
    traces = shutil.copytree(checkout.root / "traces", tmp_path / "other traces")
    lines = traces / "workloads/moe" / f"{DEFINITIONS['narrow']}.jsonl"
    added = json.loads(lines.read_text().splitlines()[0])
    added["workload"] |= {"axes": {"seq_len": 3}, "uuid": "00000000-0000-4000-8000-000000000003"}
    added["bakeoff"] = {"seed": 27}
    lines.write_text(lines.read_text() + json.dumps(added) + "\n")
    chosen = ["solutions=[triton_fused_moe_v2]", "workloads=[T3_o32]", "families=[fib]", "compile=[]"]
    roots = [f"solutions_root={solutions}", f"traces_root={traces}"]
    checkout.snakemake(TRACES, f"{RUN}/gate_power.json", config=[*chosen, *roots])
    assert [found["status"] for found in cells(checkout).values()] == ["INCORRECT_NUMERICAL"]
    assert json.loads((checkout.root / RUN / "gate_power.json").read_text())["honest_cells"] == 2


def test_every_cell_passes_and_the_verdict_says_so(finished: Checkout) -> None:
    verdict = (finished.root / "results/verdict.txt").read_text()
    assert verdict.count("\n") == 1
    assert "6/6" in verdict and "PASSED" in verdict
    assert {cell["status"] for cell in cells(finished).values()} == {"PASSED"}


def test_a_published_report_links_to_those_beside_it(finished: Checkout) -> None:
    pages = [(finished.root / f"results/rendered/{name}/report.html").read_text() for name in PUBLISHED]
    near = [re.findall(r'href="\.\./([^/]+)/report\.html" rel="(prev|next)"', page) for page in pages]
    first, second, third = PUBLISHED
    assert near == [[(second, "next")], [(first, "prev"), (third, "next")], [(second, "prev")]]


def test_an_unchanged_run_does_nothing(finished: Checkout) -> None:
    before = finished.files("results/**/*.*")
    again = finished.snakemake("-n")
    assert "Nothing to be done" in again.stdout + again.stderr
    assert finished.files("results/**/*.*") == before


@pytest.fixture(scope="module")
def changed(finished: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The finished run, run again with a byte more in one solution and with one that is new."""
    made = copy_of(finished, tmp_path_factory.mktemp("changed") / "checkout")
    source = made.root / "solutions/triton_fused_moe_v2/cpu.py"
    source.write_text(source.read_text() + "#\n")
    made.bakeoff("new-solution", "my_moe")
    made.snakemake(config=["solutions=[cutedsl_moe_fp8_v3,triton_fused_moe_v2,my_moe]", *SMALL[1:]])
    return made


@pytest.mark.slow
def test_one_changed_byte_in_a_solution_re_measures_its_cells_and_no_others(
    finished: Checkout, changed: Checkout
) -> None:
    before, after = (
        Counter((line["participant"], line["key"]) for line in journal_lines(one)) for one in (finished, changed)
    )
    new = Counter({line: times for line, times in (after - before).items() if line[0] != "my_moe"})
    assert {who for who, _ in new} == {"triton_fused_moe_v2"}
    assert set(new.values()) == {1}
    assert len(new) == sum(1 for who, _ in before if who == "triton_fused_moe_v2")


@pytest.mark.slow
def test_a_new_solution_is_one_row_more_without_touching_code(changed: Checkout) -> None:
    assert "3/3 of peers" in (changed.root / "results/verdict.txt").read_text()
    assert "my_moe" in (changed.root / RUN / "report/report.md").read_text()


@pytest.mark.slow
def test_killed_at_any_moment_and_started_again_it_ends_as_an_undisturbed_run(
    finished: Checkout, tmp_path: Path
) -> None:
    """Snakemake alone, then everything; up to the traces, since pages are made anew from them."""
    killed = copy_of(finished, tmp_path / "checkout", runs=False)
    moments = random.Random(5)
    for whole_group in (False, True):
        child = subprocess.Popen(
            [sys.executable, "-m", "snakemake", "--cores", "2", TRACES, "--config", *SMALL],
            cwd=killed.root,
            env=killed.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(moments.uniform(2, 10))
        if whole_group:
            os.killpg(child.pid, signal.SIGKILL)
        else:
            child.kill()
        child.wait()
    killed.snakemake(TRACES)
    assert cells(killed) == cells(finished)
    repeated = [key for key, count in Counter(line["key"] for line in journal_lines(killed)).items() if count > 1]
    assert not repeated, "a finished cell was measured again"


def test_reports_are_the_same_bytes_in_every_environment_and_place(finished: Checkout, tmp_path: Path) -> None:
    """Analysis and report of the run and of the published table, in two unlike environments, on two paths."""
    moved = copy_of(finished, tmp_path / "elsewhere" / "deeper")
    made = set()
    places = {
        finished: {"PYTHONHASHSEED": "0", "TZ": "UTC", "LC_ALL": "C"},
        moved: {"PYTHONHASHSEED": "3", "TZ": "America/St_Johns", "LC_ALL": "tr_TR.UTF-8"},
    }
    for number, (where, env) in enumerate(places.items()):
        out, calls = tmp_path / f"out{number}", []
        for source in (RUN, "results/published/2026-02-26_4way"):
            document = str(out / Path(source).name / "analysis.json")
            calls += [
                ["analyse", source, "-o", document],
                ["report", document, "-o", str(out / Path(source).name / "report")],
            ]
        program = f"from bakeoff.cli import main\nassert not any(main(call) for call in {calls!r})"
        where.python("-c", program, env=env)
        made.add(tuple((path.relative_to(out).as_posix(), path.read_bytes()) for path in sorted(out.rglob("*.*"))))
    assert len(made) == 1
    assert len(next(iter(made))) > 6


def test_the_result_of_the_workflow_is_what_the_verbs_make(finished: Checkout, tmp_path: Path) -> None:
    finished.bakeoff("report", f"{RUN}/analysis.json", "-o", str(tmp_path), "--home", "../../../index.html")
    assert (tmp_path / "report.html").read_bytes() == (finished.root / RUN / "report/report.html").read_bytes()


@pytest.mark.slow
def test_a_new_workload_is_one_line(finished: Checkout, tmp_path: Path) -> None:
    checkout = copy_of(finished, tmp_path / "checkout", runs=False)
    for path in (checkout.root / "traces/workloads/moe").glob("*.jsonl"):
        lines = path.read_text().splitlines()
        added = json.loads(lines[0])
        added["workload"]["axes"]["seq_len"] = 33
        added["workload"]["uuid"] = "00000000-0000-0000-0000-000000000033"
        del added["bakeoff"]
        path.write_text("\n".join([*lines, json.dumps(added)]) + "\n")
    chosen = ["solutions=[triton_fused_moe_v2]", "workloads=[T33_o32]", "families=[fib]", "compile=[]"]
    checkout.snakemake(TRACES, config=chosen)
    (found,) = cells(checkout).values()
    assert found["status"] == "PASSED"
