#!/usr/bin/env python3
"""Compares the names of all tests with those frozen in tests.txt: one that is gone has a successor or a reason.

    python3 tests/golden/names.py          exit 0, or 1 and each name that is gone without a word
    python3 tests/golden/names.py --add    adds the names of tests that are new; takes none away

A test that moved to another file under its own name is found. The words stand in gone.json: "PATH::NAME" -> the
successor's "PATH::NAME", or a reason in a sentence.
"""

from __future__ import annotations

import ast
import json
import sys
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent


def tests_of(root: Path) -> list[str]:
    """PATH::NAME of every test function under a folder, in order. PATH is relative to it."""
    return sorted(
        f"{path.relative_to(root).as_posix()}::{node.name}"
        for path in root.rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    )


def gone(before: list[str], now: list[str]) -> list[str]:
    """Those that are no longer there, neither in their file nor, under the same name, as a new one in another."""
    missing = Counter(before) - Counter(now)
    moved = Counter(_name(test) for test in (Counter(now) - Counter(before)).elements())
    found = []
    for test in missing.elements():
        if moved[_name(test)]:
            moved[_name(test)] -= 1
        else:
            found.append(test)
    return found


def wrong(before: list[str], now: list[str], words: dict[str, str]) -> list[str]:
    """What is wrong, a sentence each."""
    lost = gone(before, now)
    found = [f"{test} is gone; give it a successor or a reason in gone.json" for test in lost if test not in words]
    found += [f"gone.json: {test} is not gone; take the entry out" for test in words if test not in lost]
    for test, word in words.items():
        if "::" in word and word not in now:
            found.append(f"gone.json: {test}: its successor {word} does not exist")
        elif len(word.split()) < 3 and "::" not in word:
            found.append(f"gone.json: {test}: found {word!r}, expected a successor or a reason in a sentence")
    return found


def _name(test: str) -> str:
    return test.rpartition("::")[2]


def main(argv: list[str]) -> int:
    """Exit code: 0 every frozen test is there or accounted for, 1 one is not."""
    list_of_names = HERE / "tests.txt"
    before, now = list_of_names.read_text(encoding="utf-8").split(), tests_of(HERE.parent)
    if argv == ["--add"]:
        known = {_name(test) for test in before}
        before = sorted([*before, *(test for test in now if _name(test) not in known)])
        list_of_names.write_text("\n".join(before) + "\n", encoding="utf-8")
    words = json.loads((HERE / "gone.json").read_text(encoding="utf-8"))
    found = wrong(before, now, words)
    for line in found:
        print(f"golden: {line}", file=sys.stderr)
    print(f"golden: {len(before)} names of tests compared, {len(now)} tests now, {len(words)} accounted for as gone")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
