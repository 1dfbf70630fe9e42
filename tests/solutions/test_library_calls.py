"""The calls into other libraries than FlashInfer: their arguments against the released signatures, and the host path at
all T.

A schema test: names, order, dtypes and shapes, on the cpu, with the libraries and the kernels replaced by recorders.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.recorded_calls import FACTS, GROUPED, SCHEMA, facts_of, signature
from support.solution_support import PUBLISHED_TOKENS, module_of
from triton.tools.tensor_descriptor import TensorDescriptor


@pytest.mark.parametrize("tokens", PUBLISHED_TOKENS)
def test_the_operator_of_sgl_kernel_gets_what_its_schema_names(recorded, tokens):
    log = recorded("triton_fused_moe_v2", tokens, "sm_90a")
    assert [kernel for kernel, _, _ in log] == GROUPED
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
    assert [kernel for kernel, _, _ in log] == GROUPED
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
