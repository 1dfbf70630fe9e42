"""A packed solution on its way into a process: named by what it does, written out as a package, imported.

Entry points: `digest`, `stage`, `load_entry`. A packed solution is a FlashInfer-Bench Solution document.
"""

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from bakeoff.errors import CheckFailed
from bakeoff.files import canonical_json, sha256_bytes, unwritable
from bakeoff.traces.models import Solution


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
            f"{file_function}: {file} has no function {name}\n  found:    functions: {there}\n"
            "  to do:    define it there, or correct solution.yaml"
        )
    function = getattr(module, name)
    if not callable(function):
        raise CheckFailed(f"{file_function} is a {type(function).__name__}; expected a function")
    return function
