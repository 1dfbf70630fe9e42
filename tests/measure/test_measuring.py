"""benchmarks/measuring.py: the figures of docs/measurement.md come from the newest recorded run, and are current."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from bakeoff.errors import InputError
from bakeoff.files import PROJECT_ROOT, replace_marked
from measure_runs import environment

NEWEST = sorted((PROJECT_ROOT / "results/recorded").iterdir())[-1]


def printed(run: Path) -> str:
    script = str(PROJECT_ROOT / "benchmarks/measuring.py")
    return subprocess.run(
        [sys.executable, script, str(run)], env=environment(), capture_output=True, text=True, check=True
    ).stdout


def test_the_page_holds_the_newest_recorded_runs_figures() -> None:
    page = PROJECT_ROOT / "docs/measurement.md"
    text = page.read_text()
    assert replace_marked(text, "measured", printed(NEWEST).rstrip("\n"), page) == text


def test_figures_follow_the_run(tmp_path: Path) -> None:
    run = tmp_path / NEWEST.name
    shutil.copytree(NEWEST, run)
    before = printed(run)
    path = run / "samples/block-00/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["spent"] |= {"total": manifest["spent"]["total"] + 100, "lock": 999.0, "gpu_busy": 0.9}
    path.write_text(json.dumps(manifest))
    after = printed(run)
    assert "to 999 s" in after and "to 90 %" in after and before != after
    first = [int(text.split("first 5 blocks | ")[1].split()[0]) for text in (before, after)]
    assert first[1] - first[0] == 100
    manifest["spent"] |= {"lock": 100.0, "verified": 61.0, "idle": 0.31}
    path.write_text(json.dumps(manifest))
    counted = printed(run)
    assert re.search(r"idle, neither of the two \| 31 to \d+ %", counted) and re.search(
        r"being verified \| \d+ to 61 %", counted
    )


def test_marks_that_are_missing_or_there_twice_are_refused() -> None:
    page = "a\n<!-- x -->\nold\n<!-- end x -->\nb\n"
    assert replace_marked(page, "x", "new", Path("p")) == page.replace("old", "new")
    for wrong in ("a\n", "<!-- x -->", "<!-- end x -->\n<!-- x -->", page + page):
        with pytest.raises(InputError, match="not exactly one"):
            replace_marked(wrong, "x", "new", Path("p"))
