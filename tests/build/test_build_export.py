"""The exported folder is a complete flashinfer-trace data set: FlashInfer-Bench loads and runs it, and it is read
here."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import flashinfer_bench.data as fib
import pytest
import torch
from bakeoff.build.export import export
from bakeoff.build.spec import discover
from bakeoff.core.moe.geometry import Geometry
from bakeoff.core.moe.inputs import make_routing, routing_stats
from bakeoff.errors import InputError
from bakeoff.files import PROJECT_ROOT
from bakeoff.traces.dataset import PublicDataset
from bakeoff.traces.store import Case, TraceRoot
from flashinfer_bench.bench.utils import gen_inputs, load_safetensors
from support.build_solutions import NARROW, SOLUTIONS

ROOT = TraceRoot(PROJECT_ROOT / "traces")
DEFINITION = ROOT.definition(NARROW)
GEOMETRY = Geometry.of(DEFINITION)
SPECS = discover(SOLUTIONS)
CASES = [case for case in ROOT.workloads(NARROW) if case.seq_len <= 16]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("export") / "new" / "folder"
    export(made, DEFINITION, CASES, SPECS, None)
    return made


def test_flashinfer_bench_loads_the_folder_whole(folder: Path) -> None:
    loaded = fib.TraceSet.from_path(str(folder))
    assert list(loaded.definitions) == [NARROW]
    assert sorted(solution.name for solution in loaded.solutions[NARROW]) == [spec.name for spec in SPECS]
    assert [trace.workload.uuid for trace in loaded.workloads[NARROW]] == [case.uuid for case in CASES]
    assert loaded.traces == {}


@pytest.mark.parametrize("index", range(len(CASES)))
def test_flashinfer_bench_feeds_the_synthetic_routing_and_draws_the_rest(folder: Path, index: int) -> None:
    loaded, case = fib.TraceSet.from_path(str(folder)), CASES[index]
    definition, workload = loaded.definitions[NARROW], loaded.workloads[NARROW][index].workload
    inputs = gen_inputs(definition, workload, "cpu", load_safetensors(definition, workload, folder))
    logits, bias = make_routing(GEOMETRY, case)
    assert torch.equal(inputs[0], logits) and torch.equal(inputs[1], bias)
    assert [tuple(value.shape) for value in inputs[2:8]] == [
        DEFINITION.shape(name, {"seq_len": case.seq_len}) for name in list(DEFINITION.inputs)[2:8]
    ]
    assert inputs[8:] == [case.offset, case.factor]


def test_flashinfer_bench_judges_a_solution_on_the_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its reference and its comparison, on the cpu: the published tolerances, and 0.85 of the elements."""
    monkeypatch.setenv("FIB_CACHE_PATH", str(tmp_path))
    from flashinfer_bench.bench import BenchmarkConfig
    from flashinfer_bench.bench.utils import compute_error_stats
    from flashinfer_bench.compile import BuilderRegistry

    loaded, registry = fib.TraceSet.from_path(str(folder)), BuilderRegistry.get_instance()
    definition, workload = loaded.definitions[NARROW], loaded.workloads[NARROW][-1].workload
    inputs = gen_inputs(definition, workload, "cpu", load_safetensors(definition, workload, folder))
    expected = registry.build_reference(definition)(*inputs)
    output = torch.full_like(expected, float("nan"))
    registry.build(definition, loaded.get_solution("triton_fused_moe_v2"))(*inputs, output)
    limits = BenchmarkConfig(rtol=0.2, atol=0.1, required_matched_ratio=0.85)
    *_, exceeds, matched = compute_error_stats(output, expected, limits)
    assert not exceeds and 0.85 < matched < 1
    *_, exceeds, _ = compute_error_stats(torch.zeros_like(expected) + 1, expected, limits)
    assert exceeds


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_folder_serves_as_a_data_set(folder: Path, case: Case) -> None:
    logits, bias = PublicDataset(folder).routing_inputs(NARROW, case.seq_len, case.offset)
    expected = make_routing(GEOMETRY, case)
    assert torch.equal(logits, expected[0]) and torch.equal(bias, expected[1])


def test_the_folder_is_read_here_with_seeds_and_routing_figures(folder: Path) -> None:
    read = TraceRoot(folder).workloads(NARROW)
    assert [(case.id, case.seed, case.stats) for case in read] == [(case.id, case.seed, case.stats) for case in CASES]
    assert TraceRoot(folder).definition(NARROW) == DEFINITION


def test_another_seed_makes_other_workloads_with_their_own_identity(tmp_path: Path) -> None:
    seed = 1 + max(case.seed or 0 for case in CASES)
    export(tmp_path / "other", DEFINITION, CASES, SPECS[:1], seed)
    for ours, read in zip(CASES, TraceRoot(tmp_path / "other").workloads(NARROW), strict=True):
        assert read.uuid != ours.uuid and read.id == ours.id and read.seed == seed
        assert read.stats == routing_stats(GEOMETRY, dataclasses.replace(ours, seed=seed))
        logits, _ = PublicDataset(tmp_path / "other").routing_inputs(NARROW, ours.seq_len, ours.offset)
        assert torch.equal(logits, make_routing(GEOMETRY, dataclasses.replace(ours, seed=seed))[0])
        assert not torch.equal(logits, make_routing(GEOMETRY, ours)[0])


def test_two_exports_have_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    export(tmp_path / "again", DEFINITION, CASES, SPECS, None)
    trees = [
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (folder, tmp_path / "again")
    ]
    assert trees[0] == trees[1]


@pytest.mark.parametrize("kind", ["a folder with a file", "a file"])
def test_an_export_never_mixes_with_what_is_there(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "taken"
    if kind == "a file":
        place.write_text("mine")
    else:
        place.mkdir()
        (place / "mine").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        export(place, DEFINITION, CASES, SPECS, None)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["taken" if kind == "a file" else "mine"]
