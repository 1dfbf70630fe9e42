"""The smallest valid inputs, solutions imported packed, and a reference of their own for the tests of solutions/."""

from __future__ import annotations

import importlib
import tempfile
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from bakeoff.build import pack
from bakeoff.build.spec import SolutionSpec, discover
from bakeoff.core import loader
from bakeoff.core.moe.geometry import Geometry
from bakeoff.files import PROJECT_ROOT
from triton.tools.tensor_descriptor import TensorDescriptor

NAMES = (
    "cutedsl_moe_fp8_v3",
    "cutedsl_moe_fp8_v3_2",
    "cutedsl_moe_fp8_v4",
    "deepgemm_moe",
    "flashinfer_alphamoe",
    "flashinfer_moe",
    "humming_moe",
    "triton_fused_moe_v2",
    "triton_grouped_moe",
)
# Those that round alike: GEMM1's output and GEMM2's to bfloat16, the intermediate to FP8.
ALIKE = ("deepgemm_moe", "humming_moe", "triton_fused_moe_v2", "triton_grouped_moe")
NARROW = "moe_fp8_block_scale_ds_routing_topk8_ng8_kg4_e32_h512_i256"
GEOMETRY = Geometry(hidden=512, intermediate=256)
GEMMS = ("gemm1", "gemm2")
PUBLISHED_TOKENS = (1, 7, 14, 15, 16, 32, 52, 53, 54, 55, 56, 57, 58, 59, 62, 80, 901, 11948, 14107)
Inputs = dict[str, Any]
# Triton's names of argument types, for torch and for Python's numbers.
STAGE_TYPES = {
    "*fp32": torch.float32,
    "*bf16": torch.bfloat16,
    "*i32": torch.int32,
    "*fp8e4nv": torch.float8_e4m3fn,
    "i32": int,
    "fp32": float,
}
_folder = tempfile.TemporaryDirectory(prefix="packed_solutions_")


@cache
def spec_of(name: str) -> SolutionSpec:
    return next(spec for spec in discover(PROJECT_ROOT / "solutions") if spec.name == name)


def made_folder() -> Path:
    """A folder that goes when the tests end."""
    return Path(_folder.name)


@cache
def package_of(name: str) -> Path:
    return loader.stage(pack.pack(spec_of(name), NARROW), made_folder())


def module_of(name: str, module: str) -> ModuleType:
    """Import `module` ('cpu', 'common.checks', ...) of a packed solution, as the harness would."""
    package = package_of(name)
    loader.load_function(package, "solution.py::run")
    return importlib.import_module(f"{package.name}.{module}")


def run(name: str, inputs: Inputs) -> torch.Tensor:
    """The solution's output, written over a poisoned tensor."""
    output = torch.full_like(inputs["hidden_states"], float("nan"), dtype=torch.bfloat16)
    module_of(name, "solution").run(*inputs.values(), output)
    return output


def make_inputs(tokens: int, seed: int = 0, offset: int = 32) -> Inputs:
    """Narrow inputs with random values: scales of both signs, logits that tie now and then; the weights are shared."""
    generator = torch.Generator().manual_seed(seed)
    bias = torch.full((256,), 4.9375)
    bias[torch.randperm(256, generator=generator)[:102]] = 4.96875
    return {
        "routing_logits": (torch.randn(tokens, 256, generator=generator) * 0.656 - 1.6706).bfloat16().float(),
        "routing_bias": bias.bfloat16(),
        "hidden_states": fp8(generator, tokens, 512),
        "hidden_states_scale": torch.randn(4, tokens, generator=generator),
        **make_weights(),
        "local_expert_offset": offset,
        "routed_scaling_factor": 2.5,
    }


@cache
def make_weights() -> Inputs:
    generator = torch.Generator().manual_seed(99)
    return {
        "gemm1_weights": fp8(generator, 32, 512, 512),
        "gemm1_weights_scale": torch.randn(32, 4, 4, generator=generator),
        "gemm2_weights": fp8(generator, 32, 512, 256),
        "gemm2_weights_scale": torch.randn(32, 4, 2, generator=generator),
    }


def fp8(generator: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator).clamp(-2, 2).to(torch.float8_e4m3fn)


def send_to(inputs: Inputs, experts: list[int]) -> Inputs:
    """The same inputs with every token's logits high at `experts` (global ids) and low elsewhere."""
    logits = torch.full_like(inputs["routing_logits"], -8.0)
    logits += torch.linspace(0, 1, 256)  # no ties among the others
    logits[:, experts] = torch.linspace(4, 5, len(experts))
    return {**inputs, "routing_logits": logits}


def crowd_out(inputs: Inputs, token: int) -> Inputs:
    """The same inputs with a token that keeps the local group but takes none of its experts."""
    logits = inputs["routing_logits"].clone()
    first = inputs["local_expert_offset"]
    logits[token] = -8
    logits[token, first : first + 2] = 3  # the fourth group
    others = [(first + 32 * g + e) % 256 for g in (1, 2, 3) for e in range(3)]
    logits[token, others] = torch.linspace(5, 6, 9)  # nine experts before them
    return {**inputs, "routing_logits": logits}


