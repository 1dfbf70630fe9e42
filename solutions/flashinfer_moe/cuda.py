"""GPU backends of flashinfer_moe.

sm_100a, the published design: one call of FlashInfer's native `trtllm_fp8_block_scale_moe`. Never executed here.

sm_90a, where that does not exist: a composition of FlashInfer's SM90 parts, named as one,
  fused_topk_deepseek -> route_pairs -> permute_rows -> per expert fp8_blockscale_gemm_sm90 (BF16) -> swiglu_rows (FP8)
  -> per expert fp8_blockscale_gemm_sm90 (BF16) -> combine_rows
The GEMM takes its row count from the host, so the composition copies the 32 counts there once a call.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from typing import Any

import torch

from .common.checks import BLOCK, EXPERTS, GROUPS, KEPT_GROUPS, LOCAL_EXPERTS, TOP_K, MissingPackage, MoeCall, require
from .common.triton_stages import combine, compile_stages, permute, plan_call, route_pairs, swiglu

ALIGN = 4  # rows: the GEMM reads the scales of a block with a stride of the rows rounded up to 16 bytes
ROUTING_DEEPSEEK_V3 = 2  # flashinfer's RoutingMethodType.DeepSeekV3
WEIGHTS_MAJOR_K = 0  # flashinfer's WeightLayout.MajorK: [N, K], as the definition has them


def run_cuda(call: MoeCall, backend: str) -> None:
    """Enqueue one call on the current stream; `backend` is 'sm_90a' or 'sm_100a'."""
    if backend == "sm_100a":
        native = _load("flashinfer.fused_moe", "trtllm_fp8_block_scale_moe")
        arguments = native_arguments(call)
        _check_names(native, tuple(arguments))
        call.output.copy_(native(**arguments))
    else:
        _compose(call)


def native_arguments(call: MoeCall) -> dict[str, Any]:
    """The arguments of `trtllm_fp8_block_scale_moe`, each by its name in flashinfer-python 0.6.3 and 0.6.13."""
    return {
        "routing_logits": call.routing_logits,
        "routing_bias": call.routing_bias,
        "hidden_states": call.hidden_states,
        "hidden_states_scale": call.hidden_states_scale,
        "gemm1_weights": call.gemm1_weights,
        "gemm1_weights_scale": call.gemm1_weights_scale,
        "gemm2_weights": call.gemm2_weights,
        "gemm2_weights_scale": call.gemm2_weights_scale,
        "num_experts": EXPERTS,
        "top_k": TOP_K,
        "n_group": GROUPS,
        "topk_group": KEPT_GROUPS,
        "intermediate_size": call.intermediate,
        "local_expert_offset": call.expert_offset,
        "local_num_experts": LOCAL_EXPERTS,
        "routed_scaling_factor": call.factor,
        "routing_method_type": ROUTING_DEEPSEEK_V3,
        "use_shuffled_weight": False,
        "weight_layout": WEIGHTS_MAJOR_K,
    }


def _compose(call: MoeCall) -> None:
    choose = _load("flashinfer.fused_moe", "fused_topk_deepseek")
    gemm = _load("flashinfer.gemm", "fp8_blockscale_gemm_sm90")
    plan = plan_call(call, ALIGN)
    hidden, inner, rows = call.hidden, call.intermediate, plan.rows
    fp8, bf16, f32 = torch.float8_e4m3fn, torch.bfloat16, torch.float32
    values = plan.buffer("values", (plan.tokens, TOP_K), f32)
    ids = plan.buffer("ids", (plan.tokens, TOP_K), torch.int32)
    a = plan.buffer("a", (rows, hidden), fp8)
    a_scale = plan.buffer("a_scale", (rows * (hidden // BLOCK),), f32)
    h = plan.buffer("h", (rows, 2 * inner), bf16)
    c = plan.buffer("c", (rows, inner), fp8)
    c_scale = plan.buffer("c_scale", (rows * (inner // BLOCK),), f32)
    out = plan.buffer("out", (rows, hidden), bf16)

    choose(**topk_arguments(call, values, ids))
    route_pairs(call, plan, ids, values)
    permute(call, plan, a, a_scale, layout="group")
    counts = plan.m_count.tolist()  # the one copy to the host: GEMM by GEMM, the host must know the rows
    _gemm_each(gemm, counts, a, a_scale, call.gemm1_weights, call.gemm1_weights_scale, h)
    swiglu(plan, h, None, c, c_scale, layout="group")
    _gemm_each(gemm, counts, c, c_scale, call.gemm2_weights, call.gemm2_weights_scale, out)
    combine(plan, out, call.output)


def topk_arguments(call: MoeCall, values: torch.Tensor, ids: torch.Tensor) -> dict[str, Any]:
    """The arguments of `fused_topk_deepseek`; values (T, 8) f32 and ids (T, 8) int32 are written."""
    return {
        "scores": call.routing_logits,
        "bias": call.routing_bias,
        "n_group": GROUPS,
        "topk_group": KEPT_GROUPS,
        "topk": TOP_K,
        "routed_scaling_factor": call.factor,
        "topk_values": values,
        "topk_indices": ids,
    }


def _gemm_each(
    gemm: Any,
    counts: list[int],
    a: torch.Tensor,
    a_scale: torch.Tensor,
    weights: torch.Tensor,
    weights_scale: torch.Tensor,
    out: torch.Tensor,
) -> None:
    """One GEMM for each expert with tokens; a_scale holds (K/128, group's rows) for each group in turn."""
    blocks = a.shape[1] // BLOCK
    start = 0
    for expert, count in enumerate(counts):
        padded = -(-count // ALIGN) * ALIGN
        if count:
            gemm(
                input=a[start : start + count],
                weight=weights[expert],
                input_scale=a_scale[start * blocks : (start + padded) * blocks].view(blocks, padded),
                weight_scale=weights_scale[expert],
                out=out[start : start + count],
            )
        start += padded


@functools.cache
def _load(module: str, name: str) -> Any:
    package = require(module, "flashinfer-python")
    if not hasattr(package, name):
        raise MissingPackage(f"{module} has no {name}; install flashinfer-python==0.6.13")
    return getattr(package, name)


@functools.cache
def _check_names(function: Any, names: tuple[str, ...]) -> None:
    """Raise MissingPackage where the installed function does not take these arguments."""
    try:
        inspect.signature(function).bind(**dict.fromkeys(names))
    except TypeError as error:
        raise MissingPackage(
            f"the installed FlashInfer's native call: {error}; install flashinfer-python==0.6.13"
        ) from error


def compile_kernels(arch: str, hidden: int = 7168, inner: int = 2048) -> Iterator[dict[str, Any]]:
    """Compile the composition's own kernels without a GPU; on sm_100a all kernels are FlashInfer's."""
    if arch == "sm_90a":
        yield from compile_stages(arch, hidden, inner, ALIGN, routed=False, layout="group")
