"""The commands that a page shows for re-running a cell do what the page says: they are run as they stand there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from bakeoff.files import PROJECT_ROOT
from bakeoff.report.render import render
from bakeoff.report.rerun import check_command, measure_command
from support.checkout import Checkout, copy_of
from support.make import analysed, named
from support.pages import Page, analysis, files


def shown(page: bytes) -> list[str]:
    """The commands of a page, as a reader copies them."""
    return [entry.text for entry in Page.of(page).all("pre")]


@pytest.fixture(scope="module")
def of_cpu() -> list[str]:
    """The commands for a cell of a few tokens."""
    return shown(render(analysed(named("cpu", workloads=[(80, 96)])))["report.html"])


def typed(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A command in a shell in the checkout, with the environment's programs on the PATH."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(folder / "workflow")}
    return subprocess.run(["bash", "-c", command], cwd=folder, env=environment, text=True, capture_output=True)


def test_the_command_that_judges_one_cell_runs_verbatim(of_cpu: list[str]) -> None:
    done = typed(of_cpu[0], PROJECT_ROOT)
    assert done.returncode == 0, done.stderr
    assert "T80_o96" in done.stdout and "2 of 2 cells PASSED" in done.stdout


@pytest.mark.slow
def test_the_command_that_measures_one_cell_runs_verbatim_and_its_report_is_where_the_page_says(
    of_cpu: list[str], finished: Checkout, tmp_path: Path
) -> None:
    checkout = copy_of(finished, tmp_path / "checkout", runs=False).root
    done = typed(of_cpu[1], checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1/1" in (checkout / "results/verdict.txt").read_text()
    text = (checkout / "results/runs/one_cell/report/report.html").read_text()
    assert "T80_o96" in text and "cutedsl_moe_fp8_v3_2" not in text


def test_a_published_page_shows_how_its_figures_are_recomputed(tmp_path: Path) -> None:
    analyse, audit, check = shown(files("2026-02-26_4way")["report.html"])[0].splitlines()
    done = typed(analyse.replace("-o analysis.json", f"-o {tmp_path}/analysis.json") + "; " + audit, PROJECT_ROOT)
    assert done.returncode == 0 and "12 CONTRADICTED" in done.stdout and (tmp_path / "analysis.json").is_file()
    assert check == "bakeoff check flashinfer_moe --workload T14107_o32 --backend sm_100a"


def test_a_command_names_what_the_verb_would_not_take_by_itself() -> None:
    plain = analysis("four").run.model_copy(update={"seeds": [2]})
    assert check_command(plain, "a", "T1_o0") == "bakeoff check a --workload T1_o0 --backend sm_90a"
    changes = {"seeds": [7], "definition": "gemm", "dataset": "public", "other_protocols": ["fib-0.1.2"]}
    other = plain.model_copy(update=changes)
    assert check_command(other, "a", "T1_o0").endswith("--definition gemm --seed 7 --dataset PATH_OF_flashinfer-trace")
    assert "'protocols=[robust,fib-0.1.2]'" in measure_command(other, "a", "T1_o0")
    assert measure_command(other, "a", "T1_o0").endswith("dataset=PATH_OF_flashinfer-trace")
    assert "dataset" not in measure_command(plain, "a", "T1_o0")
