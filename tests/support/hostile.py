"""The hostile solutions of tests/hostile, and what each must get."""

from __future__ import annotations

import ast
import os
from typing import Any

from bakeoff.files import PROJECT_ROOT

# Of a file that has `attempt` in place of `hostile`: what it tries must be refused, or its output is never written.
REFUSED = """

def hostile(honest, *arguments):
    try:
        attempt()
    except OSError:
        honest(*arguments)
"""


def _source(text: str) -> str:
    return text if "\ndef hostile(" in text else text + REFUSED


# BAKEOFF_ATTACKS: names of some, separated by commas, where trying all would take too long.
CHOSEN = os.environ.get("BAKEOFF_ATTACKS", "*").split(",")
PATHS = sorted(path for name in CHOSEN for path in (PROJECT_ROOT / "tests/hostile").glob(f"{name}.py"))
HOSTILE = {path.stem: _source(path.read_text()) for path in PATHS}


def facts(source: str) -> dict[str, Any]:
    """EXPECTED and DEVICE of an attack, read without running it; DEVICE is cpu where it names none."""
    found = [node for node in ast.parse(source).body if isinstance(node, ast.Assign)]
    named = {node.targets[0].id: node.value for node in found if isinstance(node.targets[0], ast.Name)}
    wanted = {name: named[name] for name in ("EXPECTED", "DEVICE") if name in named}
    return {"DEVICE": "cpu", **{name: ast.literal_eval(value) for name, value in wanted.items()}}
