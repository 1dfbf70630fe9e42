"""The committed files under traces/ are what their generator makes, and hold the published workloads."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch
from bakeoff.core.moe.geometry import Geometry
from bakeoff.core.moe.inputs import routing_seed, routing_stats
from bakeoff.files import PROJECT_ROOT
from bakeoff.traces import definitions
from bakeoff.traces.models import line
from bakeoff.traces.store import TraceRoot
from support.made import PAIRS as PUBLISHED
from support.minimal_traces import FULL, NARROW, TRACES

SHAPES = {
    "routing_logits": (("T", 256), "float32"),
    "routing_bias": ((256,), "bfloat16"),
    "hidden_states": (("T", 7168), "float8_e4m3fn"),
    "hidden_states_scale": ((56, "T"), "float32"),
    "gemm1_weights": ((32, 4096, 7168), "float8_e4m3fn"),
    "gemm1_weights_scale": ((32, 32, 56), "float32"),
    "gemm2_weights": ((32, 7168, 2048), "float8_e4m3fn"),
    "gemm2_weights_scale": ((32, 56, 16), "float32"),
    "local_expert_offset": (None, "int32"),
    "routed_scaling_factor": (None, "float32"),
}


def test_the_committed_definitions_are_current() -> None:
    """If this fails: `make generate` writes them."""
    made = definitions.definition_files()
    assert sorted(made) == [f"definitions/moe/{name}.json" for name in sorted((FULL, NARROW))]
    for name, content in made.items():
        assert (TRACES / name).read_bytes() == content


@pytest.mark.parametrize("name", [FULL, NARROW])
def test_the_reference_in_a_definition_is_the_file_in_the_package(name: str) -> None:
    text = (PROJECT_ROOT / "workflow/bakeoff/core/moe/reference.py").read_text()
    assert TraceRoot(TRACES).definition(name).reference == text
    # It runs wherever the definition goes, so it may need nothing but torch.
    imported = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [ast.unparse(node) for node in imported] == ["import torch"]


def test_the_full_definition_has_the_inputs_of_the_benchmark_in_its_order() -> None:
    definition = TraceRoot(TRACES).definition(FULL)
    assert list(definition.inputs) == list(SHAPES)
    for name, (shape, dtype) in SHAPES.items():
        expected = None if shape is None else tuple(9 if length == "T" else length for length in shape)
        assert (definition.shape(name, {"seq_len": 9}), definition.inputs[name].dtype) == (expected, dtype)
    assert definition.shape("output", {"seq_len": 9}) == (9, 7168)
    assert definition.outputs["output"].dtype == "bfloat16"


@pytest.mark.parametrize("name", [FULL, NARROW])
def test_every_constraint_holds(name: str) -> None:
    definition = TraceRoot(TRACES).definition(name)
    lengths = {axis: definition.length(axis) for axis, spec in definition.axes.items() if spec.type == "const"}
    assert definition.constraints
    for constraint in definition.constraints:
        assert eval(constraint, {}, lengths)


def test_the_narrow_sibling_differs_in_its_widths_only() -> None:
    full, narrow = (TraceRoot(TRACES).definition(name) for name in (FULL, NARROW))
    assert (full.inputs, full.outputs, full.reference) == (narrow.inputs, narrow.outputs, narrow.reference)
    different = {name for name in full.axes if full.axes[name] != narrow.axes[name]}
    assert different == {
        "hidden_size",
        "intermediate_size",
        "gemm1_out_size",
        "num_hidden_blocks",
        "num_intermediate_blocks",
        "num_gemm1_out_blocks",
    }


@pytest.mark.parametrize("name", [FULL, NARROW])
def test_the_workloads_are_the_published_ones(name: str) -> None:
    cases = TraceRoot(TRACES).workloads(name)
    assert [(case.seq_len, case.offset) for case in cases] == PUBLISHED
    assert {case.factor for case in cases} == {2.5}
    assert len({case.uuid for case in cases}) == 19


def test_both_definitions_share_the_routing_of_their_workloads() -> None:
    full, narrow = (TraceRoot(TRACES).workloads(name) for name in (FULL, NARROW))
    assert [(case.id, case.seed, case.stats) for case in full] == [(case.id, case.seed, case.stats) for case in narrow]
    assert all(case.seed is not None and case.stats is not None for case in full)


def test_every_workload_has_work_and_one_token_has_two_local_experts() -> None:
    for case in TraceRoot(TRACES).workloads(FULL):
        stats = case.stats
        assert stats and 0 < stats.active_tokens <= case.seq_len
        assert stats.active_tokens <= stats.local_pairs <= 8 * stats.active_tokens
        assert 0 < stats.active_experts <= min(32, stats.local_pairs)
        if case.seq_len == 1:
            assert stats.local_pairs == 2


def test_the_stored_routing_figures_are_what_the_generator_gives_now() -> None:
    """The short workloads; `bakeoff generate --check` goes through all of them."""
    root = TraceRoot(TRACES)
    geometry = Geometry.of(root.definition(NARROW))
    for case in root.workloads(NARROW):
        if case.seq_len < 1000:
            assert routing_stats(geometry, case) == case.stats, case.id


def test_a_line_without_routing_figures_gets_them_and_nothing_else_changes(tmp_path: Path) -> None:
    from support.minimal_traces import moe_line, moe_root

    given = moe_line(17, 96) | {"x_note": "kept"}
    root = moe_root(tmp_path, [given])
    geometry = Geometry.of(root.definition(NARROW))

    def routing_of(name: str, case):  # type: ignore[no-untyped-def]
        assert name == NARROW
        return routing_seed(geometry, case), routing_stats(geometry, case)

    made = definitions.workload_files(routing_of, tmp_path)
    assert list(made) == [f"workloads/moe/{NARROW}.jsonl"]
    root.workload_path(NARROW).write_bytes(made[f"workloads/moe/{NARROW}.jsonl"])
    (case,) = root.workloads(NARROW)
    assert case.seed == routing_seed(geometry, case) and case.stats == routing_stats(geometry, case)
    assert case.trace.model_extra and case.trace.model_extra["x_note"] == "kept"
    assert line(case.trace) == made[f"workloads/moe/{NARROW}.jsonl"]


def test_the_embedded_reference_computes(tmp_path: Path) -> None:
    """The text runs by itself: a token without a local expert gives an exactly zero row."""
    scope: dict[str, object] = {}
    exec(TraceRoot(TRACES).definition(NARROW).reference, scope)
    logits = torch.full((2, 256), -9.0)
    logits[0, 64:128] = 9.0  # groups 2 and 3 alone are attractive to token 0, groups 6 and 7 to token 1
    logits[1, 192:] = 9.0
    fp8 = torch.float8_e4m3fn
    output = scope["run"](  # type: ignore[operator]
        logits,
        torch.zeros(256, dtype=torch.bfloat16),
        torch.ones(2, 512).to(fp8),
        torch.ones(4, 2),
        torch.ones(32, 512, 512).to(fp8),
        torch.ones(32, 4, 4),
        torch.ones(32, 512, 256).to(fp8),
        torch.ones(32, 4, 2),
        64,
        2.5,
    )
    assert output.shape == (2, 512) and output.dtype == torch.bfloat16
    assert torch.count_nonzero(output[0]) == 512 and torch.count_nonzero(output[1]) == 0
