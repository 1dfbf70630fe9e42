"""What a solution's sources import, read off their text.

Entry points: `imported` (of one file) and `shared_files` (of a whole solution). Known limit: a name that is computed at
run time is not seen.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

COMMON = "common"  # the folder of shared files: beside the solutions, and in each packed one


def imported(name: str, text: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Line and parts of each module that a file imports; relative ones start with '' and count from the package's root.

    name: the file in the package, with slashes. Raises SyntaxError.
    """
    folder = PurePosixPath(name).parent
    for node in ast.walk(ast.parse(text)):
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
