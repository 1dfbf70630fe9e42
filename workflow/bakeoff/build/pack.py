"""Packing: a solution's folder becomes one FlashInfer-Bench Solution document, and the harness runs nothing else.

Entry points: `pack`; `pack_or_flaw`, where one of many must cost itself only; and `check_signature`. `core.loader` runs
what is packed. Known limit: imports are checked as far as they can be read off the sources.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from bakeoff.build.spec import COMMON, SolutionSpec, imported
from bakeoff.errors import CheckFailed, InputError
from bakeoff.files import canonical_json, pretty_json, sha256_bytes
from bakeoff.traces.models import BuildSpec, Definition, Solution, SourceFile

# FlashInfer-Bench knows Python and Triton as languages of a package that it imports; both builders import it alike.
FIB_LANGUAGES = ("triton",)


@dataclass(frozen=True)
class Flaw:
    """Why a solution cannot be packed."""

    solution: str
    error: InputError
    why: str
    """The error's words in a line, with paths from the folder of solutions on."""

    @property
    def digest(self) -> str:
        """What a packed solution's digest is: it changes when the flaw does."""
        return sha256_bytes(canonical_json({"solution": self.solution, "cannot_be_packed": self.why}))

    def document(self) -> bytes:
        """What stands in the packed solution's place."""
        return pretty_json({"name": self.solution, "cannot_be_packed": self.why})


def pack_or_flaw(spec: SolutionSpec, definition_name: str) -> Solution | Flaw:
    """The solution as one document, or why it cannot be packed."""
    try:
        return pack(spec, definition_name)
    except InputError as error:
        said = f"{error.where}: {error.found}; expected: {error.expected}"
        return Flaw(spec.name, error, said.replace(f"{spec.folder.parent}/", ""))


def pack(spec: SolutionSpec, definition_name: str) -> Solution:
    """The solution as one document; InputError if a file is no text, or an import leads out of the package."""
    own = {path.relative_to(spec.folder).as_posix(): _text(path) for path in spec.own_files()}
    shared = {f"{COMMON}/{path.name}": _text(path) for path in spec.common_files()}
    clash = sorted(name for name in own if PurePosixPath(name).parts[0] == COMMON)
    if clash:
        raise InputError(
            spec.folder / clash[0],
            found=f"a folder {COMMON}/ of the solution's own",
            expected="that name for the shared files only",
            hint="rename the folder",
        )
    sources = {name: text for name, text in (own | shared).items() if text.strip()}
    for name, text in sources.items():
        _check_imports(spec, name, text, sources)
    if not sources.get(entry := spec.entry_point.split("::")[0]):
        raise InputError(
            spec.folder / entry,
            "an empty file",
            "the entry point's function",
            "write it there, or correct solution.yaml",
        )
    return Solution(
        name=spec.name,
        definition=definition_name,
        author=spec.author,
        description=spec.description,
        spec=BuildSpec(
            language=spec.languages[0] if spec.languages[0] in FIB_LANGUAGES else "python",
            target_hardware=list(spec.backends),
            entry_point=spec.entry_point,
            dependencies=spec.dependencies,
            destination_passing_style=True,
        ),
        sources=[SourceFile(path=name, content=sources[name]) for name in sorted(sources)],
        bakeoff=spec.model_dump(mode="json", include={"role", "languages", "backends", "stages"}),
    )


def check_signature(function: Callable[..., Any], definition: Definition, entry_point: str) -> None:
    """The entry point takes the definition's inputs, then its outputs, by these names and in this order."""
    expected = [*definition.inputs, *definition.outputs]
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = [name for name, parameter in inspect.signature(function).parameters.items() if parameter.kind in kinds]
    if found != expected:
        raise CheckFailed(
            f"{entry_point} takes ({', '.join(found)})\n  expected: ({', '.join(expected)})\n"
            "  to do:    name and order the parameters as the definition does; the output comes last"
        )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            path,
            found=f"not UTF-8 text ({error.reason} at byte {error.start})",
            expected="source files only",
            hint="move the file out of the solution's folder: a packed solution is text",
        ) from error
    except OSError as error:
        raise InputError(path, f"cannot read: {error.strerror}", "a readable file", "correct its rights") from error


def _check_imports(spec: SolutionSpec, name: str, text: str, sources: dict[str, str]) -> None:
    """Refuse what would not work packed: an import of `bakeoff`, or of a shared file that is not there."""
    if not name.endswith(".py"):
        return
    origin = (spec.folder.parent if name.startswith(f"{COMMON}/") else spec.folder) / name
    try:
        targets = imported(name, text)
    except SyntaxError as error:
        raise InputError(
            f"{origin}:{error.lineno or 1}",
            found=f"not valid Python: {error.msg}",
            expected="Python source",
            hint="correct the file",
        ) from error
    for line, target in targets:
        shared = f"{COMMON}/{target[2]}.py" if target[:2] == ("", COMMON) and len(target) > 2 else None
        flaw = None
        if target[:1] == ("bakeoff",):
            flaw = "an import of bakeoff", "a solution that needs no package of this project"
        elif shared and shared not in sources:
            flaw = f"an import of {shared}", f"a file of {spec.folder.parent / COMMON} that is not empty"
        if flaw:
            raise InputError(f"{origin}:{line}", *flaw, "correct the import; solutions/README.md has the contract")
