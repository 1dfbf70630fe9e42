"""sm_90a backend: humming's grouped GEMMs, indexed or contiguous by T, between Triton stages.

  indexed:  route_tokens -> index_pairs  -> GEMM1 (BF16) -> swiglu_pairs (FP8) -> GEMM2 (BF16) -> combine_pairs
  grouped:  route_tokens -> permute_rows -> GEMM1 (BF16) -> swiglu_rows (FP8)  -> GEMM2 (BF16) -> combine_rows

with flatten_weights before each GEMM: eight launches a call. humming reads FP8 weights in an order of its own. A server
converts them once, when it loads a model; here they arrive as the definition has them, and nothing that derives from a
call's inputs may outlive the call, so each call converts the weights of the experts that have rows. A profile shows
that time as stage "other".
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch

from .common import triton_pairs as pairs
from .common import triton_stages as stages
from .common.checks import BLOCK, LOCAL_EXPERTS, TOP_K, MoeCall, require
from .common.triton_stages import Plan
from .forms import is_indexed, pick_tunings

ALIGN = 1  # rows: both forms take groups of any size
VERSION = "0.1.20"
LARGEST_TILE = 256  # rows
LOCKS = 1  # int32; only stream-K needs more
FP8, BF16, F32, I32 = torch.float8_e4m3fn, torch.bfloat16, torch.float32, torch.int32


def run_cuda(call: MoeCall, backend: str) -> None:
    """Enqueue one call on the current stream; `backend` is 'sm_90a'."""
    _load()  # raises where the package is missing
    plan = stages.plan_call(call, ALIGN)
    indexed = is_indexed(call.tokens)
    gemms = _gemms(plan.device.index or 0, call.hidden, call.intermediate, call.tokens, indexed)
    (_run_indexed if indexed else _run_grouped)(call, plan, gemms)


def _run_indexed(call: MoeCall, plan: Plan, gemms: SimpleNamespace) -> None:
    tokens, hidden, inner, rows = call.tokens, call.hidden, call.intermediate, plan.rows
    ids = plan.buffer("ids", (rows + LOCAL_EXPERTS * LARGEST_TILE,), I32)
    index = (ids, plan.buffer("experts", (rows + LOCAL_EXPERTS,), I32), plan.buffer("padded_rows", (1,), I32))
    x_scale = plan.buffer("x_scale", (tokens, hidden // BLOCK), F32)
    h = plan.buffer("h", (rows, 2 * inner), BF16)
    c = plan.buffer("c", (rows, inner), FP8)
    c_scale = plan.buffer("c_scale", (rows, inner // BLOCK), F32)
    out = plan.buffer("out", (rows, hidden), BF16)

    stages.route(call, plan)
    pairs.index(call, plan, gemms.tile, *index, x_scale)
    first = _flatten(plan, call.gemm1_weights, call.gemm1_weights_scale)
    grouped_gemm(gemms, 0, plan, call.hidden_states, x_scale, *first, h, index=index, top_k=TOP_K)
    pairs.swiglu(plan, h, c, c_scale, ids, index[2])
    second = _flatten(plan, call.gemm2_weights, call.gemm2_weights_scale)
    grouped_gemm(gemms, 1, plan, c, c_scale, *second, out, index=index)
    pairs.combine(plan, out, call.output)


def _run_grouped(call: MoeCall, plan: Plan, gemms: SimpleNamespace) -> None:
    hidden, inner, rows = call.hidden, call.intermediate, plan.rows
    a = plan.buffer("a", (rows, hidden), FP8)
    a_scale = plan.buffer("a_scale", (rows, hidden // BLOCK), F32)
    h = plan.buffer("h", (rows, 2 * inner), BF16)
    c = plan.buffer("c", (rows, inner), FP8)
    c_scale = plan.buffer("c_scale", (rows, inner // BLOCK), F32)
    out = plan.buffer("out", (rows, hidden), BF16)

    stages.route(call, plan)
    stages.permute(call, plan, a, a_scale, layout="row")
    first = _flatten(plan, call.gemm1_weights, call.gemm1_weights_scale)
    grouped_gemm(gemms, 0, plan, a, a_scale, *first, h)
    stages.swiglu(plan, h, None, c, c_scale, layout="row")
    second = _flatten(plan, call.gemm2_weights, call.gemm2_weights_scale)
    grouped_gemm(gemms, 1, plan, c, c_scale, *second, out)
    stages.combine(plan, out, call.output)


def _flatten(plan: Plan, weights: torch.Tensor, scale: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Convert a GEMM's weights and scales; those of GEMM2 take the place of GEMM1's."""
    experts, n, k = weights.shape
    flat = plan.buffer("flat", (experts, n, k // 4), I32)
    flat_scale = plan.buffer("flat_scale", (experts, k // BLOCK, n // BLOCK), F32)
    pairs.flatten(plan, weights, scale, flat, flat_scale)
    return flat, flat_scale


def grouped_gemm(
    gemms: SimpleNamespace,
    which: int,
    plan: Plan,
    a: torch.Tensor,
    a_scale: torch.Tensor,
    flat: torch.Tensor,
    flat_scale: torch.Tensor,
    out: torch.Tensor,
    index: tuple[torch.Tensor | None, ...] = (None, None, None),
    top_k: int = 1,
) -> None:
    """out (M, N) bf16 = rows of a (M, K) times converted weights (E, N, K/4) by expert; `which` 0 is GEMM1, 1 GEMM2.

    Without `index` the groups are plan.m_indptr's. With it row m of `a` serves pairs m * top_k and up, and the pairs
    are the rows of `out`. All arguments by position, in the order of the operator's schema.
    """
    groups = plan.m_indptr if index[0] is None else None
    locks = plan.buffer("locks", (LOCKS,), I32)
    tensors = (a, flat, flat_scale, None, a_scale, None, None, None, out, *index, groups, locks)
    gemms.launch(gemms.configs[which], *tensors, top_k, plan.tokens)


@functools.cache
def _gemms(device: int, hidden: int, inner: int, tokens: int, indexed: bool) -> SimpleNamespace:
    """The library's kernels for this T, compiled at the first use of their tuning, and the rows of their tiles."""
    library = _load()
    form = "indexed" if indexed else "grouped_contiguous"
    layers = [_layer(device, n, k) for n, k in ((2 * inner, hidden), (hidden, inner))]
    tables = tuple(library.get_heuristics_config(layer, gemm_type=form, device=device) for layer in layers)
    tunings = pick_tunings(tables, tokens, same_tile=indexed)
    compute = json.dumps({"gemm_type": form, "use_m_major_input_scale": False})
    configs = [
        library.HummingKernel.prepare_kernels(layer.to_str(), compute, json.dumps(tuning), device)
        for layer, tuning in zip(layers, tunings, strict=True)
    ]
    return SimpleNamespace(configs=configs, tile=tunings[0]["block_shape"][0], launch=library.launch)


@functools.cache
def _layer(device: int, n: int, k: int) -> Any:
    """The library's description of a GEMM (N, K) with this definition's types and scales."""
    library = _load()
    e4m3, f32 = library.dtypes.float8e4m3, library.dtypes.float32
    scales = {"weight_scale_group_size": BLOCK, "weight_scale_group_size_n": BLOCK}
    weights = library.HummingWeightSchema(b_dtype=e4m3, bs_dtype=f32, **scales)
    inputs = library.HummingInputSchema(a_dtype=e4m3, input_scale_group_size=BLOCK)
    own = {"num_experts": LOCAL_EXPERTS, "torch_dtype": BF16, "device": device}
    return library.prepare_layer_config(n, k, weights, inputs, **own)


@functools.cache
def _load() -> SimpleNamespace:
    """What is called of humming, under its own names; `launch` is its operator."""
    require("humming", "humming-kernels", VERSION)
    found = {}
    for module, names in (
        ("humming.dtypes", ()),
        ("humming.schema", ("HummingInputSchema", "HummingWeightSchema")),
        ("humming.transform", ("prepare_layer_config",)),
        ("humming.tune", ("get_heuristics_config",)),
        ("humming.kernel.humming", ("HummingKernel",)),
        ("humming.ops.utils", ("init_humming_launcher",)),
    ):
        imported = require(module, "humming-kernels", VERSION)
        found |= {name: getattr(imported, name) for name in names} or {module.split(".")[-1]: imported}
    found.pop("init_humming_launcher")()
    return SimpleNamespace(**found, launch=torch.ops.humming.launch_kernel.out)


def compile_kernels(arch: str, hidden: int = 7168, inner: int = 2048) -> Iterator[dict[str, Any]]:
    """Compile this solution's own kernels without a GPU; humming compiles its GEMMs where they run."""
    yield from stages.compile_stages(arch, hidden, inner, ALIGN, layout="row")
    yield from pairs.compile_pairs(arch, hidden, inner)
