"""The same analysis gives the same bytes, whatever the environment and wherever the checkout."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from bakeoff.files import PROJECT_ROOT, pretty_json
from bakeoff.schema.analysis import Analysis
from support import make
from support.pages import analysis

# Hash seed, time zone, locale: each pair of settings meets in one of them.
ENVIRONMENTS = (
    ("0", "UTC", "C"),
    ("0", "Pacific/Kiritimati", "tr_TR.UTF-8"),
    ("4711", "UTC", "tr_TR.UTF-8"),
    ("4711", "Pacific/Kiritimati", "C"),
)


def rendered(root: Path, sources: list[Path], target: Path, **environment: str) -> dict[str, str]:
    """sha256 of every file that the verbs report and index write, run from the checkout at `root` by a fresh
    interpreter."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG", "PYTHON", "TZ"))}
    for source in sources:
        (target / source.stem).mkdir(parents=True)
        shutil.copy(source, target / source.stem / "analysis.json")
    calls = [["report", source.stem] for source in sources] + [
        ["index", "--out", "index.html", *[source.stem for source in sources]]
    ]
    program = f"from bakeoff.cli import main\nassert not any(main(call) for call in {calls!r})"
    environment |= clean | {"PYTHONPATH": str(root / "workflow")}
    subprocess.run([sys.executable, "-c", program], check=True, cwd=target, env=environment, capture_output=True)
    return {
        str(p.relative_to(target)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(target.rglob("*"))
        if p.is_file()
    }


def written(a: Analysis, path: Path) -> Path:
    path.write_bytes(pretty_json(a.model_dump(mode="json", by_alias=True)))
    return path


def copied(root: Path) -> Path:
    """What a report is rendered with, elsewhere; nothing is compiled there yet."""
    for part in ("workflow/bakeoff", "report_templates"):
        shutil.copytree(PROJECT_ROOT / part, root / part, ignore=shutil.ignore_patterns("__pycache__"))
    return root


def test_four_environments_and_a_second_path_give_the_same_bytes(tmp_path: Path) -> None:
    sources = [
        written(analysis("faulty"), tmp_path / "gpu.json"),
        written(analysis("2026-02-26_4way"), tmp_path / "published.json"),
    ]
    other = copied(tmp_path / "another checkout")
    results = [rendered(other, sources, tmp_path / "elsewhere")]
    for number, (seed, zone, locale) in enumerate(ENVIRONMENTS):
        environment = {"PYTHONHASHSEED": seed, "TZ": zone, "LC_ALL": locale}
        results.append(rendered(PROJECT_ROOT, sources, tmp_path / f"run{number}", **environment))
    assert len(results) == 5 and all(result == results[0] for result in results)
    assert len(results[0]) > 30


def test_compiled_templates_are_kept_and_one_that_changes_is_compiled_anew(tmp_path: Path) -> None:
    sources, root = [written(analysis("cpu"), tmp_path / "cpu.json")], copied(tmp_path / "checkout")
    first = rendered(root, sources, tmp_path / "first")
    kept = {path: path.stat().st_mtime_ns for path in root.rglob("jinja-*.cache")}
    assert len(kept) > 10
    assert rendered(root, sources, tmp_path / "second") == first
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    page = root / "report_templates/page.html.j2"
    page.write_text(page.read_text() + "<!-- changed -->")
    assert rendered(root, sources, tmp_path / "third") != first


def test_the_layout_of_the_json_does_not_matter_but_every_fact_does(tmp_path: Path) -> None:
    from bakeoff.files import canonical_json
    from bakeoff.report.render import render

    a = analysis("cpu")
    again = Analysis.model_validate_json(canonical_json(a.model_dump(mode="json", by_alias=True)))
    assert render(a) == render(again)
    changed = a.model_copy(update={"provenance": [replace(a.provenance[0], value="2.13.1"), *a.provenance[1:]]})
    assert render(a)["report.html"] != render(changed)["report.html"]


def test_two_python_versions_give_the_same_bytes(tmp_path: Path) -> None:
    """Analysis and report of a published table and of a run, by this interpreter and by another one."""
    other = os.environ.get("BAKEOFF_OTHER_PYTHON")
    if not other:
        pytest.skip(
            "needs a second Python with numpy, scipy, pydantic, jinja2 and pyyaml: BAKEOFF_OTHER_PYTHON=/path/to/python"
        )
    run = make.write(make.named("faulty"), tmp_path / "faulty")
    sources = [PROJECT_ROOT / "results" / "published" / "2026-02-26_4way", run]
    made = []
    for number, python in enumerate((sys.executable, other)):
        target = tmp_path / str(number)
        for source in sources:
            document = target / source.name / "analysis.json"
            for words in (["analyse", source, "-o", document], ["report", document]):
                subprocess.run(
                    [python, "-m", "bakeoff", *map(str, words)],
                    check=True,
                    capture_output=True,
                    env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT / "workflow")},
                )
        files = sorted(path for path in target.rglob("*") if path.is_file())
        made.append({str(path.relative_to(target)): path.read_bytes() for path in files})
    versions = {subprocess.run([p, "-V"], capture_output=True, check=True).stdout for p in (sys.executable, other)}
    assert len(versions) == 2, f"BAKEOFF_OTHER_PYTHON is the same version: {versions}"
    assert made[0] == made[1] and len(made[0]) > 40