def choose(inputs: Inputs) -> tuple[torch.Tensor, torch.Tensor]:
    """Routing, token by token in plain Python: ids (T, 8) and weights (T, 8) float64, in the order of choice."""
    logits, bias = inputs["routing_logits"], inputs["routing_bias"].float()
    scores = torch.sigmoid(logits.double()).float()
    rows = []
    for score in scores:
        choice = (score + bias).tolist()
        best = [sum(sorted(choice[32 * g : 32 * g + 32])[-2:]) for g in range(8)]
        kept = sorted(range(8), key=lambda g: (-torch.tensor(best[g]).float().item(), g))[:4]
        rows.append(sorted((e for g in kept for e in range(32 * g, 32 * g + 32)), key=lambda e: (-choice[e], e))[:8])
    ids = torch.tensor(rows)
    picked = scores.double().gather(1, ids)
    return ids, picked / picked.sum(1, keepdim=True) * inputs["routed_scaling_factor"]


def reference(inputs: Inputs) -> torch.Tensor:
    """The layer's float64 result (T, H), from `choose` and plain matrix products."""
    ids, weights = choose(inputs)
    scale = inputs["hidden_states_scale"].t().repeat_interleave(128, 1).double()
    a = inputs["hidden_states"].double() * scale
    total = torch.zeros(a.shape, dtype=torch.float64)
    for expert in range(32):
        token, slot = (ids == inputs["local_expert_offset"] + expert).nonzero(as_tuple=True)
        if len(token):
            w1, w2 = (dequantize(inputs[f"{g}_weights"][expert], inputs[f"{g}_weights_scale"][expert]) for g in GEMMS)
            up, gate = (a[token] @ w1.t()).chunk(2, dim=1)
            row = (torch.nn.functional.silu(gate) * up) @ w2.t()
            total.index_add_(0, token, row * weights[token, slot, None])
    return total


def dequantize(weights: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """weights: (N, K) e4m3; scale: (N/128, K/128). Returns (N, K) float64."""
    return weights.double() * scale.double().repeat_interleave(128, 0).repeat_interleave(128, 1)


def active_rows(inputs: Inputs) -> torch.Tensor:
    """(T,) bool: tokens with a local expert."""
    ids, _ = choose(inputs)
    local = ids - inputs["local_expert_offset"]
    return ((local >= 0) & (local < 32)).any(1)


def record_launches(monkeypatch: Any, stages: ModuleType, launched: Any) -> None:
    """Let the Triton stages launch without a GPU: each launch is checked and goes to `launched(name, arguments,
    constants)`."""
    stream = SimpleNamespace(cuda_stream=0)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: stream)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(stages, "_processors", lambda index: 132)
    monkeypatch.setattr(stages, "_plans", {})
    monkeypatch.setattr(stages, "_stores", {})

    def launch(name: str, plan: Any, grid: tuple[int, ...], arguments: tuple[Any, ...], constants: Inputs) -> None:
        check_stage_launch(stages, name, arguments, constants)
        most = (8 if plan.overlap else 16) * 132  # blocks that the chip holds at once, or half of them
        assert grid[0] == (plan.tokens if name[:5] in ("route", "permu", "combi") else min(8 * plan.tokens, most))
        assert constants.get("OVERLAP", False) == plan.overlap, "all kernels of a call, or none"
        assert grid[1:] == ((constants["COLUMNS"] + 1023) // 1024 if name == "combine_rows" else 1, 1)
        launched(name, arguments, constants)

    monkeypatch.setattr(stages, "_launch", launch)


def record_own_launches(monkeypatch: Any, module: ModuleType, launched: Any) -> None:
    """The same for a module that launches through `triton_launch`, with a table of its own of types."""

    def launch(kernel: Any, plan: Any, grid: tuple[int, ...], arguments: tuple[Any, ...], constants: Inputs) -> None:
        name = kernel.__name__
        wanted = [STAGE_TYPES[kind] for kind in module.TYPES[name].split()]
        plain = [a.base if isinstance(a, TensorDescriptor) else a for a in arguments]
        assert [a.dtype if isinstance(a, torch.Tensor) else type(a) for a in plain] == wanted, name
        assert all(a.is_contiguous() for a in plain if isinstance(a, torch.Tensor)), name
        assert [*constants] == [*(p.name for p in kernel.params if p.is_constexpr), "num_warps"][-len(constants) :]
        assert all(p.has_default for p in kernel.params if p.is_constexpr and p.name not in constants), name
        assert all(0 < extent < 1 << 31 for extent in grid), name
        launched(name, arguments, constants)

    monkeypatch.setattr(module, "launch", launch)


def check_stage_launch(stages: ModuleType, name: str, arguments: tuple[Any, ...], constants: Inputs) -> None:
    """What a launch passes is what was compiled: number and types of the arguments, names of the constants."""
    types = stages.TYPES[name].split()
    if constants.get("FP8_INPUT"):
        types[0] = "*fp8e4nv"
    wanted = [STAGE_TYPES[kind] for kind in types]
    assert [a.dtype if isinstance(a, torch.Tensor) else type(a) for a in arguments] == wanted, name
    assert all(a.is_contiguous() for a in arguments if isinstance(a, torch.Tensor)), name
    parameters = [p.name for p in stages._kernel(name).params if p.is_constexpr]
    assert [*constants] == [*parameters, "num_warps"], "passed by position, the number of warps left out"


def relative_l2(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found.double() - wanted.double()).norm() / wanted.double().norm())


def matched_ratio(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Share of elements within the published tolerances: absolute 0.1 or relative 0.2."""
    error = (found.double() - wanted.double()).abs()
    return float(((error <= 0.1) | (error <= 0.2 * wanted.double().abs())).double().mean())
