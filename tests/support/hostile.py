"""The hostile solutions of tests/hostile, and what each must get."""

from __future__ import annotations

import ast
from typing import Any

from bakeoff.files import PROJECT_ROOT

HOSTILE = {path.stem: path.read_text() for path in sorted((PROJECT_ROOT / "tests/hostile").glob("*.py"))}


def facts(source: str) -> dict[str, Any]:
    """EXPECTED and DEVICE of an attack, read without running it."""
    wanted = ("EXPECTED", "DEVICE")
    found = [node for node in ast.parse(source).body if isinstance(node, ast.Assign)]
    return {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in found
        if getattr(node.targets[0], "id", None) in wanted
    }
