"""Packing: a solution's folder becomes one FlashInfer-Bench Solution document, and the harness runs nothing else.

`pack` makes the document, `digest` names what it does, `stage` writes it out as a Python package, `load_entry` imports
that. Limits: Python imports are checked as far as they can be read off the sources; a name that is computed at run time
is not seen.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from bakeoff.build.spec import COMMON, SolutionSpec
from bakeoff.errors import CheckFailed, InputError
from bakeoff.files import canonical_json, sha256_bytes, unwritable
from bakeoff.traces.models import BuildSpec, Definition, Solution, SourceFile

# FlashInfer-Bench knows Python and Triton as languages of a package that it imports; both builders import it alike.
FIB_LANGUAGES = ("triton",)


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


def digest(solution: Solution) -> str:
    """sha256 of what decides the solution's results: sources, entry point, dependencies, definition, declared
    backends."""
    note = (solution.model_extra or {}).get("bakeoff", {})
    content = {
        "name": solution.name,
        "definition": solution.definition,
        "spec": solution.spec.model_dump(mode="json"),
        "sources": sorted((source.path, source.content) for source in solution.sources),
        "backends": note.get("backends"),
    }
    return sha256_bytes(canonical_json(content))


def package_name(solution: Solution) -> str:
    """An importable name that no other content of the solution has."""
    return f"{solution.name}_{digest(solution)[:12]}"


def stage(solution: Solution, into: Path) -> Path:
    """Write the sources as a package under `into`; returns the package's folder."""
    package = into / package_name(solution)
    for source in solution.sources:
        path = package / source.path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source.content, encoding="utf-8")
        except OSError as error:
            raise unwritable(path, error) from error
    return package


def load_entry(package: Path, solution: Solution) -> Callable[..., Any]:
    """Import a staged package's entry point. Whatever its import raises, and a missing function, is a CheckFailed."""
    return load_function(package, solution.spec.entry_point)


def load_function(package: Path, file_function: str) -> Callable[..., Any]:
    """Import `file::function` of a staged package; adds the package's parent to sys.path."""
    file, _, name = file_function.partition("::")
    module_name = ".".join((package.name, *PurePosixPath(file).with_suffix("").parts))
    if str(package.parent) not in sys.path:
        sys.path.insert(0, str(package.parent))
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise CheckFailed(f"{file_function} cannot be imported: {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        there = ", ".join(sorted(key for key, value in vars(module).items() if inspect.isfunction(value))) or "none"
        raise CheckFailed(
            f"{file} has no function {name}\n  found:    functions: {there}\n"
            "  to do:    define it there, or correct solution.yaml"
        )
    function = getattr(module, name)
    if not callable(function):
        raise CheckFailed(f"{file_function} is a {type(function).__name__}; expected a function")
    return function


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


def _check_imports(spec: SolutionSpec, name: str, text: str, sources: dict[str, str]) -> None:
    """Refuse what would work in the checkout but not packed: the package `bakeoff`, and shared files that do not
    travel."""
    if not name.endswith(".py"):
        return
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise InputError(
            f"{_origin(spec, name)}:{error.lineno}",
            found=f"not valid Python: {error.msg}",
            expected="Python source",
            hint="correct the file",
        ) from error
    for node in ast.walk(tree):
        for target in _imported(node, PurePosixPath(name).parent):
            if target[:1] == ("bakeoff",):
                raise _import_flaw(
                    spec, name, node, "an import of bakeoff", "a solution that needs no package of this project"
                )
            is_shared = target[:2] == ("", COMMON) and len(target) > 2
            if is_shared and f"{COMMON}/{target[2]}.py" not in sources and _is_shared_file(spec, target[2]):
                listed = f"{target[2]}.py listed under `common` in {spec.folder.name}/solution.yaml"
                raise _import_flaw(
                    spec, name, node, f"an import of {COMMON}/{target[2]}.py, which does not travel along", listed
                )


def _imported(node: ast.AST, folder: PurePosixPath) -> list[tuple[str, ...]]:
    """Modules that a statement imports, as parts; relative ones start with '' and count from the package's root."""
    if isinstance(node, ast.Import):
        return [tuple(alias.name.split(".")) for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    module = tuple((node.module or "").split(".")) if node.module else ()
    if node.level == 0:
        return [module]
    base = ("", *folder.parts[: len(folder.parts) - node.level + 1], *module)
    return [(*base, alias.name) for alias in node.names] + [base]


def _is_shared_file(spec: SolutionSpec, module: str) -> bool:
    return (spec.folder.parent / COMMON / f"{module}.py").is_file()


def _origin(spec: SolutionSpec, name: str) -> Path:
    return (spec.folder.parent if name.startswith(f"{COMMON}/") else spec.folder) / name


def _import_flaw(spec: SolutionSpec, name: str, node: ast.AST, found: str, expected: str) -> InputError:
    place = f"{_origin(spec, name)}:{getattr(node, 'lineno', 0)}"
    return InputError(
        place, found, expected, hint="correct the import or the list; solutions/README.md has the contract"
    )
