"""The workflow among others: in and from any folder, as a module, beside other runs, in Snakemake's own report."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from bakeoff.files import PROJECT_ROOT
from support.checkout import Checkout, copy_of, copy_project
from support.once import once

# Signs that mean something to a shell, to make, to Snakemake or in a link.
ODD = "a b (c) & 'd' {e} ü"
ONE = ["solutions=[triton_fused_moe_v2]", "workloads=[T1_o32]", "families=[fib]", "compile=[]"]
RECORDED = "2026 #1 & 'x' (ü)"
SMALLEST = PROJECT_ROOT / "results/recorded/2026-11-23_h200_2"


@pytest.fixture(scope="session")
def odd(finished: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A finished run in a folder with an odd name, beside: a recorded run with one, runs of another version, and the
    verdict of an earlier run. Made once for all processes; tests must not change it."""
    return Checkout(once(tmp_path_factory, "odd", lambda folder: run_oddly(finished, folder)) / ODD)


@pytest.fixture
def changing(odd: Checkout, tmp_path: Path) -> Checkout:
    """A copy of it that a test may change."""
    return copy_of(odd, tmp_path / ODD)


def run_oddly(finished: Checkout, folder: Path) -> None:
    made = copy_of(finished, folder / ODD, runs=False)
    results = made.root / "results"
    shutil.copytree(SMALLEST, results / "recorded" / RECORDED)
    shutil.copytree(results / "recorded" / RECORDED, results / "recorded/of_old")
    spoil_schema(results / "recorded/of_old/config.json")
    (results / "recorded/{wild}").mkdir()
    (results / "recorded/{wild}/config.json").write_text("{}")
    old = results / "runs/old"
    (old / "report").mkdir(parents=True)
    (old / "report/report.html").write_text("<p>an older run</p>\n")
    shutil.copy(results / "recorded" / RECORDED / "analysis.json", old)
    spoil_schema(old / "analysis.json")
    (results / "verdict.txt").write_text("76/76 cells PASSED; of an earlier run\n")
    (results / "said.txt").write_text(made.snakemake(config=ONE).stderr)


def spoil_schema(path: Path) -> None:
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "schema": "bakeoff/other/0"}))


