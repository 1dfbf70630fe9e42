"""The calls into other libraries: their arguments against the released signatures, and the host path at all T.

A schema test: names, order, dtypes and shapes, on the cpu, with the libraries and the kernels replaced by recorders.
The signatures are data with their source (library_signatures.json). To check that data against the wheels themselves,
put them (pip download --no-deps) in a folder and name it in BAKEOFF_WHEELS.
"""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.solution_support import PUBLISHED_TOKENS, make_inputs, module_of, record_launches, record_own_launches
from triton.tools.tensor_descriptor import TensorDescriptor

FACTS = json.loads(Path(__file__).with_name("library_signatures.json").read_text())
WHEELS = Path(os.environ.get("BAKEOFF_WHEELS", "no-folder-given"))
SCHEMA = re.compile(r"[\w.]+\((?P<arguments>.*)\) -> \(\)")


def facts_of(name: str) -> list[dict[str, Any]]:
    return [fact for fact in FACTS["functions"] if fact["name"] == name]


def signature(fact: dict[str, Any]) -> inspect.Signature:
    return inspect.Signature(
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY
            if name in fact.get("keyword_only", ())
            else inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=inspect.Parameter.empty if name in fact["required"] else None,
        )
        for name in fact["parameters"]
    )


def call_of(name: str, tokens: int):
    output = torch.full((tokens, 512), float("nan"), dtype=torch.bfloat16)
    return module_of(name, "common.checks").check_call(*make_inputs(tokens).values(), output)


@pytest.mark.parametrize("fact", facts_of("trtllm_fp8_block_scale_moe"), ids=lambda fact: fact["version"])
def test_the_native_call_binds_by_name(fact):
    call = call_of("flashinfer_moe", 16)
    arguments = module_of("flashinfer_moe", "cuda").native_arguments(call)
    bound = signature(fact).bind(**arguments).arguments
    assert set(fact["required"]) <= set(bound)
    assert bound["hidden_states_scale"].shape == (4, 16), "block-major, as the native path reads it"
    assert bound["gemm1_weights"].shape == (32, 512, 512)
    assert [bound[k] for k in ("num_experts", "top_k", "n_group", "topk_group")] == [256, 8, 8, 4]
    assert [bound[k] for k in ("local_num_experts", "local_expert_offset", "intermediate_size")] == [32, 32, 256]
    assert bound["routed_scaling_factor"] == 2.5
    assert bound["routing_method_type"] == 2, "RoutingMethodType.DeepSeekV3"
    assert bound["use_shuffled_weight"] is False
    assert bound["weight_layout"] == 0, "WeightLayout.MajorK"


def test_every_argument_of_the_native_call_is_of_the_kind_that_the_library_takes():
    """Types by the function's annotations; dtypes and shapes by what its launcher refuses."""
    (fact,) = (fact for fact in facts_of("trtllm_fp8_block_scale_moe") if "annotations" in fact)
    arguments = module_of("flashinfer_moe", "cuda").native_arguments(call_of("flashinfer_moe", 16))
    check_kinds(fact, arguments, {"T": 16, "H": 512, "I": 256})
    # DeepSeek-V3's routing: the rest of what the launcher refuses.
    groups, kept, k = (arguments[name] for name in ("n_group", "topk_group", "top_k"))
    assert arguments["num_experts"] % groups == 0 and 0 < kept <= 4 and k < kept * arguments["num_experts"] // groups


def check_kinds(fact: dict[str, Any], arguments: dict[str, Any], sizes: dict[str, int]) -> None:
    """Each argument is of the type that the function's annotation names, and of the shape that its launcher takes."""
    kinds = {"torch.Tensor": torch.Tensor, "int": int, "float": float, "bool": bool}
    for name, value in arguments.items():
        annotation = fact["annotations"][name].removeprefix("Optional[").removesuffix("]")
        assert type(value) is kinds[annotation], f"{name}: {type(value).__name__}, where {annotation} is taken"
    for name, (dtype, shape) in fact["tensors"]["of"].items():
        assert str(arguments[name].dtype) == f"torch.{dtype}", name
        assert list(arguments[name].shape) == [
            eval(size.replace("/", "//"), {}, sizes) for size in shape.split(", ")
        ], name
        assert arguments[name].is_contiguous()
    assert set(fact["tensors"]["of"]) == {name for name, value in arguments.items() if isinstance(value, torch.Tensor)}


