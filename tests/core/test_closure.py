"""The key of a cell covers the code that decides a sample: all of it, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from bakeoff.closure import DECIDES_A_SAMPLE, PACKAGES, closure, digest
from bakeoff.profile.collect import DECIDES_A_PROFILE
from support.measure_runs import fake_device, make_run, measure

# Put before the interpreter's own start: notes the package's modules of every process, at each import.
SPY = """
import json, os, sys
file = os.open(os.environ["SPY"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def note(event, args):
    if event == "import" and str(args[0]).startswith("bakeoff"):
        known = [name for name in list(sys.modules) if name.split(".")[0] == "bakeoff"]
        words = getattr(sys, "orig_argv", []) + getattr(sys, "argv", [])
        os.write(file, (json.dumps({"words": words, "modules": [*known, args[0]]}) + chr(10)).encode())
sys.addaudithook(note)
"""


def names(files: list[Path], root: Path = PACKAGES) -> set[str]:
    return {path.relative_to(root / "bakeoff").as_posix() for path in files}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder with a copy of the package."""
    shutil.copytree(PACKAGES / "bakeoff", tmp_path / "bakeoff", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.mark.timeout(900)
@pytest.mark.parametrize("double", [False, True], ids=["cpu", "double"])
def test_the_digest_covers_what_worker_and_referee_really_import(tmp_path: Path, double: bool) -> None:
    run = make_run(tmp_path, {"honest": None}, workloads=["T1_o32"])
    (tmp_path / "spy").mkdir()
    (tmp_path / "spy/sitecustomize.py").write_text(SPY)
    env = {"PYTHONPATH": str(tmp_path / "spy"), "SPY": str(tmp_path / "seen")}
    if double:
        env |= fake_device(tmp_path)
    done = measure(run, env=env)
    assert done.returncode == 0, done.stderr
    seen: dict[str, set[str]] = {"core.worker": set(), "core.referee": set()}
    for line in (tmp_path / "seen").read_text().splitlines():
        noted = json.loads(line)
        for role, modules in seen.items():
            if any(f"bakeoff.{role}" in word or f"bakeoff/{role.replace('.', '/')}" in word for word in noted["words"]):
                modules |= {name for name in noted["modules"] if _file(name)}
    assert all(len(modules) > 15 for modules in seen.values())
    covered = names(closure(*DECIDES_A_SAMPLE))
    imported = {_file(name) for modules in seen.values() for name in modules}
    # Without a GPU both are forked from a process that has imported its own empty package.
    assert imported - covered <= {"processes/__init__.py"}
    # Beside what the two processes import here: a GPU's part, and what the supervisor decides by.
    elsewhere = {"core/device/cuda.py", "core/device/activity.py", "core/intervals.py", "core/policy.py"}
    data = {"core/bounds.yaml"}
    only_the_supervisor = {"core/environment.py", "core/messages.py"}
    assert covered - imported - elsewhere - only_the_supervisor == data


def _file(module: str) -> str | None:
    base = PACKAGES.joinpath(*module.split("."))
    for path in (base / "__init__.py", base.with_suffix(".py")):
        if path.is_file():
            return path.relative_to(PACKAGES / "bakeoff").as_posix()
    return None


def test_core_holds_what_decides_a_sample_and_of_the_schemas_takes_the_sample_models_only() -> None:
    covered = names(closure(*DECIDES_A_SAMPLE))
    schemas = {name for name in covered if name.startswith("schema/")} - {"schema/__init__.py"}
    assert schemas <= {f"schema/{name}.py" for name in ("base", "gates", "outcomes", "sample")}
    assert {name.partition("/")[0] for name in covered if "/" in name} == {"core", "schema", "traces"}
    core = {path.relative_to(PACKAGES / "bakeoff").as_posix() for path in (PACKAGES / "bakeoff/core").rglob("*.py")}
    # The floors are of the problem, and say how good a time is, not what it is.
    assert core - covered == {"core/moe/floors.py"}


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        ("core/loader.py", True),
        ("core/bounds.yaml", True),
        ("core/protocols.py", True),
        ("core/device/cuda.py", True),
        ("core/worker/sandbox.py", True),
        ("verify/page.py", False),
        ("runs/check.py", False),
        ("report/render.py", False),
        ("schema/plan.py", False),
        ("supervisor/block.py", False),
        ("cli.py", False),
    ],
)
def test_a_remark_counts_in_what_decides_a_sample_only(package: Path, file: str, counts: bool) -> None:
    before = digest(*DECIDES_A_SAMPLE, root=package)
    assert before == digest(*DECIDES_A_SAMPLE)
    path = package / "bakeoff" / file
    path.write_text(path.read_text() + "\n# Nothing but a remark.\n")
    assert (digest(*DECIDES_A_SAMPLE, root=package) != before) is counts


def write(package: Path, **modules: str) -> Callable[[str], set[str]]:
    """Modules of a small package, and what one of them rests on."""
    folder = package / "bakeoff"
    shutil.rmtree(folder)
    for name, source in {"__init__": "", "inner/__init__": "", **modules}.items():
        path = folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return lambda module: names(closure(module, root=package), package) - {"__init__.py", "inner/__init__.py"}


def test_imports_are_followed_at_any_depth_and_in_every_form(package: Path) -> None:
    rests_on = write(
        package,
        a="from bakeoff import b\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import bakeoff.never\n",
        b="def f():\n    import bakeoff.inner.c as c\n    return c\n",
        never="",
        lonely="",
        __init__="def load():\n    from bakeoff import lonely\n",
        **{
            "inner/c": "try:\n    from bakeoff.inner import (\n        d,\n        e,\n    )\nfinally:\n    pass\n",
            "inner/d": "from bakeoff.a import something\n",
            "inner/e": 'FILE = "e.yaml"\n',
        },
    )
    for name in ("e.yaml", "other.yaml"):
        (package / "bakeoff/inner" / name).write_text("a: 1\n")
    found = {"a.py", "b.py", "inner/c.py", "inner/d.py", "inner/e.py", "inner/e.yaml"}
    assert rests_on("bakeoff.a") == rests_on("bakeoff.inner.d") == found
    assert rests_on("bakeoff.inner.e") == {"inner/e.py", "inner/e.yaml"} and rests_on("bakeoff.never") == {"never.py"}


def test_a_changed_file_is_read_again(package: Path) -> None:
    rests_on = write(package, a="", b="")
    assert rests_on("bakeoff.a") == {"a.py"}
    (package / "bakeoff/a.py").write_text("import bakeoff.b\n")
    os.utime(package / "bakeoff/a.py", ns=(1, 1))
    assert rests_on("bakeoff.a") == {"a.py", "b.py"}


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        ("profile/nsys.py", True),
        ("core/worker/guarded.py", True),
        ("core/moe/values.py", True),
        ("core/loader.py", True),
        ("profile/explain.py", False),
        ("profile/verbs.py", False),
        ("report/render.py", False),
    ],
)
def test_the_key_of_a_profile_is_made_the_same_way(file: str, counts: bool) -> None:
    assert (file in names(closure(*DECIDES_A_PROFILE))) is counts
    assert (PACKAGES / "bakeoff" / file).is_file()
