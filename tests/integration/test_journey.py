"""docs/journey.md and the solution in solutions/README.md: what they say is run, and prints what they show."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from bakeoff.files import PROJECT_ROOT
from support.checkout import Checkout, copy_of
from support.measure_runs import bakeoff

PAGE = (PROJECT_ROOT / "docs/journey.md").read_text()
STEPS = [block.split("\n", 1) for block in re.findall(r"```console\n\$ (.*?)```", PAGE, flags=re.DOTALL)]
NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e-\d+)?")


def words_of(text: str) -> list[str]:
    """Its lines without numbers and the width of columns."""
    return [" ".join(NUMBER.sub("0", line).split()) for line in text.splitlines() if line.strip()]


@pytest.mark.slow
def test_the_journey_is_as_written(finished: Checkout, tmp_path: Path) -> None:
    there = copy_of(finished, tmp_path / "checkout", runs=False)
    assert [shlex.split(command)[1] for command, _ in STEPS][:4] == ["new-solution", "check", "build", "time"]
    for command, shown in STEPS:
        if command.startswith("bakeoff explain"):  # of a recorded run, which the step before need not render
            name = re.findall(r"run (\S+)", shown)[0]
            shutil.copytree(PROJECT_ROOT / "results/recorded" / name, there.root / "results/recorded" / name)
        done = there.run(*shlex.split(command))
        printed = words_of((done.stdout + done.stderr).replace(f"{there.root}/", ""))
        assert [line for line in words_of(shown) if line not in printed] == [], (
            f"{command}\n{done.stdout}\n{done.stderr}"
        )


def test_the_solution_of_the_page_is_complete_and_right(tmp_path: Path) -> None:
    page = (PROJECT_ROOT / "solutions/README.md").read_text()
    spec, source = (re.findall(rf"```{kind}\n(.*?)```", page, flags=re.DOTALL)[0] for kind in ("yaml", "python"))
    folder = tmp_path / "my_moe"
    folder.mkdir()
    (folder / "solution.yaml").write_text(spec)
    (folder / "solution.py").write_text(source)
    assert len(source.splitlines()) <= 40
    done = bakeoff("check", str(folder), "--backend", "cpu", "--workload", "1", "--workload", "80", "--workload", "901")
    assert done.returncode == 0 and "6 of 6 cells PASSED" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("page", ["README.md", "docs/questions.md", "docs/journey.md", "solutions/README.md"])
def test_links_of_the_pages_that_a_newcomer_reads_lead_somewhere(page: str) -> None:
    path = PROJECT_ROOT / page
    for link in re.findall(r"\]\(([^)#\s]+)", path.read_text()):
        assert link.startswith("http") or (path.parent / link).exists(), f"{page}: {link}"


def test_the_commands_of_the_questions_are_commands() -> None:
    text = (PROJECT_ROOT / "docs/questions.md").read_text()
    verbs = set(re.findall(r"^bakeoff ([a-z-]+)", text, flags=re.MULTILINE))
    done = subprocess.run([sys.executable, "-m", "bakeoff", "help"], capture_output=True, text=True, check=True)
    assert verbs and all(f"\n  {verb} " in done.stdout for verb in verbs)
