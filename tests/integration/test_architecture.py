"""docs/architecture.md against the code: rooms import only those above them, and the pipeline runs as the page says."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bakeoff.cli import VERBS
from bakeoff.files import PROJECT_ROOT
from support.checkout import Checkout

PACKAGE = PROJECT_ROOT / "workflow/bakeoff"
PAGE = (PROJECT_ROOT / "docs/architecture.md").read_text()


def rooms() -> list[set[str]]:
    """The rows of the page's table, from the top."""
    rows = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    return [set(re.findall(r"`(\w+)/?`", row)) for row in rows]


def imports(path: Path) -> Iterator[str]:
    """Rooms that a module imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "bakeoff":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bakeoff."):
            yield str(node.module).split(".")[1]


def test_every_room_of_the_package_stands_on_the_page() -> None:
    there = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert there - {"__init__", "__main__", "generate"} == set().union(*rooms())


def test_a_room_imports_only_those_above_it() -> None:
    level = {room: number for number, row in enumerate(rooms()) for room in row}
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        allowed = {"config"} if path.name == "verbs.py" else set()
        for other in set(imports(path)) - allowed - {room, "__version__"}:
            if room in level and level.get(other, -1) > level[room]:
                found.append(f"{path.relative_to(PACKAGE)} imports {other}")
    assert not found


def test_the_pipeline_runs_without_snakemake_as_the_page_says(checkout: Checkout) -> None:
    """The page's commands, on a configuration with two workloads, and mutants on one of them."""
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
    assert "8/8 cells PASSED" in done.stdout
    assert "config.json: 5 solutions on 2 workloads, 1 blocks on cpu" in done.stderr
    assert len(json.loads((run / "analysis.json").read_text())["cells"]) == 10
    assert 'href="runs/by_hand/report/report.html"' in (checkout.root / "results/index.html").read_text()
