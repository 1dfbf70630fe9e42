"""containers/can_build.sh: whether a machine can build images, or the reason in one line."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from bakeoff.files import PROJECT_ROOT

TOOLS = (
    "bash",
    "dirname",
    "mktemp",
    "rm",
    "mkdir",
    "cp",
    "df",
    "tail",
    "tr",
    "cut",
    "paste",
    "ldd",
    "grep",
    "true",
    "sh",
    "cat",
)
APT_HELPER = pytest.mark.skipif(not Path("/usr/lib/apt/apt-helper").exists(), reason="needs apt, as the script does")


class Machine:
    """A PATH of doubles: a machine that can build images, until a test takes something away."""

    def __init__(self, root: Path) -> None:
        self.bin, self.archive = root / "bin", root / "archive"
        self.bin.mkdir()
        (self.archive / "dists/bookworm").mkdir(parents=True)
        (self.archive / "dists/bookworm/InRelease").write_text("Suite: bookworm\n")
        for tool in TOOLS:
            (self.bin / tool).symlink_to(str(shutil.which(tool)))
        for tool in ("podman", "runc", "skopeo", "mmdebstrap"):
            self.double(tool, "exit 0")
        self.double(
            "buildah", f'case $1 in info) echo {root} ;; from) echo a-container ;; *) echo "$@" >> {root}/calls ;; esac'
        )
        self.double("awk", f"echo file://{self.archive}/; echo bookworm")
        self.double("df", "echo Avail; echo 99999999")

    def double(self, name: str, script: str) -> None:
        (self.bin / name).unlink(missing_ok=True)
        (self.bin / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.bin / name).chmod(0o755)

    def ask(self) -> tuple[int, str]:
        done = subprocess.run(
            [PROJECT_ROOT / "containers/can_build.sh"],
            env={**os.environ, "PATH": str(self.bin)},
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@APT_HELPER
def test_a_machine_that_has_everything_says_nothing_and_leaves_no_container(machine: Machine, tmp_path: Path) -> None:
    assert machine.ask() == (0, "")
    copied, ran, removed = (tmp_path / "calls").read_text().splitlines()
    assert copied.startswith("copy") and ran.startswith("run --isolation=oci") and removed == "rm a-container"


@pytest.mark.parametrize("tool", ["buildah", "podman", "runc", "skopeo", "mmdebstrap"])
def test_a_missing_tool_is_named(machine: Machine, tool: str) -> None:
    (machine.bin / tool).unlink()
    assert machine.ask() == (
        1,
        f"this machine cannot build images: found no {tool}, and make container-tools did not install it\n",
    )


REFUSED = 'case $1 in info) echo / ;; from) echo a-container ;; run) printf "mount:\\ndenied\\n" >&2; exit 125 ;; esac'
LACKS = {
    "a store": ("buildah", "echo no space for a store >&2; exit 125", "no space for a store"),
    "disk": ("df", "echo Avail; echo 3145728", "found 3 GiB free"),
    "an archive": ("awk", "exit 2", "debian.sources names no archive"),
    "a network": ("awk", "echo file:///nonexistent/; echo bookworm", "file:///nonexistent/ does not answer"),
    "namespaces": ("buildah", REFUSED, "a container does not start: mount: denied"),
}


@APT_HELPER
@pytest.mark.parametrize("lack", LACKS)
def test_what_a_machine_lacks_is_said_in_one_line(machine: Machine, lack: str) -> None:
    tool, script, reason = LACKS[lack]
    machine.double(tool, script)
    status, said = machine.ask()
    assert status == 1
    assert said.startswith("this machine cannot build images: ") and said.count("\n") == 1
    assert reason in said


def test_a_build_that_the_disk_has_no_room_for_stops_before_it_writes(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.double("df", f"echo Avail; echo {39 << 20}")
    (machine.bin / "awk").unlink()
    path = f"{machine.bin}:{os.environ['PATH']}"
    done = subprocess.run(
        [PROJECT_ROOT / "containers/image.sh", "build", "cu130"],
        env={**os.environ, "PATH": path, "STANDIN": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "39 GiB free" in done.stderr and "expected: 40 GiB" in done.stderr
    assert done.stderr.startswith(f"containers: {tmp_path}\n") and "wheels" not in done.stderr
