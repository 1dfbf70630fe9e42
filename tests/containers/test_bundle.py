"""Set-up without a network: the hint where nothing is there to install from, and the bundle that has everything."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from bakeoff.files import PROJECT_ROOT
from support.checkout import copy_project

ALONE = ["unshare", "--map-root-user", "--net"]
CAN = subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode == 0
pytestmark = pytest.mark.skipif(not CAN, reason="needs namespaces for users and networks")
PIP = """#!/bin/sh
# A double of the environment's Python: `pip download` leaves a file for each lock.
case "$*" in
  *"pip"*) shift 2; while [ "$1" != --dest ]; do shift; done; echo "wheel of $$" > "$2/$$.whl" ;;
  *) echo 3.11 ;;
esac
"""


def make(*words: str, cwd: Path, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "PYTEST"))}
    done = subprocess.run(
        [*ALONE, "make", *words], cwd=cwd, env={**kept, **environment}, capture_output=True, text=True
    )
    assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def test_without_a_network_set_up_stops_within_seconds_and_names_the_bundle(tmp_path: Path) -> None:
    checkout = copy_project(tmp_path / "checkout").root
    make(".venv/.environment-cpu", cwd=checkout)
    start = time.monotonic()
    done = make("setup", "ENVIRONMENT=cpu", cwd=checkout, check=False)
    assert time.monotonic() - start < 10 and done.returncode == 2
    assert "found:    no index that answers" in done.stderr and "BUNDLE=FOLDER" in done.stderr
    (tmp_path / "empty one/wheels").mkdir(parents=True)
    other = make("setup", "ENVIRONMENT=cpu", f"BUNDLE={tmp_path}/empty one", cwd=checkout, check=False)
    assert other.returncode == 2 and f"none in the bundle {tmp_path}/empty one" in other.stderr


def test_a_bundle_has_a_digest_of_every_file_and_its_parts_are_the_whole(tmp_path: Path) -> None:
    checkout = copy_project(tmp_path / "checkout").root
    for command in ("init --quiet", "add --all", "-c user.name=a -c user.email=a commit --quiet --message made"):
        subprocess.run(["git", *command.split()], cwd=checkout, check=True)
    python = checkout / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(PIP)
    python.chmod(0o755)
    folder = tmp_path / "bundle"
    subprocess.run(["containers/bundle.sh", "cpu", folder, "1M"], cwd=checkout, capture_output=True, check=True)
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
    named = {line.split("  ", 1)[1] for line in (folder / "SHA256SUMS").read_text().splitlines()}
    assert named >= {"README.txt", "source.gitbundle"} and sum(name.endswith(".whl") for name in named) == 5
    parts = sorted(tmp_path.glob("bundle.tar.*"))
    assert len(parts) > 1 and all(part.stat().st_size <= 2**20 for part in parts)
    (tmp_path / "joined").mkdir()
    whole = b"".join(part.read_bytes() for part in parts)
    subprocess.run(["tar", "--extract", "--directory", tmp_path / "joined"], input=whole, check=True)
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=tmp_path / "joined", check=True)
    subprocess.run(["git", "clone", "--quiet", folder / "source.gitbundle", tmp_path / "clone"], check=True)
    assert (tmp_path / "clone/Makefile").read_bytes() == (PROJECT_ROOT / "Makefile").read_bytes()


@pytest.mark.timeout(3600)
@pytest.mark.skipif("BAKEOFF_BUNDLE" not in os.environ, reason="sets up and runs everything: make test-bundle")
def test_the_bundle_alone_is_enough(tmp_path: Path) -> None:
    bundle, clone = Path(os.environ["BAKEOFF_BUNDLE"]).resolve(), tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", bundle / "source.gitbundle", clone], check=True)
    start = time.monotonic()
    make("setup", f"BUNDLE={bundle}", "ENVIRONMENT=cpu", cwd=clone)
    print(f"offline set-up: {time.monotonic() - start:.0f} s")
    done = make("reproduce", f"BUNDLE={bundle}", "ENVIRONMENT=cpu", cwd=clone)
    assert "verdict: " in done.stdout and "cells PASSED" in done.stdout
    print(f"with make reproduce: {time.monotonic() - start:.0f} s; {done.stdout.splitlines()[-1]}")
    shutil.rmtree(clone)
