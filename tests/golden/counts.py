#!/usr/bin/env python3
"""Prints the counts that README.md keeps: statements, classes and tests, and the seconds of `.ci/run` by part.

python3 tests/golden/counts.py           of this checkout
.ci/run 2>&1 | tee log; python3 tests/golden/counts.py log     with the seconds that a log of .ci/run shows
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import names

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "workflow/bakeoff"
STEP = re.compile(r"^== (.+) \((\d+) s so far\)$", re.MULTILINE)


def counts() -> dict[str, int]:
    """Each count by what it counts."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
    models = list(_models(classes))
    return {
        "modules of the package": len(trees),
        "statements of the package": sum(isinstance(node, ast.stmt) for node in nodes),
        "classes of the package": len(classes),
        "pydantic classes": len(models),
        "names of pydantic classes": len(set(models)),
        "test functions": len(names.tests_of(ROOT / "tests")),
    }


def _models(classes: list[ast.ClassDef]) -> Iterator[str]:
    """Names of the classes that inherit from pydantic's BaseModel, one for each definition."""
    bases = {id(one): {ast.unparse(base).split(".")[-1].split("[")[0] for base in one.bases} for one in classes}
    known = {"BaseModel"}
    while True:
        found = known | {one.name for one in classes if bases[id(one)] & known}
        if found == known:
            return iter([one.name for one in classes if bases[id(one)] & known])
        known = found


def seconds(log: str) -> dict[str, int]:
    """Seconds of each part of `.ci/run`, from what it prints at the start of each."""
    marks = [(name, int(at)) for name, at in STEP.findall(log)]
    return {name: after - at for (name, at), (_, after) in pairwise(marks)}


if __name__ == "__main__":
    for what, count in counts().items():
        print(f"{count:7,d}  {what}")
    for path in sys.argv[1:]:
        for part, took in seconds(Path(path).read_text(encoding="utf-8")).items():
            print(f"{took:7,d}  s: {part}")
