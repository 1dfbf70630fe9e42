"""ARTIFACT.md: the commands are there, and those that take seconds and no GPU give what the page expects."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from bakeoff.cli import VERBS
from bakeoff.files import PROJECT_ROOT

HEAD = ["claim", "command", "expect", "tolerance", "minutes", "GPU"]


def rows() -> list[dict[str, str]]:
    lines = [line for line in (PROJECT_ROOT / "ARTIFACT.md").read_text().splitlines() if line.startswith("| ")]
    cells = [[cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    assert cells[0] == HEAD
    return [dict(zip(HEAD, row, strict=True)) for row in cells[1:]]


def commands(row: dict[str, str]) -> list[str]:
    return re.findall(r"`([^`]+)`", row["command"])


QUICK = [row for row in rows() if row["GPU"] == "none" and float(row["minutes"]) <= 0.5]


@pytest.mark.parametrize("row", QUICK, ids=lambda row: row["claim"][:50])
def test_a_quick_command_gives_what_the_page_expects(row: dict[str, str]) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(PROJECT_ROOT / "workflow")}
    done = subprocess.run(
        ["bash", "-c", commands(row)[0]], cwd=PROJECT_ROOT, env=environment, text=True, capture_output=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(words in done.stdout for words in re.findall(r"`([^`]+)`", row["expect"]))


def test_every_command_is_a_target_a_verb_or_a_file_of_this_checkout() -> None:
    makefiles = "".join((PROJECT_ROOT / name).read_text() for name in ("Makefile", "containers/images.mk"))
    for row in rows():
        for command in commands(row):
            words = command.split()
            if words[0] == "make":
                assert re.search(rf"^{words[1]}\b.*:", makefiles, re.MULTILINE), command
            elif words[0] == "bakeoff":
                assert words[1] in VERBS, command
            elif words[0] == "python":
                assert (PROJECT_ROOT / words[-1]).is_file(), command
            else:
                assert words[0] == "snakemake" and (PROJECT_ROOT / words[words.index("--profile") + 1]).is_dir(), (
                    command
                )


def test_most_of_what_is_claimed_can_be_tried_at_once() -> None:
    assert len(QUICK) >= 3 and len(rows()) >= 10
