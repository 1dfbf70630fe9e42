"""Figures in prose come from data: each figure of README and the documents is one that a test computes, or a rule.

A figure is a number with a unit, outside of code and of what is generated between markers. It is accounted for by

- an assertion of a test, `f"... {value:.1f} µs ..." in PAGE`, whose text matches there, or
- an entry of figures_in_prose.yaml: `computed` is a pattern, of a table say, and the test that computes it; `rule` is a
  phrase with what the project chose or defines, `log` one with what setting up and tools cost, measured by hand.

Templates of the report hold no figure of a result at all: what they print comes from the analysis.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest
import yaml
from bakeoff.files import PROJECT_ROOT

LEDGER = yaml.safe_load(Path(__file__).with_name("figures_in_prose.yaml").read_text())
LOGS = {"docs/kernels.md": "This page is a log of experiments"}  # and what a log says of itself
PAGES = sorted(
    str(path.relative_to(PROJECT_ROOT))
    for pattern in ("*.md", "docs/*.md", "*/README.md", "results/*/README.md")
    for path in PROJECT_ROOT.glob(pattern)
    if path.name != "CHANGELOG.md" and path.parts[-2] not in ("tests", "build", "site")
)
UNIT = r"(?:µs|ms|s|%|×|TB/s|GB/s|GB|MB|KB|TFLOPS|GHz|MHz|minutes?|min|hours?|points?|times|seconds)"
NUMBER = r"\d[\d,]*(?:\.\d+)?"
FIGURE = re.compile(rf"(?<![\w.\-]){NUMBER}(?:(?: (?:to|and|or|/|×|–) |[–/]){NUMBER})*\s?{UNIT}(?![\w/])")


def prose(text: str) -> str:
    """A document in one line, without its code and what is generated."""
    text = re.sub(r"<!-- ([\w ]+) -->.*?<!-- end \1 -->", " ", text, flags=re.DOTALL)
    text = re.sub(r"```.*?```", " ", text, flags=re.DOTALL)
    return " ".join(text.split())


@cache
def page(name: str) -> str:
    return prose((PROJECT_ROOT / name).read_text())


@cache
def asserted() -> dict[str, list[re.Pattern[str]]]:
    """document -> what tests assert to stand in it, with a gap for each value that they compute."""
    found: dict[str, list[re.Pattern[str]]] = {}
    for path in sorted((PROJECT_ROOT / "tests").rglob("test_*.py")):
        source = path.read_text()
        named = [name for name in PAGES if f'"{name}"' in source or f'/ "{Path(name).name}"' in source]
        if not named or path == Path(__file__):
            continue
        for function in ast.walk(ast.parse(source)):
            if not isinstance(function, ast.FunctionDef):
                continue
            given = {
                target.id: node.value
                for node in ast.walk(function)
                if isinstance(node, ast.Assign)
                for target in node.targets
                if isinstance(target, ast.Name)
            }
            for node in ast.walk(function):
                if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In):
                    left = node.left
                    left = given.get(left.id, left) if isinstance(left, ast.Name) else left
                    if isinstance(left, ast.JoinedStr):
                        for name in named:
                            found.setdefault(name, []).append(re.compile(_pattern(left)))
    return found


def _pattern(text: ast.JoinedStr) -> str:
    parts = [re.escape(part.value) if isinstance(part, ast.Constant) else r"[\w.,/% –-]{1,30}?" for part in text.values]
    return "".join(parts)


def accounted(name: str, text: str) -> list[tuple[int, int]]:
    """The spans of a page whose figures are accounted for."""
    spans = [found.span() for each in asserted().get(name, ()) for found in each.finditer(text)]
    for kind, entries in LEDGER.get(name, {}).items():
        for entry in entries:
            said = entry["text"] if kind == "computed" else re.escape(entry)
            spans += [found.span() for found in re.finditer(said, text)]
    return spans


def unaccounted(name: str, text: str) -> list[str]:
    spans = accounted(name, text)
    return [
        text[max(0, found.start() - 40) : found.end() + 25]
        for found in FIGURE.finditer(text)
        if not any(start <= found.start() and found.end() <= end for start, end in spans)
    ]


@pytest.mark.parametrize("name", [name for name in PAGES if name not in LOGS])
def test_every_figure_in_prose_is_computed_by_a_test_or_is_no_result(name: str) -> None:
    left = unaccounted(name, page(name))
    assert not left, (
        f"{name}: figures that no test computes from a recorded run: {left}; assert each in a test "
        '(f"... {value} ..." in the page), take it out, or list it in tests/report/figures_in_prose.yaml'
    )


@pytest.mark.parametrize("name", LOGS)
def test_a_log_says_that_it_is_one(name: str) -> None:
    assert LOGS[name] in page(name)[:600]


def test_every_entry_of_the_list_is_needed_and_names_a_test_that_is_there() -> None:
    for name, kinds in LEDGER.items():
        assert set(kinds) <= {"computed", "rule", "log"}, name
        for kind, entries in kinds.items():
            for entry in entries:
                found = re.search(entry["text"] if kind == "computed" else re.escape(entry), page(name))
                assert found and FIGURE.search(found[0]), f"{name}: {entry!r} is not there, or has no figure"
                if kind == "computed":
                    path, _, test = entry["test"].partition("::")
                    assert f"def {test}(" in (PROJECT_ROOT / path).read_text(), entry["test"]


@pytest.mark.parametrize(
    "said",
    [
        "v4 is 7.3 % faster than v3.2 at T = 1.",
        "At T = 901 a call takes 373 µs.",
        "The fastest takes 0.926 × the time.",
        "It reads 3.1 TB/s there, 2.5 times as much.",
        "Between them lie 0.8 to 6.8 %.",
    ],
)
@pytest.mark.parametrize("name", ["README.md", "docs/questions.md", "docs/measurement.md"])
def test_a_new_result_in_prose_is_noticed(name: str, said: str) -> None:
    assert unaccounted(name, page(name) + " " + said)


def test_templates_of_the_report_hold_no_result() -> None:
    """Only bounds that the rules define stand in them as text."""
    for path in sorted((PROJECT_ROOT / "report_templates").rglob("*.j2")):
        text = re.sub(r"\{[{%#].*?[}%#]\}", " ", path.read_text(), flags=re.DOTALL)
        found = {" ".join(one.group().split()) for one in FIGURE.finditer(text)}
        assert found <= {"2 %", "95 %", "1 %", "100 %"}, f"{path.name}: {found}"
