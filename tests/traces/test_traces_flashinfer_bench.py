"""FlashInfer-Bench 0.1.2 loads what is written here, and what it writes is loaded here."""

from __future__ import annotations

import json
import math
from pathlib import Path

import flashinfer_bench.data as fib
import pytest
from bakeoff.traces.models import Definition, Solution, Trace, document, line
from bakeoff.traces.store import TraceRoot, read_traces
from hypothesis import given, settings
from hypothesis import strategies as st
from support import minimal_traces as minimal
from support.minimal_traces import FULL, NARROW, TRACES


@pytest.mark.parametrize("name", [FULL, NARROW])
def test_flashinfer_bench_loads_the_committed_definitions_and_workloads(name: str) -> None:
    loaded = fib.TraceSet.from_path(str(TRACES))
    assert set(loaded.definitions) == {FULL, NARROW}
    theirs, ours = loaded.definitions[name], TraceRoot(TRACES).definition(name)
    assert list(theirs.inputs) == list(ours.inputs)
    assert theirs.get_input_shapes({"seq_len": 7}) == [
        None if (shape := ours.shape(tensor, {"seq_len": 7})) is None else list(shape) for tensor in ours.inputs
    ]
    assert [trace.workload.axes["seq_len"] for trace in loaded.workloads[name]] == [
        case.seq_len for case in TraceRoot(TRACES).workloads(name)
    ]


def test_flashinfer_bench_draws_inputs_for_a_committed_workload() -> None:
    from flashinfer_bench.bench.utils import gen_inputs

    loaded = fib.TraceSet.from_path(str(TRACES))
    workload = loaded.workloads[NARROW][1].workload
    values = gen_inputs(loaded.definitions[NARROW], workload, "cpu")
    assert values[0].shape == (7, 256) and values[-2:] == [192, 2.5]


def test_what_flashinfer_bench_saves_is_loaded_with_the_same_meaning(tmp_path: Path) -> None:
    definition = fib.Definition.model_validate(minimal.definition())
    solution = fib.Solution.model_validate(minimal.solution())
    traces = [fib.Trace.model_validate(make()) for make in (minimal.workload, minimal.trace)]
    fib.save_json_file(definition, tmp_path / "definition.json")
    fib.save_json_file(solution, tmp_path / "solution.json")
    fib.save_jsonl_file(traces, tmp_path / "traces.jsonl")
    ours = Definition.model_validate_json((tmp_path / "definition.json").read_bytes())
    assert fib.Definition.model_validate_json(document(ours)) == definition
    packed = Solution.model_validate_json((tmp_path / "solution.json").read_bytes())
    assert fib.Solution.model_validate_json(document(packed)).hash() == solution.hash()
    read = [trace for _, trace in read_traces(tmp_path / "traces.jsonl")]
    assert [fib.Trace.model_validate_json(line(trace)) for trace in read] == traces
    assert [trace.is_workload() for trace in read] == [True, False]


def test_a_definition_saved_without_its_default_types_is_loaded(tmp_path: Path) -> None:
    """FlashInfer-Bench writes only what was set, so `type` may be missing."""
    axes = {"rows": fib.AxisVar(), "columns": fib.AxisConst(value=4)}
    definition = fib.Definition(**(minimal.definition() | {"axes": axes}))
    fib.save_json_file(definition, tmp_path / "definition.json")
    assert "type" not in json.loads((tmp_path / "definition.json").read_text())["axes"]["columns"]
    ours = Definition.model_validate_json((tmp_path / "definition.json").read_bytes())
    assert (ours.axes["columns"].value, ours.axes["rows"].value) == (4, None)


def test_a_trace_set_of_files_written_here_is_loaded_whole(tmp_path: Path) -> None:
    files = {
        "definitions/toy/scale.json": document(Definition.model_validate(minimal.definition())),
        "solutions/someone/toy/scale/fast_scale.json": document(Solution.model_validate(minimal.solution())),
        "workloads/toy/scale.jsonl": line(Trace.model_validate(minimal.workload())),
        "traces/toy/scale.jsonl": line(Trace.model_validate(minimal.trace())),
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(content)
    loaded = fib.TraceSet.from_path(str(tmp_path))
    assert loaded.get_solution("fast_scale").spec.entry_point == "main.py::run"
    assert (
        loaded.get_best_trace("scale", max_abs_error=100, max_rel_error=1).evaluation.performance.speedup_factor == 10
    )
    assert loaded.summary()["passed"] == 1
    assert len(loaded.workloads["scale"]) == 1


ERRORS = st.one_of(st.floats(min_value=0, allow_infinity=True), st.just(math.nan))
TIMES = st.floats(min_value=0, max_value=1e9)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@st.composite
def evaluations(draw: st.DrawFn) -> dict[str, object]:
    status = draw(st.sampled_from([status.value for status in fib.EvaluationStatus]))
    made: dict[str, object] = {
        "status": status,
        "environment": {"hardware": draw(TEXTS), "libs": draw(st.dictionaries(TEXTS, TEXTS, max_size=2))},
        "timestamp": draw(TEXTS),
        "log": draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=30)),
    }
    if status in ("PASSED", "INCORRECT_NUMERICAL"):
        made["correctness"] = {"max_relative_error": draw(ERRORS), "max_absolute_error": draw(ERRORS)}
    if status == "PASSED":
        keys = ("latency_ms", "reference_latency_ms", "speedup_factor")
        made["performance"] = {key: draw(TIMES) for key in keys}
    return made


@settings(max_examples=60, deadline=None)
@given(evaluations(), st.dictionaries(TEXTS, st.integers(), max_size=2))
def test_any_evaluation_survives_both_ways(evaluation: dict[str, object], note: dict[str, int]) -> None:
    ours = Trace.model_validate(minimal.trace() | {"evaluation": evaluation | {"bakeoff": note}})
    written = line(ours)
    theirs = fib.Trace.model_validate_json(written)
    back = Trace.model_validate_json(theirs.model_dump_json())
    again = fib.Trace.model_validate_json(line(back))
    assert again.model_dump_json() == theirs.model_dump_json()
    assert ours.evaluation and ours.evaluation.model_extra == {"bakeoff": note}
    assert line(Trace.model_validate_json(written)) == written
