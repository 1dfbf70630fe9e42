"""docs/architecture.md against the code: packages import only those above them, what is asked for is where the page
says, and the pipeline runs as it says."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest
from bakeoff.build.spec import discover
from bakeoff.cli import VERBS
from bakeoff.files import PROJECT_ROOT
from support.checkout import Checkout

PACKAGE = PROJECT_ROOT / "workflow/bakeoff"
PAGE = (PROJECT_ROOT / "docs/architecture.md").read_text()


def packages() -> list[set[str]]:
    """The rows of the page's table, from the top."""
    table = PAGE.split("## Packages")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return [set(re.findall(r"`(\w+)/?`", row)) for row in rows]


def imports(source: str) -> Iterator[str]:
    """Packages and modules of the package that a source imports, also inside functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("bakeoff."))


@pytest.mark.parametrize(
    "source",
    [
        "import bakeoff.report",
        "import os, bakeoff.report.render as render",
        "from bakeoff import report",
        "from bakeoff.report import render",
        "def f():\n    from bakeoff.report.render import page",
    ],
)
def test_an_import_is_seen_in_every_form(source: str) -> None:
    assert list(imports(source)) == ["report"]


def test_every_package_and_module_stands_on_the_page() -> None:
    there = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert there - {"__init__", "__main__", "generate"} == set().union(*packages())


def test_a_package_imports_only_those_above_it() -> None:
    level = {name: number for number, row in enumerate(packages()) for name in row}
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        allowed = {"config"} if path.name == "verbs.py" else set()
        for other in set(imports(path.read_text())) - allowed - {own, "__version__"}:
            if own in level and level.get(other, -1) > level[own]:
                found.append(f"{path.relative_to(PACKAGE)} imports {other}")
    assert not found


def answers() -> dict[str, list[tuple[str, list[str]]]]:
    """Question -> files, each with the names that are to be found there."""
    table = PAGE.split("## Where is …?")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| Where")]
    found = {}
    for question, places in rows:
        spans = [re.findall(r"`([^`]+)`", place) for place in places.split("; ")]
        found[question] = [(file, names) for file, *names in spans]
    return found


def test_no_name_of_a_class_stands_twice() -> None:
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")]
    names = [node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)]
    assert sorted(name for name in names if names.count(name) > 1 and not name.startswith("_")) == []


def test_ten_questions_where_something_is_have_their_answer_on_the_page() -> None:
    assert len(answers()) == 10


@pytest.mark.parametrize("question", answers())
def test_what_is_asked_for_is_where_the_page_says(question: str) -> None:
    for file, names in answers()[question]:
        path = PROJECT_ROOT / file if file.startswith("tests/") else PACKAGE / file
        text = path.read_text()
        assert names or path.suffix == ".yaml"
        defined = re.findall(r"^ *(?:def|class) (\w+)|^(\w+)(?:: [^=\n]+)? =", text, flags=re.MULTILINE)
        assert set(names) <= {name for pair in defined for name in pair}, f"{file}: {names}"


@pytest.mark.slow
def test_the_pipeline_runs_without_snakemake_as_the_page_says(checkout: Checkout) -> None:
    """The page's commands, on two solutions and two workloads, and mutants on one of them."""
    for spec in discover(checkout.root / "solutions"):
        if spec.name not in ("triton_fused_moe_v2", "deepgemm_moe"):
            shutil.rmtree(checkout.root / "solutions" / spec.name)
    script = PAGE.split("## The same without Snakemake")[1].split("```sh\n")[1].split("```")[0]
    called = re.findall(r"^ *bakeoff ([a-z-]+)", script, flags=re.MULTILINE)
    assert called == sorted(called, key=list(VERBS).index), "the order of `bakeoff --help`"
    config = checkout.root / "config/config.yaml"
    config.write_text(config.read_text().replace("workloads: all", "workloads: [T1_o32, T7_o192]"))
    script = script.replace("bakeoff gate-power", "bakeoff gate-power --workloads T7_o192")
    head = f'set -eu\nbakeoff() {{ {sys.executable} -m bakeoff "$@"; }}\n'
    done = subprocess.run(
        ["bash", "-c", head + script], cwd=checkout.root, env=checkout.environment(), text=True, capture_output=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    run = checkout.root / "results/runs/by_hand"
    solutions = discover(checkout.root / "solutions")
    assert "2/2 cells PASSED" in done.stdout and "2/2 of peers" in done.stdout
    assert f"config.json: {len(solutions)} solutions on 2 workloads, 1 blocks on cpu" in done.stderr
    assert len(json.loads((run / "analysis.json").read_text())["cells"]) == 2 * len(solutions)
    assert 'href="runs/by_hand/report/report.html"' in (checkout.root / "results/index.html").read_text()
