"""A solution's folder: what solution.yaml says, which shared files its sources import, and how a new one is made.

Entry points: `discover` reads every folder under solutions/, `read_spec` reads one, `new_solution` copies
solutions/_template/ under a name of its own; `imported` and `shared_files` read imports off the sources. The format is
described in solutions/README.md; unknown keys and wrong values are InputErrors that name the file and the field.
Nothing is imported or run here. Known limit: an import by a name that is computed at run time is not seen.
"""

import ast
import functools
import json
import keyword
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import Field, PrivateAttr, StringConstraints

from bakeoff.errors import InputError
from bakeoff.files import read_yaml, unwritable
from bakeoff.options import closest
from bakeoff.schema.base import UNPRINTABLE, Part, visible
from bakeoff.schema.solution import Backend, BackendSpec, FileFunction, StageRule

COMMON = "common"  # the folder of shared files: beside the solutions, and in each packed one


@functools.lru_cache(maxsize=512)  # many solutions share a file, and each is asked about it several times
def imported(name: str, text: str) -> tuple[tuple[int, tuple[str, ...]], ...]:
    """Line and parts of each module that a file imports; relative ones start with '' and count from the package's root.

    name: the file in the package, with slashes. Raises SyntaxError, also for text that the parser gives up on.
    """
    return tuple(_imported(name, text))


def _imported(name: str, text: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    folder = PurePosixPath(name).parent
    try:
        tree = ast.parse(text)
    except (ValueError, RecursionError, MemoryError) as error:  # a null byte, or nested too deeply
        raise SyntaxError(str(error) or "nested too deeply", (name, 1, None, None)) from error
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, tuple(alias.name.split("."))) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = tuple(node.module.split(".")) if node.module else ()
            if node.level == 0:
                yield node.lineno, module
                continue
            base = ("", *folder.parts[: len(folder.parts) - node.level + 1], *module)
            yield from ((node.lineno, (*base, alias.name)) for alias in node.names)
            yield node.lineno, base


def shared_files(own: Iterable[tuple[str, Path]], common: Path) -> list[Path]:
    """The files of the folder `common` that travel with a solution, sorted: what its files import, and what those do.

    own: the solution's files, by name in the package. A file that is no Python, or no text, imports nothing here.
    """
    found: dict[str, Path] = {}
    waiting = list(own)
    while waiting:
        name, path = waiting.pop()
        for module in _shared(name, path):
            file = common / f"{module}.py"
            if file.name not in found and file.is_file():
                found[file.name] = file
                waiting.append((f"{COMMON}/{file.name}", file))
    return [found[name] for name in sorted(found)]


def _shared(name: str, path: Path) -> list[str]:
    if path.suffix != ".py":
        return []
    try:
        targets = [parts for _, parts in imported(name, path.read_text(encoding="utf-8"))]
    except (SyntaxError, ValueError):
        return []  # packing says so, with the line
    return [parts[2] for parts in targets if parts[:2] == ("", COMMON) and len(parts) > 2]


SPEC_FILE = "solution.yaml"
# Names that mean something else wherever a solution's name appears.
RESERVED = (COMMON, "reference")
NAME_PATTERN = r"^[a-z][a-z0-9_]{0,63}$"
# Files of a solution's folder that do not travel along.
NOT_PACKED = (SPEC_FILE, "README.md")
MOST_BYTES = 1 << 20  # of a file; the largest of the solutions here has 22 kB


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
        """The files of the folder that are packed, sorted; one that leads out of it, is no source by its size, or has a
        name that is no text is an InputError."""
        own = self._all_files()
        for path in own:
            if flaw := _unpackable(path, self._folder):
                raise flaw
        return own

    def _all_files(self) -> list[Path]:
        found = (path for path in self._folder.rglob("*") if path.is_file() and path.name not in NOT_PACKED)
        return sorted(path for path in found if not _hidden(path.relative_to(self._folder)))

    def common_files(self) -> list[Path]:
        """The shared files that are packed: those that the solution's files import, at any depth."""
        return self._shared(self.own_files())

    def _shared(self, own: Iterable[Path]) -> list[Path]:
        named = [(path.relative_to(self._folder).as_posix(), path) for path in own]
        return shared_files(named, self._folder.parent / COMMON)

    def files(self) -> list[Path]:
        """Every file that decides what the packed solution is; without those that it cannot be packed for."""
        own = [path for path in self._all_files() if not _unpackable(path, self._folder)]
        return [self._folder / SPEC_FILE, *own, *self._shared(own)]


