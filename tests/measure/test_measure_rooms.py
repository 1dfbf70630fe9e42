"""The rooms of measuring: imports go one way, and the trusted side loads nothing of the untrusted one."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest
from bakeoff.files import PROJECT_ROOT
from measure_runs import environment

PACKAGE = PROJECT_ROOT / "workflow" / "bakeoff"
# Each may import those before it.
ORDER = ("host", "samples", "device", "wire", "worker", "supervisor", "ledger", "check", "verbs")


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
                imported |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            elif isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
        found[name] = imported & set(paths) - {name}
    return found


def room(module: str) -> str | None:
    parts = module.split(".")
    return parts[2] if parts[:2] == ["bakeoff", "measure"] and len(parts) > 2 else None


def test_no_modules_of_the_package_import_each_other_in_a_circle() -> None:
    imports = graph()
    assert len(imports) > 100
    while leaves := {name for name, wanted in imports.items() if not wanted & set(imports)}:
        imports = {name: wanted for name, wanted in imports.items() if name not in leaves}
    assert not imports


def test_rooms_of_measuring_import_those_before_them() -> None:
    pairs = {(room(name), room(other)) for name, wanted in graph().items() for other in wanted}
    inside = {(one, other) for one, other in pairs if one and other and one != other}
    assert ("supervisor", "wire") in inside
    assert not {(one, other) for one, other in inside if ORDER.index(one) < ORDER.index(other)}


def test_the_trusted_side_imports_nothing_of_the_worker() -> None:
    imports = graph()
    for name in (
        name for name in imports if room(name) in ("samples", "device", "wire", "supervisor", "ledger", "check")
    ):
        assert not {other for other in imports[name] if room(other) == "worker"}, name


@pytest.mark.parametrize("absent", ["torch", "bakeoff.measure.worker", "bakeoff.measure.supervisor.referee"])
def test_the_supervisor_runs_without(absent: str) -> None:
    code = f"import sys; import bakeoff.measure.ledger; print({absent!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), text=True, capture_output=True, check=True)
    assert done.stdout.strip() == "False"