@pytest.mark.parametrize("tokens", [*PUBLISHED_TOKENS, 2048])
def test_the_fused_kernel_of_a_newer_flashinfer_gets_what_its_launcher_takes(recorded, tokens):
    log = recorded("flashinfer_alphamoe", tokens, "sm_100a")
    assert [kernel for kernel, _, _ in log] == ["route_tokens", "index_pairs", "interleave_gate", "fused"]
    (fact,) = facts_of("alphamoe_fp8_block_scale_aligned_moe")
    cuda = module_of("flashinfer_alphamoe", "cuda")
    assert fact["version"] == cuda.VERSION
    assert list(cuda.ARGUMENTS) == fact["parameters"], "every argument, each of them checked before the first call"
    _, _, given = log[3]
    bound = signature(fact).bind(**given).arguments
    places, blocks = bound["sorted_token_ids"].numel(), bound["expert_ids"].numel()
    check_kinds(fact, bound, {"T": tokens, "H": 512, "I": 256, "S": places, "B": blocks})
    assert bound["block_m"] % 8 == 0 and blocks <= places // bound["block_m"], "room for every block that is named"
    assert places >= 8 * tokens + 32 * 7 and blocks >= tokens + 32 * 7 // 8, "room for any routing"
    assert all(tensor.data_ptr() % 16 == 0 for tensor in (bound["hidden_states"], bound["out"]))
    assert bound["routed_scaling_factor"] == 1.0, "the routing weights hold the factor"
    assert bound["topk_weights"].data_ptr() == log[0][1][3].data_ptr(), "the routing's own"
    assert bound["gemm1_weights"].data_ptr() == log[2][1][3].data_ptr(), "the weights that were just brought in order"
    assert not bound["out"].any(), "the kernel adds to what is there"


def test_a_flashinfer_without_the_fused_kernel_is_named(monkeypatch, tmp_path):
    cuda = module_of("flashinfer_alphamoe", "cuda")
    missing = module_of("flashinfer_alphamoe", "common.checks").MissingPackage
    for package, expected in (
        (SimpleNamespace(), f"has no {cuda.NAME}; install flashinfer-python==0.7.4"),
        (SimpleNamespace(**{cuda.NAME: lambda hidden_states: None}), "got an unexpected keyword argument"),
    ):
        monkeypatch.setattr(cuda, "require", lambda *_, package=package: package)
        cuda._load.cache_clear()
        with pytest.raises(missing, match=expected):
            cuda.run_cuda(call_of("flashinfer_alphamoe", 3), "sm_100a")


