"""Which files of the package a module rests on: itself, every module that it imports, and data files that these name.

Entry points: `closure`, `digest`, and `commit` of the whole checkout. Imports are read off the sources, at any depth
and inside functions; nothing is imported. Known limit: a module that is imported by a computed name, or started as a
process, is not seen: name it too.
"""

import ast
import functools
import subprocess
from collections.abc import Iterator
from pathlib import Path

from bakeoff.files import PROJECT_ROOT, sha256_tree

PACKAGES = PROJECT_ROOT / "workflow"
# What decides a sample: two processes, their environment, and what the supervisor orders, discards and times out by.
DECIDES_A_SAMPLE = (
    "bakeoff.core.worker.__main__",
    "bakeoff.core.referee",
    "bakeoff.core.messages",
    "bakeoff.core.protocols",
    "bakeoff.core.policy",
    "bakeoff.core.environment",
    "bakeoff.core.device.gpu_state",
)


def closure(*modules: str, root: Path | None = None) -> list[Path]:
    """Files that the named modules (`bakeoff.x.y`) rest on, sorted. root: the folder that holds the package."""
    root = root or PACKAGES
    found: set[Path] = set()
    seen: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        for path in _files(root, module):
            if path not in found:
                found |= {path, *_data(path)}
                waiting += _imported(path, path.stat().st_mtime_ns)
    return sorted(found)


def commit() -> str | None:
    """The checkout's commit in twelve digits, `-dirty` where files of it differ; None outside of git."""
    asked = ["git", "-C", str(PROJECT_ROOT), "describe", "--always", "--dirty", "--exclude=*", "--abbrev=12"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def digest(*modules: str, root: Path | None = None) -> str:
    """sha256 of the names and contents of `closure`."""
    return sha256_tree(root or PACKAGES, closure(*modules, root=root))


def _files(root: Path, module: str) -> Iterator[Path]:
    """The module's file, if it is one of the package, and those of the packages around it, which come with it."""
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        base = root.joinpath(*parts[:depth])
        for path in (base / "__init__.py", base.with_name(f"{base.name}.py")):
            if path.is_file():
                yield path


def _data(path: Path) -> list[Path]:
    """Files beside a module that are no Python and whose names stand in its source."""
    beside = [other for other in path.parent.iterdir() if other.suffix in (".yaml", ".json")]
    source = path.read_text(encoding="utf-8") if beside else ""
    return [other for other in beside if f'"{other.name}"' in source]


@functools.cache
def _imported(path: Path, changed_ns: int) -> tuple[str, ...]:
    """Modules of the package that a file imports; a name after `import` may be a module or not."""
    # The functions of a package's __init__ are for its users; whoever imports a module below it runs none of them.
    return tuple(_targets(ast.parse(path.read_text(encoding="utf-8")), path.name == "__init__.py"))


def _targets(tree: ast.AST, is_package: bool) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.expr):
            continue  # no statement stands in one, and most of a tree is expressions
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue  # for type checkers: never imported
        if isinstance(node, ast.FunctionDef) and is_package:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            yield from _targets(node, is_package)
            continue
        yield from (name for name in names if name.split(".")[0] == "bakeoff")
