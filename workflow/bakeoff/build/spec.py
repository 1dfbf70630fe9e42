"""solution.yaml: what a solution says about itself.

Entry points: `discover` reads every folder under solutions/, `read_spec` reads one. The format is described in
solutions/README.md; unknown keys and wrong values are InputErrors that name the file and the field. Nothing is imported
or run here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PrivateAttr, StringConstraints

from bakeoff.build.imports import COMMON, shared_files
from bakeoff.errors import InputError
from bakeoff.files import read_yaml
from bakeoff.schema.base import Part
from bakeoff.schema.solution import Backend, BackendSpec, FileFunction, StageRule

SPEC_FILE = "solution.yaml"
# Names that mean something else wherever a solution's name appears.
RESERVED = (COMMON, "reference")
NAME_PATTERN = r"^[a-z][a-z0-9_]{0,63}$"
# Files of a solution's folder that do not travel along.
NOT_PACKED = (SPEC_FILE, "README.md")


class SolutionSpec(Part):
    """A solution's description; its folder is where it was read."""

    name: Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
    """The folder's name."""
    label: Annotated[str, StringConstraints(min_length=1, max_length=40)] | None = None
    """Short name for headings and charts; the name if empty."""
    role: Literal["contestant", "peer"]
    """Winners and claims count contestants only; peers stand beside them."""
    author: Annotated[str, StringConstraints(min_length=1)]
    """Who wrote it."""
    description: Annotated[str, StringConstraints(min_length=1)]
    """One sentence on the design."""
    languages: Annotated[list[str], Field(min_length=1)]
    """Free words, the main one first."""
    entry_point: FileFunction
    """`file::function` that takes the definition's inputs and the preallocated output."""
    common: list[str] | None = None
    """Files of solutions/common/ that travel along: what the sources import. Leave it out; a list must be just that."""
    dependencies: list[str] = Field(default_factory=list)
    """Distributions that must be installed on a GPU host."""
    backends: Annotated[dict[Backend, BackendSpec], Field(min_length=1)]
    """Where it runs."""
    stages: list[StageRule] = Field(default_factory=list)
    """Kernel names to stages."""

    _folder: Path = PrivateAttr()

    @property
    def folder(self) -> Path:
        return self._folder

    def own_files(self) -> list[Path]:
        """The files of the folder that are packed, sorted."""
        found = (path for path in self._folder.rglob("*") if path.is_file() and path.name not in NOT_PACKED)
        return sorted(path for path in found if not _hidden(path.relative_to(self._folder)))

    def common_files(self) -> list[Path]:
        """The shared files that are packed: those that the solution's files import, at any depth."""
        own = [(path.relative_to(self._folder).as_posix(), path) for path in self.own_files()]
        return shared_files(own, self._folder.parent / COMMON)

    def files(self) -> list[Path]:
        """Every file that decides what the packed solution is."""
        return [self._folder / SPEC_FILE, *self.own_files(), *self.common_files()]


def _hidden(relative: Path) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in relative.parts)


def discover(root: Path) -> list[SolutionSpec]:
    """All solutions under `root`, sorted by name. Folders that start with `_` or `.`, and common/, are no solutions."""
    folders = sorted(path for path in root.glob("*") if path.is_dir() and path.name[0] not in "._")
    found = [read_spec(path) for path in folders if path.name != COMMON]
    if not found:
        raise InputError(
            root,
            found="no solution",
            expected="a folder per solution",
            hint="correct the path, or make one with `bakeoff new-solution NAME`",
        )
    return found


def read_spec(folder: Path) -> SolutionSpec:
    """One solution's description, checked against the files that it names."""
    path = folder / SPEC_FILE
    if not path.is_file():
        raise InputError(
            folder,
            found=f"no {SPEC_FILE}",
            expected="a solution: a folder with that file",
            hint="see solutions/README.md; `bakeoff new-solution NAME` makes a folder that runs, and a folder named "
            "_* is ignored",
        )
    spec = read_yaml(path, SolutionSpec)
    spec._folder = folder
    _check_names(path, spec)
    return spec


def _check_names(path: Path, spec: SolutionSpec) -> None:
    folder = spec.folder
    if spec.name != folder.name or spec.name in RESERVED:
        expected = (
            f"{folder.name}, the folder's name" if spec.name not in RESERVED else f"none of {', '.join(RESERVED)}"
        )
        raise _flaw(path, "name", spec.name, expected)
    compiled = {f"backends.{name}.compile": backend.compile for name, backend in spec.backends.items()}
    for field, function in {"entry_point": spec.entry_point, **compiled}.items():
        if function and not (folder / function.split("::")[0]).is_file():
            raise _flaw(path, field, f"no file {function.split('::')[0]}", f"a file in {folder}")
    if spec.common is not None:
        derived = [file.name for file in spec.common_files()]
        if sorted(spec.common) != derived:
            raise _flaw(
                path, "common", ", ".join(spec.common), f"no such field; the sources import {', '.join(derived)}"
            )


def _flaw(path: Path, field: str, found: str, expected: str) -> InputError:
    return InputError(f"{path}: field {field}", found, expected, hint="correct the field; see solutions/README.md")
