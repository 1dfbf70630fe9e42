"""The formats keep what they read, and refuse exactly what FlashInfer-Bench refuses."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import flashinfer_bench.data as fib
import pytest
from bakeoff.traces.models import Definition, Solution, Trace, document, line
from pydantic import BaseModel, ValidationError
from support import minimal_traces as minimal

Spoil = Callable[[dict[str, Any]], object]
KINDS: dict[str, tuple[Callable[[], dict[str, Any]], type[BaseModel], type[BaseModel]]] = {
    "definition": (minimal.definition, Definition, fib.Definition),
    "workload": (minimal.workload, Trace, fib.Trace),
    "trace": (minimal.trace, Trace, fib.Trace),
    "solution": (minimal.solution, Solution, fib.Solution),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_round_trip_keeps_every_field_also_unknown_ones_and_every_order(kind: str) -> None:
    make, ours, _ = KINDS[kind]
    given = make()
    _sprinkle(given)
    first = ours.model_validate(given)
    again = ours.model_validate(json.loads(document(first)))
    assert again == first
    assert document(again) == document(first)
    assert json.loads(line(again)) == given
    if kind == "definition":
        assert list(json.loads(document(again))["inputs"]) == ["zeta", "alpha"]


def _sprinkle(value: Any) -> None:
    """Put an unknown field into every object that is a document, not a mapping from names."""
    if isinstance(value, list):
        for item in value:
            _sprinkle(item)
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in ("axes", "inputs", "outputs", "extra", "libs"):
                _sprinkle(item)
            elif key in ("inputs", "outputs"):
                _sprinkle(list(item.values()))
        value["x_unknown"] = {"deep": [1, None, "ü"]}


BROKEN: dict[str, tuple[str, Spoil]] = {
    "no name": ("definition", lambda d: d.pop("name")),
    "empty name": ("definition", lambda d: d.update(name="")),
    "unknown dtype": ("definition", lambda d: d["inputs"]["zeta"].update(dtype="float12")),
    "shape of an undefined axis": ("definition", lambda d: d["inputs"]["zeta"].update(shape=["rows", "depth"])),
    "output shape of an undefined axis": ("definition", lambda d: d["outputs"]["out"].update(shape=["depth"])),
    "an input named like an output": ("definition", lambda d: d["outputs"].update(zeta=d["outputs"]["out"])),
    "reference without run": ("definition", lambda d: d.update(reference="def walk():\n    pass\n")),
    "reference with run inside a class": (
        "definition",
        lambda d: d.update(reference="class A:\n    def run(self): ...\n"),
    ),
    "reference that is no Python": ("definition", lambda d: d.update(reference="def run(:\n")),
    "constraint that is no expression": ("definition", lambda d: d.update(constraints=["columns ="])),
    "negative axis": ("definition", lambda d: d["axes"]["columns"].update(value=-1)),
    "constant axis without a value": ("definition", lambda d: d["axes"]["columns"].pop("value")),
    "axis of an unknown type": ("definition", lambda d: d["axes"]["columns"].update(type="maybe")),
    "no uuid": ("workload", lambda d: d["workload"].pop("uuid")),
    "negative length": ("workload", lambda d: d["workload"]["axes"].update(rows=-3)),
    "length that is no whole number": ("workload", lambda d: d["workload"]["axes"].update(rows=3.5)),
    "input of an unknown type": ("workload", lambda d: d["workload"]["inputs"]["alpha"].update(type="magic")),
    "scalar without a value": ("workload", lambda d: d["workload"]["inputs"]["alpha"].pop("value")),
    "scalar that is a text": ("workload", lambda d: d["workload"]["inputs"]["alpha"].update(value="two")),
    "safetensors without a key": ("workload", lambda d: d["workload"]["inputs"]["zeta"].pop("tensor_key")),
    "safetensors with an empty path": ("workload", lambda d: d["workload"]["inputs"]["zeta"].update(path="")),
    "unknown status": ("trace", lambda d: d["evaluation"].update(status="FINE")),
    "PASSED without performance": ("trace", lambda d: d["evaluation"].update(performance=None)),
    "PASSED without correctness": ("trace", lambda d: d["evaluation"].update(correctness=None)),
    "performance of a wrong output": ("trace", lambda d: d["evaluation"].update(status="INCORRECT_NUMERICAL")),
    "correctness of a crash": ("trace", lambda d: d["evaluation"].update(status="RUNTIME_ERROR", performance=None)),
    "negative error": ("trace", lambda d: d["evaluation"]["correctness"].update(max_absolute_error=-1)),
    "negative time": ("trace", lambda d: d["evaluation"]["performance"].update(latency_ms=-1)),
    "no hardware": ("trace", lambda d: d["evaluation"]["environment"].update(hardware="")),
    "no time stamp": ("trace", lambda d: d["evaluation"].pop("timestamp")),
    "unknown language": ("solution", lambda d: d["spec"].update(language="cobol")),
    "unknown binding": ("solution", lambda d: d["spec"].update(binding="glue")),
    "no hardware named": ("solution", lambda d: d["spec"].update(target_hardware=[])),
    "entry point without a function": ("solution", lambda d: d["spec"].update(entry_point="main.py")),
    "entry point in a file that is missing": ("solution", lambda d: d["spec"].update(entry_point="other.py::run")),
    "no source": ("solution", lambda d: d.update(sources=[])),
    "empty source": ("solution", lambda d: d["sources"][0].update(content="")),
    "absolute path": ("solution", lambda d: d["sources"].append({"path": "/etc/passwd", "content": "x"})),
    "path out of the package": ("solution", lambda d: d["sources"].append({"path": "a/../../b", "content": "x"})),
    "a source twice": ("solution", lambda d: d["sources"].append(copy.deepcopy(d["sources"][0]))),
}
FINE: dict[str, tuple[str, Spoil]] = {
    "as it is, definition": ("definition", lambda d: None),
    "as it is, workload": ("workload", lambda d: None),
    "as it is, trace": ("trace", lambda d: None),
    "as it is, solution": ("solution", lambda d: None),
    "axis type left out": ("definition", lambda d: d["axes"]["columns"].pop("type")),
    "variable axis without a type": ("definition", lambda d: d["axes"].update(rows={})),
    "input type left out": ("workload", lambda d: d["workload"]["inputs"]["alpha"].pop("type")),
    "random without a type": ("workload", lambda d: d["workload"]["inputs"].update(zeta={})),
    "no solution field": ("workload", lambda d: d.pop("solution")),
    "error not a number": ("trace", lambda d: d["evaluation"]["correctness"].update(max_absolute_error="NaN")),
    "infinite error": ("trace", lambda d: d["evaluation"]["correctness"].update(max_absolute_error="Infinity")),
    "timeout": ("trace", lambda d: d["evaluation"].update(status="TIMEOUT", performance=None, correctness=None)),
    "wrong output": ("trace", lambda d: d["evaluation"].update(status="INCORRECT_NUMERICAL", performance=None)),
    "no dependencies": ("solution", lambda d: d["spec"].pop("dependencies")),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_flashinfer_bench_refuses_is_refused(name: str) -> None:
    kind, spoil = BROKEN[name]
    make, ours, theirs = KINDS[kind]
    given = make()
    spoil(given)
    for model in (ours, theirs):
        with pytest.raises(ValidationError):
            model.model_validate(given)


@pytest.mark.parametrize("name", FINE)
def test_what_flashinfer_bench_accepts_is_accepted_and_means_the_same(name: str) -> None:
    kind, change = FINE[name]
    make, ours, theirs = KINDS[kind]
    given = make()
    change(given)
    mine, other = ours.model_validate(given), theirs.model_validate(given)
    # What they would write after reading what is written here is what they would have written themselves.
    assert theirs.model_validate_json(line(mine)).model_dump_json() == other.model_dump_json()


def test_a_length_written_as_a_text_is_refused_though_flashinfer_bench_would_convert_it() -> None:
    given = minimal.workload()
    given["workload"]["axes"]["rows"] = "3"
    assert fib.Trace.model_validate(given).workload.axes == {"rows": 3}
    with pytest.raises(ValidationError, match=r"workload\.axes\.rows"):
        Trace.model_validate(given)


def test_shapes_follow_from_constant_and_given_axes() -> None:
    made = Definition.model_validate(minimal.definition())
    assert made.shape("zeta", {"rows": 3}) == (3, 4)
    assert made.shape("alpha", {"rows": 3}) is None
    assert made.length("columns") == 4
    with pytest.raises(ValueError, match="variable"):
        made.length("rows")
