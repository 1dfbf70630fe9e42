"""What `make setup` puts into .venv: the packages of the CPU, or those of the GPU image where such a GPU answers. Each
has a hash in a lock, and no build fetches anything."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from bakeoff.files import PROJECT_ROOT
from packaging.requirements import Requirement

LOCKS = sorted(path.relative_to(PROJECT_ROOT).as_posix() for path in PROJECT_ROOT.glob("requirements/*.lock"))
FILES = ("Makefile", "containers/images.mk", "containers/cu130/requirements.lock", "pyproject.toml", *LOCKS)
GPU = "containers/cu130/requirements.lock"
BUILD = ["requirements/build.lock", "requirements/cpu.lock"]  # of the second, what has no wheel
CPU = [*BUILD, *(f"requirements/{name}.lock" for name in ("torch", "torch", "cpu", "triton"))]


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
    ("capability", "locks"),
    [
        (None, CPU),
        ("8.9", CPU),
        ("12.0", CPU),
        ("9.0", [*BUILD, GPU]),
        ("10.0", [*BUILD, GPU]),
    ],
)
def test_the_gpu_that_answers_decides_which_packages_are_set_up(
    tmp_path: Path, capability: str | None, locks: list[str]
) -> None:
    done = make(tmp_path, "-n", "setup", capability=capability)
    assert done.returncode == 0, done.stderr
    assert re.findall(r" -r (?:<.*? )?([a-z0-9./-]+lock)", done.stdout) == locks


@pytest.mark.parametrize("capability", [None, "9.0"])
def test_everything_is_installed_by_hash_and_no_build_fetches_anything(tmp_path: Path, capability: str | None) -> None:
    done = make(tmp_path, "-n", "setup-dev", capability=capability)
    script = done.stdout.replace("\\\n", " ")
    built = [line for line in script.splitlines() if " wheel --" in line]
    assert len(built) == 1 and "--require-hashes --no-build-isolation" in built[0]
    installs = [line for line in script.splitlines() if " install --" in line]
    assert len(installs) >= 4
    # What builds is there first; what was built is taken from its folder, and nothing else is built.
    assert "-r requirements/build.lock 2>" in installs[0] and "--no-index .venv/built/" in installs[1]
    for command in [installs[0], *installs[2:]]:
        assert command.count("--require-hashes --only-binary=:all:") == command.count(" install --")


def test_a_torch_of_other_bytes_is_refused_whatever_its_name_says(tmp_path: Path) -> None:
    wheel = tmp_path / "torch-2.13.0+cpu-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(
            "torch-2.13.0+cpu.dist-info/METADATA", "Metadata-Version: 2.1\nName: torch\nVersion: 2.13.0+cpu\n"
        )
        archive.writestr(
            "torch-2.13.0+cpu.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("torch-2.13.0+cpu.dist-info/RECORD", "")
    command = [sys.executable, "-m", "pip", "--isolated", "install", "--dry-run", "--ignore-installed"]
    command += [
        "--no-deps",
        "--no-index",
        "--find-links",
        str(tmp_path),
        "--require-hashes",
        "-r",
        str(PROJECT_ROOT / "requirements/torch.lock"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "DO NOT MATCH THE HASHES" in done.stderr


@pytest.mark.parametrize(("version", "refused"), [((3, 11, 2), True), ((3, 12, 3), False), ((3, 13, 0), True)])
def test_a_python_that_the_gpu_packages_are_not_locked_for_is_refused(
    tmp_path: Path, version: tuple[int, int, int], refused: bool
) -> None:
    dotted = ".".join(map(str, version))
    fake = tmp_path / ".venv/bin/python"
    fake.parent.mkdir(parents=True)
    # Of another version; asked for the Python that .venv was made with, it names itself; all else it only says.
    pretend = f"import sys; sys.version_info = {version}; sys.version = '{dotted} (of a test)'; exec(sys.argv[1])"
    fake.write_text(
        "#!/bin/sh\n"
        f'case "$*" in -c*version_info*) exec {sys.executable} -c "{pretend}" "$2" ;; '
        '-c*_base_executable*) echo "$0" ;; *) echo "$@" ;; esac\n'
    )
    fake.chmod(0o755)
    done = make(tmp_path, "setup", capability="9.0")
    assert (done.returncode == 2) == refused, done.stderr
    assert (f"found Python {dotted} in .venv, expected 3.12" in done.stderr) == refused
    assert ("setup 1/2: the locked packages for GPUs" in done.stdout) != refused


def imported() -> dict[str, str]:
    """Distributions that the package imports, and where."""
    found = {}
    for path in sorted((PROJECT_ROOT / "workflow/bakeoff").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [str(node.module)]
            found |= {name.split(".")[0]: f"{path}:{node.lineno}" for name in names}
    known = {"cupti": ["cupti-python"], **packages_distributions()}  # cupti is only there on a GPU host
    outside = {name for name in found if name not in sys.stdlib_module_names and name not in ("bakeoff", "_typeshed")}
    return {known[name][0].lower().replace("_", "-"): found[name] for name in outside}


def test_the_project_declares_what_the_package_imports_and_nothing_else() -> None:
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]
    declared = [
        *project["dependencies"],
        *(one for group in project["optional-dependencies"].values() for one in group),
    ]
    names = {Requirement(one).name.lower() for one in declared}
    assert names == set(imported())


def test_what_the_project_declares_is_locked() -> None:
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    for requirements, files in [
        (project["dependencies"], ("requirements/cpu.lock", "requirements/torch.lock")),
        (project["dependencies"] + optional["gpu"], (GPU,)),
        (optional["images"], ("requirements/dev.lock",)),
    ]:
        text = "".join((PROJECT_ROOT / name).read_text() for name in files)
        pins = dict(re.findall(r"^([a-z0-9-]+)(?:\[[^]]*\])?==(\S+)", text, flags=re.MULTILINE))
        for one in map(Requirement, requirements):
            assert one.specifier.contains(pins[one.name.lower()]), one


def test_the_version_stands_in_one_word_everywhere() -> None:
    version = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f'__version__ = "{version}"' in (PROJECT_ROOT / "workflow/bakeoff/__init__.py").read_text()
    assert f"\nversion: {version}\n" in (PROJECT_ROOT / "CITATION.cff").read_text()
    assert f"\n## {version}" in (PROJECT_ROOT / "CHANGELOG.md").read_text()
