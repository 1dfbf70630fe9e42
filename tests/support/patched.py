"""A copy of the checkout in which some text is another: what a guard costs, and whether a test misses it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from bakeoff.files import PROJECT_ROOT

COPIED = ("workflow", "solutions", "tests", "benchmarks", "config", "report_templates")
LINKED = (".venv", "traces", "containers", "requirements", "docs", "profiles", "results/recorded", "results/published")

Edit = tuple[str, str, str]  # file, text that stands in it once, text in its place


def patched(folder: Path, edits: list[Edit] | tuple[Edit, ...]) -> Path:
    """A copy of the checkout in `folder`, with the edits; what is no code is linked. ValueError for a text that does
    not stand in its file exactly once."""
    for name in COPIED:
        shutil.copytree(PROJECT_ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"), symlinks=True)
    for file in PROJECT_ROOT.glob("*"):
        if file.is_file():
            shutil.copy(file, folder)
    (folder / "results").mkdir()
    for name in LINKED:
        if (PROJECT_ROOT / name).exists():
            (folder / name).symlink_to(PROJECT_ROOT / name)
    for file, old, new in edits:
        path = folder / file
        text = path.read_text()
        if text.count(old) != 1:
            raise ValueError(f"{file}: {old!r} stands there {text.count(old)} times, not once")
        path.write_text(text.replace(old, new))
    return folder


def environment(folder: Path) -> dict[str, str]:
    """Environment in which `python -m bakeoff` is the copy's."""
    return {**os.environ, "PYTHONPATH": str(folder / "workflow"), "PYTHONDONTWRITEBYTECODE": "1"}
