"""Imports within the package: no circles, and the trusted side loads nothing of the untrusted one."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest
from bakeoff.files import PROJECT_ROOT
from support.measure_runs import environment

PACKAGE = PROJECT_ROOT / "workflow" / "bakeoff"


def graph() -> dict[str, set[str]]:
    """Module -> modules of the package that it imports, anywhere in its code."""
    paths = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in PACKAGE.rglob("*.py")
    }
    found: dict[str, set[str]] = {}
    for name, path in paths.items():
        imported: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = {f"{node.module}.{alias.name}" for alias in node.names}
                # A package whose modules alone are taken is not used itself.
                imported |= names if names <= set(paths) else {node.module, *names}
            elif isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
        found[name] = imported & set(paths) - {name}
    return found


def test_no_modules_of_the_package_import_each_other_in_a_circle() -> None:
    imports = graph()
    assert len(imports) > 100
    while leaves := {name for name, wanted in imports.items() if not wanted & set(imports)}:
        imports = {name: wanted for name, wanted in imports.items() if name not in leaves}
    assert not imports


def test_the_trusted_side_imports_nothing_of_the_worker() -> None:
    imports, worker = graph(), "bakeoff.core.worker"
    trusted = [name for name in imports if not name.startswith((worker, "bakeoff.profile.child"))]
    assert not {name for name in trusted if any(other.startswith(worker) for other in imports[name])}


@pytest.mark.parametrize("absent", ["torch", "bakeoff.core.worker", "bakeoff.core.referee"])
def test_the_supervisor_runs_without(absent: str) -> None:
    code = f"import sys; import bakeoff.runs.block_run; print({absent!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), text=True, capture_output=True, check=True)
    assert done.stdout.strip() == "False"