def test_a_flashinfer_beside_the_other_is_taken_first(monkeypatch, tmp_path):
    """As the image cu130 has both: the newer one in a folder of site-packages."""
    cuda = module_of("flashinfer_alphamoe", "cuda")
    package = tmp_path / f"flashinfer-python-{cuda.VERSION}/flashinfer"
    info = package.with_name(f"flashinfer_python-{cuda.VERSION}.dist-info")
    for folder in (package, info):
        folder.mkdir(parents=True)
    (package / "__init__.py").touch()
    named = ", ".join(cuda.ARGUMENTS)
    (package / "fused_moe.py").write_text(f"def {cuda.NAME}({named}):\n    return 'the newer one'\n")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: flashinfer-python\nVersion: {cuda.VERSION}\n")
    monkeypatch.setattr(cuda.torch, "__file__", str(tmp_path / "torch/__init__.py"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("flashinfer", "flashinfer.fused_moe"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    cuda._load.cache_clear()
    assert cuda._load()(*cuda.ARGUMENTS) == "the newer one"
    cuda._load.cache_clear()
    for name in ("flashinfer", "flashinfer.fused_moe"):
        sys.modules.pop(name, None)


def test_a_flashinfer_with_other_arguments_is_named_before_it_is_called(monkeypatch):
    """As a MissingPackage, which is UNSUPPORTED in a run, and not as a TypeError within a measured call."""
    cuda = module_of("flashinfer_moe", "cuda")
    monkeypatch.setattr(cuda, "_load", lambda module, name: lambda hidden_states, n_groups=8: None)
    with pytest.raises(
        module_of("flashinfer_moe", "common.checks").MissingPackage,
        match=r"got an unexpected keyword argument .*0\.6\.13",
    ):
        cuda.run_cuda(call_of("flashinfer_moe", 3), "sm_100a")


@pytest.mark.parametrize("fact", facts_of("fused_topk_deepseek"), ids=lambda fact: fact["version"])
def test_the_choice_of_experts_binds_by_name(fact):
    values, ids = torch.empty(16, 8), torch.empty(16, 8, dtype=torch.int32)
    arguments = module_of("flashinfer_moe", "cuda").topk_arguments(call_of("flashinfer_moe", 16), values, ids)
    assert set(fact["required"]) <= set(signature(fact).bind(**arguments).arguments)


@pytest.fixture
def recorded(monkeypatch):
    """Runs a solution's GPU host path on cpu tensors; returns the launches and library calls in order."""

    def record(name: str, tokens: int, backend: str) -> list[tuple[str, Any, Any]]:
        cuda, stages = module_of(name, "cuda"), module_of(name, "common.triton_stages")
        log: list[tuple[str, Any, Any]] = []
        record_launches(monkeypatch, stages, lambda *launch: log.append(launch))

        def library(kernel: str) -> Any:
            return lambda *args, **named: log.append((kernel, args, named))

        if name == "triton_fused_moe_v2":
            monkeypatch.setattr(cuda, "_load_gemm", lambda: library("gemm"))
        elif name == "humming_moe":
            record_own_launches(monkeypatch, cuda.pairs, lambda *launch: log.append(launch))
            library_gemms = SimpleNamespace(configs=("first", "second"), tile=8, launch=library("gemm"))
            monkeypatch.setattr(cuda, "_load", lambda: None)
            monkeypatch.setattr(cuda, "_gemms", lambda *_: library_gemms)
        elif name == "flashinfer_alphamoe":
            for module in (cuda.pairs, module_of(name, "weights")):
                record_own_launches(monkeypatch, module, lambda *launch: log.append(launch))
            monkeypatch.setattr(cuda, "_load", lambda: library("fused"))
        elif name == "triton_grouped_moe":
            gemm = module_of(name, "common.triton_gemm")
            record_own_launches(monkeypatch, gemm, lambda *launch: log.append(launch))
            monkeypatch.setattr(gemm, "_processors", lambda index: 132)
            monkeypatch.setattr(gemm, "warm", lambda *_: None)
        elif name == "deepgemm_moe":
            package = SimpleNamespace(m_grouped_fp8_gemm_nt_contiguous=library("gemm"))
            monkeypatch.setattr(cuda, "_load", lambda: package)
        else:
            monkeypatch.setattr(cuda, "_load", lambda module, function: library(function))
        cuda.run_cuda(call_of(name, tokens), backend)
        return log

    return record


@pytest.mark.parametrize("tokens", PUBLISHED_TOKENS)
def test_the_operator_of_sgl_kernel_gets_what_its_schema_names(recorded, tokens):
    log = recorded("triton_fused_moe_v2", tokens, "sm_90a")
    assert [kernel for kernel, _, _ in log] == [
        "route_tokens",
        "permute_rows",
        "gemm",
        "swiglu_rows",
        "gemm",
        "combine_rows",
    ]
    schema = FACTS["schemas"][0]["schema"]
    names = [argument.split()[-1] for argument in SCHEMA.fullmatch(schema)["arguments"].split(",")]
    for (_, arguments, _), (n, k) in zip([log[2], log[4]], [(512, 512), (512, 256)], strict=True):
        given = dict(zip(names, arguments, strict=True))
        check_grouped_mm(given, n, k)
        small = given["a"].shape[0] <= 2048
        assert small == (tokens <= 640), "the operator chooses its kernel by the rows of a"
        room = given["a"].untyped_storage().nbytes() // k
        assert room >= 8 * tokens, "rows for every pair behind the view"


def check_grouped_mm(given: dict[str, torch.Tensor], n: int, k: int) -> None:
    """What the operator asserts about its arguments."""
    rows = given["a"].shape[0]
    assert given["a"].shape == (rows, k)
    assert given["output"].shape == (rows, n)
    assert given["b"].shape == (32, k, n)
    assert given["b"].stride() == (n * k, 1, k), "column-major"
    assert given["scales_a"].shape[1] == k // 128
    assert given["scales_b"].shape == (32, k // 128, n // 128)
    assert [given[name].dtype for name in ("a", "b", "output")] == [torch.float8_e4m3fn] * 2 + [torch.bfloat16]
    assert all(given[name].dtype == torch.float32 for name in ("scales_a", "scales_b"))
    pointers = ("a_ptrs", "b_ptrs", "out_ptrs", "a_scales_ptrs", "b_scales_ptrs")
    assert all(given[name].shape == (32,) and given[name].dtype == torch.int64 for name in pointers)
    assert [given[name].tolist() for name in ("stride_a", "stride_b", "stride_c")] == [[k] * 32, [k] * 32, [n] * 32]
    assert all(given[name].dtype == torch.int64 for name in ("stride_a", "stride_b", "stride_c"))
    assert all(
        given[name].shape == (32, 5) and given[name].dtype == torch.int32 for name in ("layout_sfa", "layout_sfb")
    )
    assert given["problem_sizes"].shape == (32, 3)
    assert given["problem_sizes"].is_contiguous()
    assert given["expert_offsets"].shape == (32,)
    assert given["problem_sizes"].dtype == given["expert_offsets"].dtype == torch.int32
    assert given["workspace"].dim() == 1


def test_both_releases_of_sgl_kernel_register_the_same_schema():
    facts = [fact for fact in FACTS["schemas"] if fact["distribution"] != "humming-kernels"]
    assert {fact["distribution"] for fact in facts} == {"sglang-kernel", "sgl-kernel"}
    assert len({fact["schema"] for fact in facts}) == 1


@pytest.mark.parametrize("tokens", PUBLISHED_TOKENS)
def test_deepgemm_gets_groups_at_its_alignment_and_scales_as_it_reads_them(recorded, tokens):
    log = recorded("deepgemm_moe", tokens, "sm_90a")
    assert [kernel for kernel, _, _ in log] == [
        "route_tokens",
        "permute_rows",
        "gemm",
        "swiglu_rows",
        "gemm",
        "combine_rows",
    ]
    (fact,) = facts_of("m_grouped_fp8_fp4_gemm_nt_contiguous")
    for (_, arguments, named), (n, k) in zip([log[2], log[4]], [(512, 512), (512, 256)], strict=True):
        given = signature(fact).bind(*arguments, **named).arguments
        (a, a_scale), (b, b_scale) = given["a"], given["b"]
        rows = a.shape[0]
        assert rows % 128 == 0
        assert rows >= 8 * tokens
        assert a.shape == (rows, k)
        assert a_scale.shape == (rows, k // 128)
        assert a_scale.stride() == (1, rows), "rows contiguous and 16-byte aligned: taken as they are"
        assert b.shape == (32, n, k)
        assert b_scale.shape == (32, n // 128, k // 128)
        assert given["d"].shape == (rows, n)
        assert given["grouped_layout"].shape == (32,)
        assert given["grouped_layout"].dtype == torch.int32
        assert given["use_psum_layout"] is True


def test_deepgemm_is_told_few_different_expected_row_counts():
    expected = module_of("deepgemm_moe", "cuda").expected_rows
    assert {t: expected(t) for t in (1, 80, 901, 14107)} == {1: 1, 80: 2, 901: 32, 14107: 512}


@pytest.mark.parametrize("tokens", [*PUBLISHED_TOKENS, 2048])
def test_the_operator_of_humming_gets_what_its_schema_names(recorded, tokens):
    log = recorded("humming_moe", tokens, "sm_90a")
    indexed = tokens <= module_of("humming_moe", "forms").INDEXED_TOKENS
    around = (
        ("index_pairs", "swiglu_pairs", "combine_pairs") if indexed else ("permute_rows", "swiglu_rows", "combine_rows")
    )
    first, activation, last = around
    gemm = ["flatten_weights", "gemm"]
    assert [kernel for kernel, _, _ in log] == ["route_tokens", first, *gemm, activation, *gemm, last]
    (schema,) = [fact["schema"] for fact in FACTS["schemas"] if fact["distribution"] == "humming-kernels"]
    names = [part.split("=")[0].split()[-1] for part in SCHEMA.fullmatch(schema)["arguments"].split(",")]
    assert names.pop() == "should_check_tensor", "has a default"
    for (_, flatten, _), (_, arguments, _), config, (n, k) in zip(
        [log[2], log[5]], [log[3], log[6]], ("first", "second"), [(512, 512), (512, 256)], strict=True
    ):
        given = dict(zip(names, arguments, strict=True))
        check_humming(given, n, k, tokens, indexed)
        assert given["configs"] == config
        assert given["b"].data_ptr() == flatten[3].data_ptr(), "the weights that were just converted"
        assert given["bs"].data_ptr() == flatten[4].data_ptr()
    assert [log[3][1][-2], log[6][1][-2]] == ([8, 1] if indexed else [1, 1]), "rows of the output for one of the input"


def check_humming(given: dict[str, Any], n: int, k: int, tokens: int, indexed: bool) -> None:
    """What the operator asserts about its arguments."""
    rows = given["a"].shape[0]
    assert given["a"].shape == (rows, k)
    assert given["a"].dtype == torch.float8_e4m3fn
    assert (given["as_"].shape, given["as_"].dtype) == ((rows, k // 128), torch.float32)
    assert (given["b"].shape, given["b"].dtype) == ((32, n, k // 4), torch.int32)
    assert (given["bs"].shape, given["bs"].dtype) == ((32, k // 128, n // 128), torch.float32)
    assert (given["c"].shape, given["c"].dtype) == ((rows * given["top_k"], n), torch.bfloat16)
    assert given["c"].shape[0] == 8 * tokens
    assert all(given[name] is None for name in ("bs2", "as2", "bzp", "bias"))
    index = [given[name] for name in ("sorted_ids", "expert_ids", "num_tokens_padded")]
    if indexed:
        assert given["expert_layout"] is None
        assert all(one.dtype == torch.int32 for one in index)
        assert len(index[0]) >= 8 * tokens + 32 * 255, "room for the padding of the largest tile"
        assert len(index[1]) >= 8 * tokens, "room for the tiles of the smallest one"
    else:
        assert index == [None, None, None]
        assert (given["expert_layout"].shape, given["expert_layout"].dtype) == ((33,), torch.int32)
    assert given["locks"].dtype == torch.int32
    assert given["valid_shape_m"] == tokens


def tuning(rows: int, columns: int = 256) -> dict[str, Any]:
    return {"block_shape": (rows, columns, 128), "warp_shape": (rows, 32, 128), "use_stream_k": True, "other": rows}


def test_the_tunings_of_humming_are_those_of_the_batch_without_cuts_along_k():
    pick = module_of("humming_moe", "forms").pick_tunings
    first = [(0, 4, tuning(8)), (4, 100, tuning(16)), (100, 1 << 30, tuning(64))]
    second = [(0, 50, tuning(8)), (50, 200, tuning(64)), (200, 1 << 30, tuning(32))]
    free = [[one["other"] for one in pick((first, second), t, same_tile=False)] for t in (1, 4, 5, 60, 101, 5000)]
    assert free == [[8, 8], [8, 8], [16, 8], [16, 64], [64, 64], [64, 32]]
    for tokens in (1, 4, 5, 60, 101, 5000):
        one, other = pick((first, second), tokens, same_tile=True)
        assert one["block_shape"][0] == other["block_shape"][0] == other["warp_shape"][0], tokens
        assert not one["use_stream_k"] and not other["use_stream_k"]
    assert pick((first, second), 5000, same_tile=True)[1]["other"] == 64, "the nearest interval with that tile"
    assert first[0][2]["use_stream_k"], "the library's table is left alone"


@pytest.mark.parametrize("tokens", [*PUBLISHED_TOKENS, 2048])
def test_the_grouped_gemm_gathers_in_gemm1_and_takes_the_forms_of_its_batch(recorded, tokens):
    gemm = module_of("triton_grouped_moe", "common.triton_gemm")
    log = recorded("triton_grouped_moe", tokens, "sm_90a")
    names = ["route_tokens", "index_rows", "grouped_gemm", "swiglu_rows", "grouped_gemm", "combine_rows"]
    assert [kernel for kernel, _, _ in log] == names
    for which, (n, k) in enumerate(((512, 512), (512, 256))):
        _, (x, x_scale, weights, weights_scale, out, ids, *_, stride), constants = log[2 + 2 * which]
        form = gemm.pick_form(tokens, which)
        assert constants["GATHER"] == (which == 0)
        assert x.shape == (tokens if which == 0 else 8 * tokens, k)
        assert x_scale.shape == (k // 128, x.shape[0]) and stride == x.shape[0]
        assert weights_scale.shape == (32, n // 128, k // 128)
        assert out.shape == (8 * tokens, n)
        assert which or len(ids) == 8 * tokens
        assert constants["TMA"] == form.tma == isinstance(weights, TensorDescriptor)
        if form.tma:
            assert (list(weights.shape), weights.block_shape) == ([32 * n, k], [form.columns, 128])


def test_the_forms_cover_all_batches_and_their_tiles_fit_the_scales():
    gemm = module_of("triton_grouped_moe", "common.triton_gemm")
    limits = [row[0] for row in gemm.FORMS]
    assert limits == sorted(set(limits)) and limits[-1] > 1 << 20
    for _, *forms in gemm.FORMS:
        assert all(128 % form.columns == 0 for form in forms), "one scale of the weights for a tile"
        assert all((form.columns if form.swap else form.rows) % 64 == 0 for form in forms), "rows of wgmma"


@pytest.mark.parametrize("tokens", [1, 5, 80, 901])
def test_no_routing_needs_more_tiles_than_the_programs_are_chosen_for(tokens):
    gemm = module_of("triton_grouped_moe", "common.triton_gemm")
    for form in {form for _, *forms in gemm.FORMS for form in forms}:
        worst = 0
        for busy in range(1, 33):  # experts with rows: one tile that is not full in all of them but one
            counts = [1] * (busy - 1) if busy <= 8 * tokens else []
            counts.append(8 * tokens - sum(counts))
            worst = max(worst, sum(-(-count // form.rows) for count in counts))
        assert gemm._most_tiles(tokens, form, 512) >= worst * (512 // form.columns)


def test_the_composition_runs_one_gemm_for_each_expert_with_rows():
    cuda, calls = module_of("flashinfer_moe", "cuda"), []
    counts = [0] * 32
    counts[3], counts[4], counts[31] = 5, 8, 1  # rows start at 0, 8 and 16: groups are padded to 4
    a, out = torch.zeros(20, 256, dtype=torch.float8_e4m3fn), torch.zeros(20, 128, dtype=torch.bfloat16)
    scale = torch.arange(40.0)
    weights, weights_scale = torch.zeros(32, 128, 256, dtype=torch.float8_e4m3fn), torch.zeros(32, 1, 2)
    cuda._gemm_each(lambda **named: calls.append(named), counts, a, scale, weights, weights_scale, out)
    for fact in facts_of("fp8_blockscale_gemm_sm90"):
        assert all(set(fact["required"]) <= set(signature(fact).bind(**named).arguments) for named in calls)
    assert [named["input"].shape[0] for named in calls] == [5, 8, 1]
    assert [named["out"].storage_offset() // 128 for named in calls] == [0, 8, 16]
    assert [named["input_scale"].shape for named in calls] == [(2, 8), (2, 8), (2, 4)]
    assert [float(named["input_scale"][1, 0]) for named in calls] == [8.0, 24.0, 36.0]
    assert [named["weight"].storage_offset() // (128 * 256) for named in calls] == [3, 4, 31]


def test_the_native_path_is_one_call_and_a_copy(recorded, monkeypatch):
    cuda = module_of("flashinfer_moe", "cuda")
    call = call_of("flashinfer_moe", 3)
    monkeypatch.setattr(cuda, "_load", lambda module, name: lambda **named: torch.full((3, 512), 7.0).bfloat16())
    cuda.run_cuda(call, "sm_100a")
    assert bool((call.output == 7).all())


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
