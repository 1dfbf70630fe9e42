"""A copy of the checkout to run the workflow in, so that tests leave this one alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from bakeoff.build.compile import DEFAULT_CACHE
from bakeoff.files import PROJECT_ROOT

# Small enough for a test: two solutions that round differently, three workloads on both sides of the padding.
SMALL = ["solutions=[cutedsl_moe_fp8_v3,triton_fused_moe_v2]", "workloads=[T1_o32,T7_o192,T80_o96]", "compile=[]"]


class Checkout:
    """A copy of the project's files with a way to run commands in it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def environment(self, **extra: str) -> dict[str, str]:
        path = os.pathsep.join([str(self.root / "workflow"), *filter(None, [os.environ.get("PYTHONPATH")])])
        return {**os.environ, "PYTHONPATH": path, **extra}

    def python(
        self, *words: str, env: dict[str, str] | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=self.root,
            env=self.environment(**(env or {})),
            text=True,
            capture_output=True,
        )
        assert not check or done.returncode == 0, f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def run(self, *words: str, **options: object) -> subprocess.CompletedProcess[str]:
        return self.python("-m", *words, **options)  # type: ignore[arg-type]

    def bakeoff(self, *words: str, **options: object) -> subprocess.CompletedProcess[str]:
        return self.run("bakeoff", *words, **options)

    def snakemake(self, *words: str, config: list[str] = SMALL, **options: object) -> subprocess.CompletedProcess[str]:
        return self.run("snakemake", "--cores", "2", *words, "--config", *config, **options)

    def files(self, pattern: str) -> dict[str, bytes]:
        found = (path for path in sorted(self.root.glob(pattern)) if path.is_file())
        return {path.relative_to(self.root).as_posix(): path.read_bytes() for path in found}


def copy_project(target: Path, builds: bool = False) -> Checkout:
    """The files that git tracks, and new ones that it does not ignore, as they are in the working tree.

    Recorded runs are left out: each is analysed and rendered anew in every copy. builds: what was built from the same
    sources is not built again."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT_ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        source = PROJECT_ROOT / name
        if source.is_file() and not name.startswith("results/recorded/"):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)
    if builds:
        for cache in (PROJECT_ROOT / "workflow").rglob("__pycache__"):
            shutil.copytree(cache, target / cache.relative_to(PROJECT_ROOT))  # else every process of the copy compiles
        DEFAULT_CACHE.mkdir(parents=True, exist_ok=True)
        (target / ".cache").mkdir()
        (target / ".cache" / DEFAULT_CACHE.name).symlink_to(DEFAULT_CACHE)
    return Checkout(target)


def copy_of(there: Checkout, target: Path, runs: bool = True) -> Checkout:
    """A copy of a checkout with all that it made, or without its runs: the pages of published tables are done then."""

    def left_out(folder: str, names: list[str]) -> set[str]:
        made = set() if runs or Path(folder) != there.root / "results" else {"runs", "index.html", "verdict.txt"}
        return made & set(names)

    copied = shutil.copytree(there.root, target, symlinks=True, ignore=left_out, copy_function=shutil.copy2)
    return Checkout(Path(copied))