def links(page: Path) -> list[str]:
    """The files that a page links to, decoded."""
    found: list[str] = []

    class Links(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            found.extend(value for name, value in attributes if name == "href" and value)

    Links().feed(page.read_text())
    local = (link.split("#")[0] for link in found if "://" not in link and not link.startswith("#"))
    return sorted({unquote(link) for link in local if link})


@pytest.mark.slow
def test_a_run_in_a_folder_with_an_odd_name_passes(odd: Checkout) -> None:
    for verdict in ("results/runs/cpu/verdict.txt", "results/verdict.txt"):
        assert (odd.root / verdict).read_text().startswith("1/1 cells PASSED")
    assert (odd.root / "results/verdict.txt").read_text().endswith("; run cpu\n")


@pytest.mark.slow
def test_links_to_odd_names_lead_to_their_files(odd: Checkout) -> None:
    for index in ("results/index.html", "results/runs/cpu/index.html"):
        page = odd.root / index
        found = links(page)
        assert any(RECORDED in link for link in found)
        assert [link for link in found if not (page.parent / link).exists()] == []


@pytest.mark.slow
def test_runs_of_another_version_are_left_out_with_a_word(odd: Checkout) -> None:
    said = (odd.root / "results/said.txt").read_text()
    assert "'results/recorded/of_old' is left out: another version of bakeoff made it" in said
    assert "'results/recorded/{wild}' is left out: braces or a control character in its name" in said
    assert "left out of the landing page: results/runs/old/analysis.json" in said
    assert "runs/old" not in (odd.root / "results/index.html").read_text()


@pytest.mark.slow
def test_two_runs_keep_their_own_pages(changing: Checkout) -> None:
    """The second run is the first one's folder under another name, so that nothing but the pages is due."""
    first = changing.root / "results/runs/cpu"
    second = shutil.copytree(first, changing.root / "results/runs/second", ignore=shutil.ignore_patterns("verdict.txt"))
    before = (first / "verdict.txt").read_bytes(), (first / "index.html").read_bytes()
    changing.snakemake(config=[*ONE, "run=second"])
    assert ((first / "verdict.txt").read_bytes(), (first / "index.html").read_bytes()) == before
    assert (second / "verdict.txt").read_text().startswith("1/1 cells PASSED")
    assert (changing.root / "results/verdict.txt").read_text().endswith("; run second\n")
    assert "runs/cpu/report/report.html" in links(changing.root / "results/index.html")


@pytest.mark.slow
def test_a_verdict_does_not_outlive_its_run(changing: Checkout) -> None:
    verdicts = [changing.root / "results/verdict.txt", changing.root / "results/runs/cpu/verdict.txt"]
    traces = changing.root / "results/runs/cpu/traces.jsonl"
    whole = traces.read_bytes()
    traces.write_text("{}\n")
    assert changing.snakemake(config=ONE, check=False).returncode == 1
    assert [path for path in verdicts if path.exists()] == []
    traces.write_bytes(whole)
    changing.snakemake(config=ONE)
    assert all(path.exists() for path in verdicts)


@pytest.mark.slow
def test_snakemakes_own_report_holds_the_pages(changing: Checkout, tmp_path: Path) -> None:
    changing.snakemake("--report", str(tmp_path / "report.zip"), config=ONE)
    with zipfile.ZipFile(tmp_path / "report.zip") as archive:
        pages = [archive.read(name) for name in archive.namelist() if name.endswith("report.html")]
    committed = changing.files("results/rendered/*/report.html").values()
    assert {(changing.root / "results/runs/cpu/report/report.html").read_bytes(), *committed} <= set(pages)


OUTER = """
rule all:
    input: "blocks.txt", "name_extra.txt"

module bakeoff:
    snakefile: {snakefile!r}
    config: config["bakeoff"]
    prefix: "kernels"

use rule * from bakeoff as bakeoff_*

rule blocks:
    input: "kernels/results/runs/cpu/config.json"
    output: "blocks.txt"
    shell: "echo \\"${{{{RUN-unset}}}} ${{{{PYTHONPATH-unset}}}} $(type -t bakeoff || echo none)\\" > {{output}}"

rule anything:
    output: "{{block}}_{{id}}.txt"
    shell: "touch {{output}}"
"""


@pytest.mark.parametrize("snakefile", ["Snakefile", "workflow/Snakefile"])
def test_another_workflow_uses_this_one_as_a_module(checkout: Checkout, tmp_path: Path, snakefile: str) -> None:
    """A workflow of three rules with wildcards of the same names, and a prefix; without any other trace of this one."""
    outer = tmp_path / "outer"
    outer.mkdir()
    (outer / "Snakefile").write_text(OUTER.format(snakefile=str(checkout.root / snakefile)))
    settings = dict(one.split("=") for one in ONE)
    (outer / "config.json").write_text(
        json.dumps(
            {"bakeoff": {key: value.strip("[]").split(",") if value != "[]" else [] for key, value in settings.items()}}
        )
    )

    def snakemake(*words: str) -> str:
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        command = [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", "config.json", *words]
        done = subprocess.run(command, cwd=outer, env=environment, text=True, capture_output=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    if snakefile == "workflow/Snakefile":  # what follows is the same for both
        assert "bakeoff_plan" in snakemake("-n")
        return
    verdicts = [outer / "kernels/results" / name for name in ("verdict.txt", "runs/cpu/verdict.txt")]
    verdicts[1].parent.mkdir(parents=True)
    for path in verdicts:
        path.write_text("76/76 cells PASSED; of an earlier run\n")
    snakemake()
    assert [path for path in verdicts if path.exists()] == []
    assert (outer / "blocks.txt").read_text() == "unset unset none\n"
    assert json.loads((outer / "kernels/results/runs/cpu/config.json").read_text())["backend"] == "cpu"
    assert "Nothing to be done" in snakemake("-n")
    source = sorted((checkout.root / "workflow/bakeoff").rglob("reference.py"))[0]
    source.write_text(source.read_text() + "#\n")
    assert "bakeoff_plan" in snakemake("-n")


def test_results_appear_where_snakemake_is_told_to_run(checkout: Checkout) -> None:
    """In a folder with a configuration of its own, which is also the one that the workflow catalog looks for."""
    checkout.run("snakemake", "--cores", "2", "--directory", ".test", "results/runs/test/config.json")
    plan = json.loads((checkout.root / ".test/results/runs/test/config.json").read_text())
    assert [workload["id"] for workload in plan["workloads"]] == ["T1_o32", "T7_o192"]
    assert not (checkout.root / "results/runs").exists()


def test_a_folder_without_a_configuration_takes_the_checkouts(checkout: Checkout, tmp_path: Path) -> None:
    done = checkout.snakemake("-n", "--directory", str(tmp_path / "elsewhere"))
    assert "measure" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("run: x\nblocks: [1\ntimeout_s: 3\n", "line 3"),
        ("run: x\n\tblocks: 1\n", "line 2"),
        ("- run\n- x\n", "a YAML mapping"),
        ("block: 1\n", "did you mean blocks?"),
    ],
)
def test_a_configuration_that_cannot_be_read_is_named(checkout: Checkout, text: str, words: str) -> None:
    (checkout.root / "config/config.yaml").write_text(text)
    done = checkout.run("snakemake", "-n", "--cores", "1", check=False)
    assert done.returncode == 2
    assert "config/config.yaml" in done.stderr and words in done.stderr
    assert "found:" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("words", ["--profile profiles/hopper", "--configfile=profiles/hopper/config.yaml"])
def test_a_further_configuration_that_cannot_be_read_is_named(checkout: Checkout, words: str) -> None:
    with (checkout.root / "profiles/hopper/config.yaml").open("a") as file:
        file.write("blocks: [1\n")
    done = checkout.run("snakemake", "-n", "--cores", "1", *words.split(), check=False)
    assert done.returncode == 2
    assert "bakeoff: profiles/hopper/config.yaml\n" in done.stderr and "line 4" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_configuration_without_a_key_is_that_of_the_defaults(checkout: Checkout) -> None:
    (checkout.root / "config/config.yaml").write_text("# nothing\n")
    checkout.run("snakemake", "-n", "--cores", "1")


def test_an_unwritable_cache_folder_stops_nothing(checkout: Checkout) -> None:
    (checkout.root / "file").write_text("no folder\n")
    nowhere = {"XDG_CACHE_HOME": str(checkout.root / "file/cache"), "HOME": str(checkout.root / "file/home")}
    checkout.snakemake("-n", env=nowhere)
    checkout.snakemake("-n", env={"XDG_CACHE_HOME": "", "HOME": "/proc/nowhere"})


@pytest.mark.parametrize(("name", "words"), [("a:b", "a colon"), ("{a}", "braces")])
def test_a_checkout_that_rules_could_not_name_is_refused(tmp_path: Path, name: str, words: str) -> None:
    """Braces only from another folder: in the checkout, rules name its files without them."""
    checkout = copy_project(tmp_path / name)
    done = checkout.snakemake("-n", "--directory", str(tmp_path / "elsewhere"), check=False)
    assert done.returncode == 2 and words in done.stderr and name in done.stderr and "Traceback" not in done.stderr


@pytest.fixture
def summary(tmp_path: Path) -> Callable[[], str]:
    """The job summary of a folder with the script and results of its own."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(PROJECT_ROOT / ".ci/summary.sh", tmp_path / ".ci")

    def make() -> str:
        page = tmp_path / "summary.md"
        page.unlink(missing_ok=True)
        environment = {**os.environ, "GITHUB_STEP_SUMMARY": str(page)}
        subprocess.run([tmp_path / ".ci/summary.sh"], cwd=tmp_path, env=environment, check=True)
        return page.read_bytes().decode()

    return make


def run_folder(at: Path, name: str, **files: str) -> Path:
    folder = at / "results/runs" / name
    for path, text in files.items():
        file = folder / path.replace("__", "/").replace("_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


def test_a_long_summary_ends_at_a_line_below_the_limit(tmp_path: Path, summary: Callable[[], str]) -> None:
    run_folder(
        tmp_path,
        "big",
        verdict_txt="9/9\n",
        report__report_md="".join(f"| {'ü' * (n % 97)} {n} |\n" for n in range(32_000)),
    )
    page = summary()
    assert 900_000 < len(page.encode()) <= 1024 * 1024
    assert page.startswith("9/9\n") and page.endswith(" |\n")


def test_the_summary_is_of_the_newest_run_even_if_that_did_not_finish(
    tmp_path: Path, summary: Callable[[], str]
) -> None:
    done = run_folder(
        tmp_path,
        "done",
        verdict_txt="9/9\n",
        report__report_md="of before\n",
        traces_jsonl="",
        comparison_txt="slower\n",
    )
    for path in done.rglob("*"):
        os.utime(path, (1, 2 if path.name == "comparison.txt" else 1))
    assert "9/9\n" in summary() and "slower" in summary()
    os.utime(done / "traces.jsonl", (3, 3))
    assert "slower" not in summary()
    run_folder(tmp_path, "broken", logs__plan_log="no\n")
    assert summary().startswith("No verdict") and "of before" not in summary()
