"""Which packages `make setup` puts into .venv: those of the CPU, or those of the GPU image where such a GPU answers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from bakeoff.files import PROJECT_ROOT

FILES = ("Makefile", "containers/images.mk", "containers/cu130/requirements.lock", "pyproject.toml")


def make(tmp_path: Path, *words: str, capability: str | None) -> subprocess.CompletedProcess[str]:
    """`make WORDS` in a folder without .venv, on a host whose nvidia-smi names one GPU of that capability, or fails."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((PROJECT_ROOT / name).read_bytes())
    tool = tmp_path / "bin/nvidia-smi"
    tool.parent.mkdir(exist_ok=True)
    tool.write_text(f"#!/bin/sh\n{f'echo {capability}' if capability else 'exit 9'}\n")
    tool.chmod(0o755)
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("BAKEOFF_", "MAKE"))}
    variables["PATH"] = f"{tool.parent}:{os.environ['PATH']}"
    return subprocess.run(["make", *words], cwd=tmp_path, env=variables, text=True, capture_output=True, timeout=120)


@pytest.mark.parametrize(
    ("capability", "lock"),
    [
        (None, "requirements/cpu.lock"),
        ("8.9", "requirements/cpu.lock"),
        ("12.0", "requirements/cpu.lock"),
        ("9.0", "containers/cu130/requirements.lock"),
        ("10.0", "containers/cu130/requirements.lock"),
    ],
)
def test_the_gpu_that_answers_decides_which_packages_are_set_up(
    tmp_path: Path, capability: str | None, lock: str
) -> None:
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements/cpu.lock").touch()
    done = make(tmp_path, "-n", "setup", capability=capability)
    assert done.returncode == 0, done.stderr
    assert [line.split()[-1] for line in done.stdout.splitlines() if " -r " in line] == [lock]
    assert "--require-hashes" in done.stdout


@pytest.mark.parametrize(("version", "refused"), [((3, 11, 2), True), ((3, 12, 3), False), ((3, 13, 0), True)])
def test_a_python_that_the_gpu_packages_are_not_locked_for_is_refused(
    tmp_path: Path, version: tuple[int, int, int], refused: bool
) -> None:
    dotted = ".".join(map(str, version))
    fake = tmp_path / ".venv/bin/python"
    fake.parent.mkdir(parents=True)
    # Of another version; what it is asked to install, it only says.
    pretend = f"import sys; sys.version_info = {version}; sys.version = '{dotted} (of a test)'; exec(sys.argv[1])"
    fake.write_text(f'#!/bin/sh\n[ "$1" = -c ] || {{ echo "$@"; exit; }}\nexec {sys.executable} -c "{pretend}" "$2"\n')
    fake.chmod(0o755)
    done = make(tmp_path, "setup", capability="9.0")
    assert (done.returncode == 2) == refused, done.stderr
    assert (f"found Python {dotted} in .venv, expected 3.12" in done.stderr) == refused
    assert ("containers/cu130/requirements.lock" in done.stdout) != refused
