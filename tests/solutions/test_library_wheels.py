"""The recorded signatures of libraries against the wheels: put them (pip download --no-deps) in a folder and name it in
BAKEOFF_WHEELS."""

from __future__ import annotations

import ast
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
from support.recorded_calls import FACTS
from support.solution_support import module_of

WHEELS = Path(os.environ.get("BAKEOFF_WHEELS", "no-folder-given"))


@pytest.mark.parametrize("fact", FACTS["functions"], ids=lambda fact: f"{fact['name']}-{fact['version']}")
def test_the_recorded_signatures_are_those_of_the_wheels(fact):
    with open_wheel(fact) as wheel:
        tree = ast.parse(wheel.read(fact["file"]))
    found = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == fact["name"]]
    taken = found[-1].args
    names, named = ([argument.arg for argument in each] for each in (taken.args, taken.kwonlyargs))
    assert names + named == fact["parameters"]
    assert named == fact.get("keyword_only", named)
    without = [name for name, default in zip(named, taken.kw_defaults, strict=True) if default is None]
    assert names[: len(names) - len(taken.defaults)] + without == fact["required"]
    annotations = {
        argument.arg: ast.unparse(argument.annotation)
        for argument in taken.args + taken.kwonlyargs
        if argument.annotation
    }
    assert annotations == fact.get("annotations", annotations)


@pytest.mark.parametrize("fact", FACTS["enumerations"], ids=lambda fact: f"{fact['file']}-{fact['version']}")
def test_the_recorded_enumerations_are_those_of_the_wheels(fact):
    with open_wheel(fact) as wheel:
        tree = ast.parse(wheel.read(fact["file"]))
    found = {
        f"{owner.name}.{each.targets[0].id}": ast.literal_eval(each.value)
        for owner in tree.body
        if isinstance(owner, ast.ClassDef)
        for each in owner.body
        if isinstance(each, ast.Assign)
    }
    cuda = module_of("flashinfer_moe", "cuda")
    values = [each[0] if isinstance(each, tuple) else each for each in (found[name] for name in fact["members"])]
    assert values == list(fact["members"].values()) == [cuda.ROUTING_DEEPSEEK_V3, cuda.WEIGHTS_MAJOR_K]


@pytest.mark.parametrize("fact", FACTS["schemas"], ids=lambda fact: f"{fact['version']}-{fact['file'].split('/')[1]}")
def test_the_recorded_schemas_are_those_of_the_wheels(fact):
    with open_wheel(fact) as wheel:
        assert f"\0{fact['schema']}\0".encode() in wheel.read(fact["file"])


def open_wheel(fact: dict[str, Any]) -> zipfile.ZipFile:
    name = f"{fact['distribution'].replace('-', '_')}-{fact['version']}-*.whl"
    found = sorted(WHEELS.glob(name))
    if not found:
        pytest.skip(
            f"needs {name} in the folder BAKEOFF_WHEELS: pip download --no-deps "
            f"{fact['distribution']}=={fact['version']}"
        )
    return zipfile.ZipFile(found[0])
