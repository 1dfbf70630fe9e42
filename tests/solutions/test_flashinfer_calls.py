"""The calls into FlashInfer: their arguments against the released signatures, and the host path at all T."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch
from support.recorded_calls import call_of, check_kinds, facts_of, signature
from support.solution_support import PUBLISHED_TOKENS, module_of


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


def test_the_native_path_is_one_call_and_a_copy(recorded, monkeypatch):
    cuda = module_of("flashinfer_moe", "cuda")
    call = call_of("flashinfer_moe", 3)
    monkeypatch.setattr(cuda, "_load", lambda module, name: lambda **named: torch.full((3, 512), 7.0).bfloat16())
    cuda.run_cuda(call, "sm_100a")
    assert bool((call.output == 7).all())


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