def _unpackable(path: Path, folder: Path) -> InputError | None:
    """A folder may be a stranger's: what is packed is read by whoever packs it, and published."""
    name = path.relative_to(folder).as_posix()
    size = path.stat().st_size
    if not path.resolve().is_relative_to(folder.resolve()):
        flaw = "a link that leads out of the folder", "files of its own", "copy what it needs into the folder"
    elif size > MOST_BYTES:
        flaw = f"{size} bytes", f"at most {MOST_BYTES}: a packed solution is text", "move the file out of the folder"
    elif UNPRINTABLE.search(name):
        flaw = "a name with characters that nobody can print", "plain names", "rename the file"
    else:
        return None
    found, expected, hint = flaw
    return InputError(visible(str(path)), found, expected, hint)


def _hidden(relative: Path) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in relative.parts)


def discover(*roots: Path) -> list[SolutionSpec]:
    """All solutions under `roots`, sorted by name. Folders that start with `_` or `.`, and common/, are no solutions. A
    root without one, or a name that two roots have, is an InputError."""
    found: dict[str, SolutionSpec] = {}
    for root in roots:
        folders = (path for path in root.glob("*") if path.is_dir() and path.name[0] not in "._")
        specs = [read_spec(path) for path in sorted(folders) if path.name != COMMON]
        if not specs:
            raise InputError(
                root,
                found="no solution",
                expected="a folder per solution",
                hint="correct the path, or make one with `bakeoff new-solution NAME`",
            )
        for spec in specs:
            if spec.name in found:
                raise InputError(
                    spec.folder,
                    found=f"a second solution {spec.name}, beside {found[spec.name].folder}",
                    expected="each name once in all of `solutions_root`",
                    hint="rename one of the two folders, and the `name` in its solution.yaml",
                )
            found[spec.name] = spec
    return [found[name] for name in sorted(found)]


def require_backend(spec: SolutionSpec, backend: str, shown: Path) -> None:
    """InputError unless a solution has the backend. shown: its folder as the user knows it."""
    if backend not in spec.backends:
        raise InputError(
            f"{shown / SPEC_FILE}: field backends",
            found=", ".join(spec.backends),
            expected=backend,
            hint="add the backend, or choose one of those with --backend",
        )


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


TEMPLATE = "_template"


def new_solution(root: Path, name: str, role: str, author: str, template: str = "torch") -> SolutionSpec:
    """Make `root`/`name`; an existing folder, or a name that cannot be one, is an InputError and changes nothing.

    template: `torch` for the plain one, another language for the shortest solution that is written in it, or a
    solution's name.
    """
    if not re.fullmatch(NAME_PATTERN, name) or name in RESERVED or keyword.iskeyword(name):
        raise InputError(
            "NAME",
            found=name,
            expected=f"lower-case letters, digits and underscores, a letter first, at most 64; no Python keyword, "
            f"none of {', '.join(RESERVED)}",
            hint="choose another name",
        )
    folder = root / name
    if folder.exists():
        raise InputError(folder, "it exists", "a new name", "choose another name, or edit that folder")
    _copy(_template(root, template), folder, {"name": name, "role": role, "author": author})
    return read_spec(folder)


def _template(root: Path, wanted: str) -> Path:
    if wanted == "torch":
        if (root / TEMPLATE / SPEC_FILE).is_file():
            return root / TEMPLATE
        raise InputError(
            root / TEMPLATE,
            found="no template there",
            expected="the folder that a solution is made from",
            hint="correct --into",
        )
    there = discover(root)
    found = [spec for spec in there if wanted in (spec.name, spec.languages[0])]
    if not found:
        names = ["torch", *dict.fromkeys(spec.languages[0] for spec in there), *(spec.name for spec in there)]
        raise InputError("--template", wanted, f"one of {', '.join(names)}", closest(wanted, names))
    return min(found, key=lambda spec: sum(path.stat().st_size for path in spec.own_files())).folder


def _copy(template: Path, folder: Path, values: dict[str, str]) -> None:
    """Copy beside the target and rename, so that an interrupted copy is no half solution."""
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(template, partial, ignore=shutil.ignore_patterns("__pycache__"))
        spec = partial / SPEC_FILE
        text = spec.read_text(encoding="utf-8")
        for key, value in values.items():
            # A JSON string is a YAML string, whatever the author's name contains.
            line = f"{key}: {json.dumps(value, ensure_ascii=False)}"
            text = re.sub(rf"(?m)^{key}:.*$", lambda _, line=line: line, text)  # type: ignore[misc]
        text = re.sub(r"(?m)^label:.*\n", "", text)
        spec.write_text(text, encoding="utf-8")
        partial.rename(folder)
    except OSError as error:
        raise unwritable(folder, error) from error
