"""What every solution does before its first launch: check the arguments, pick the backend, find the packages.

Entry points: `entry_point` makes a solution's `run` out of the rest, `check_call` makes a `MoeCall` of the eleven
arguments, `pick_backend` names the backend that the tensors' device needs, `require` imports a package that only a GPU
host has. Nothing here touches the device's data.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import inspect
import math
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import torch

EXPERTS = 256  # routed experts of the model
LOCAL_EXPERTS = 32  # experts of this rank: exactly one routing group
GROUPS = 8
KEPT_GROUPS = 4
TOP_K = 8
BLOCK = 128  # columns that share one scale
ALIGNMENT = 16  # bytes: device code reads 16 at a time

CHIPS = {(9, 0): "sm_90a", (10, 0): "sm_100a"}


class UnsupportedDevice(RuntimeError):
    """The tensors live on a device that the solution has no backend for."""


class MissingPackage(RuntimeError):
    """A package that the backend calls is absent, or is a version that does not fit."""


class MoeCall(NamedTuple):
    """One checked call. T tokens, H hidden and I intermediate columns, 256 experts of which 32 are local."""

    routing_logits: torch.Tensor  # (T, 256) f32
    routing_bias: torch.Tensor  # (256,) bf16
    hidden_states: torch.Tensor  # (T, H) e4m3, row-major
    hidden_states_scale: torch.Tensor  # (H/128, T) f32, block-major
    gemm1_weights: torch.Tensor  # (32, 2I, H) e4m3; rows I: are the gate
    gemm1_weights_scale: torch.Tensor  # (32, 2I/128, H/128) f32
    gemm2_weights: torch.Tensor  # (32, H, I) e4m3
    gemm2_weights_scale: torch.Tensor  # (32, H/128, I/128) f32
    expert_offset: int  # global id of local expert 0
    factor: float  # multiplies the normalised routing weights
    output: torch.Tensor  # (T, H) bf16, written in full

    @property
    def tokens(self) -> int:
        return self.hidden_states.shape[0]

    @property
    def hidden(self) -> int:
        return self.hidden_states.shape[1]

    @property
    def intermediate(self) -> int:
        return self.gemm2_weights.shape[2]

    @property
    def device(self) -> torch.device:
        return self.hidden_states.device


def entry_point(package: str | None, backends: tuple[str, ...]) -> Callable[..., None]:
    """Make the function that a solution offers: it takes the arguments of `check_call`, as the definition names them.

    Args:
        package: the solution's `__package__`. Its `cpu.py` has `run_cpu(call)`; with a GPU backend, its `cuda.py` has
            `run_cuda(call, backend)`. Each is imported at its first use: a host without a GPU lacks cuda.py's packages.
        backends: those that the solution has, of cpu, sm_90a and sm_100a.

    Where cuda.py says REFUSES_WRONG_TENSORS, its `run_cuda` raises by itself for tensors of a wrong kind, and the
    arguments are looked at here only then: at few tokens looking takes as long as a kernel.

    The function raises TypeError, ValueError, UnsupportedDevice or MissingPackage before any launch.
    """

    @functools.cache
    def runner(backend: str) -> Callable[[MoeCall], None]:
        if backend == "cpu":
            return importlib.import_module(".cpu", package).run_cpu
        return functools.partial(importlib.import_module(".cuda", package).run_cuda, backend=backend)

    known: dict[torch.device, Callable[[MoeCall], None]] = {}  # what a device's calls go to
    trusted: dict[torch.device, Callable[[MoeCall], None]] = {}  # of these, what refuses wrong tensors itself

    def run(*arguments: Any, **named: Any) -> None:
        """Write the layer's result for this rank's 32 experts to `output` (T, H) bf16; shapes as in
        solutions/README.md."""
        device = getattr(arguments[2], "device", None) if len(arguments) == len(MoeCall._fields) else None
        target = trusted.get(device) if device is not None else None
        if target is not None and device.index == torch.cuda.current_device():
            try:
                _check_offset(arguments[8])
                target(MoeCall(*arguments[:9], _check_factor(arguments[9]), arguments[10]))
            except Exception:
                check_call(*arguments, **named)  # says what is wrong in the words of all solutions
                raise
            return
        call = check_call(*arguments, **named)
        device = call.hidden_states.device
        target = known.get(device)
        if target is None or (device.type == "cuda" and device.index != torch.cuda.current_device()):
            target = known[device] = runner(pick_backend(device, backends))
        target(call)
        if device.type == "cuda" and hasattr(sys.modules[f"{package}.cuda"], "REFUSES_WRONG_TENSORS"):
            trusted[device] = target

    run.__signature__ = inspect.signature(check_call).replace(return_annotation=None)  # type: ignore[attr-defined]
    return run


def check_call(
    routing_logits: torch.Tensor,
    routing_bias: torch.Tensor,
    hidden_states: torch.Tensor,
    hidden_states_scale: torch.Tensor,
    gemm1_weights: torch.Tensor,
    gemm1_weights_scale: torch.Tensor,
    gemm2_weights: torch.Tensor,
    gemm2_weights_scale: torch.Tensor,
    local_expert_offset: int,
    routed_scaling_factor: float,
    output: torch.Tensor,
) -> MoeCall:
    """Check the definition's arguments and return them as a `MoeCall`.

    Raises TypeError for a wrong type or dtype, ValueError for a wrong shape, stride, address, device or value; the
    message names the argument, what was found and what was expected. Only metadata is read: no synchronization.
    """
    call = MoeCall(
        routing_logits,
        routing_bias,
        hidden_states,
        hidden_states_scale,
        gemm1_weights,
        gemm1_weights_scale,
        gemm2_weights,
        gemm2_weights_scale,
        _check_offset(local_expert_offset),
        _check_factor(routed_scaling_factor),
        output,
    )
    _check_rank("hidden_states", hidden_states, 2)
    _check_rank("gemm2_weights", gemm2_weights, 3)
    tokens, hidden, inner = call.tokens, call.hidden, call.intermediate
    if tokens == 0:
        raise ValueError("hidden_states has 0 tokens; expected at least 1: skip the call for an empty batch")
    _check_columns("hidden_states", hidden)
    _check_columns("gemm2_weights", inner)
    h_blocks, i_blocks, e = hidden // BLOCK, inner // BLOCK, LOCAL_EXPERTS
    f32, fp8, bf16, device = torch.float32, torch.float8_e4m3fn, torch.bfloat16, hidden_states.device
    for name, tensor, shape, dtype in (
        ("routing_logits", routing_logits, (tokens, EXPERTS), f32),
        ("routing_bias", routing_bias, (EXPERTS,), bf16),
        ("hidden_states", hidden_states, (tokens, hidden), fp8),
        ("hidden_states_scale", hidden_states_scale, (h_blocks, tokens), f32),
        ("gemm1_weights", gemm1_weights, (e, 2 * inner, hidden), fp8),
        ("gemm1_weights_scale", gemm1_weights_scale, (e, 2 * i_blocks, h_blocks), f32),
        ("gemm2_weights", gemm2_weights, (e, hidden, inner), fp8),
        ("gemm2_weights_scale", gemm2_weights_scale, (e, h_blocks, i_blocks), f32),
        ("output", output, (tokens, hidden), bf16),
    ):
        # What nearly always holds is seen at once: at few tokens a call takes the host longer than the GPU.
        if not (
            isinstance(tensor, torch.Tensor)
            and tensor.dtype == dtype
            and tensor.shape == shape
            and tensor.device == device
            and tensor.is_contiguous()
            and not tensor.data_ptr() % ALIGNMENT
        ):
            _check_tensor(name, tensor, shape, dtype, device)
    return call


def pick_backend(device: torch.device, backends: tuple[str, ...]) -> str:
    """Name the backend for `device`: 'cpu', 'sm_90a' or 'sm_100a'.

    Raises UnsupportedDevice if the solution's `backends` do not hold it, ValueError for a GPU that is not the current
    one.
    """
    if device.type == "cpu":
        found, described = "cpu", "cpu"
    elif device.type == "cuda":
        current = torch.cuda.current_device()
        if device.index not in (None, current):
            raise ValueError(f"hidden_states is on {device}, but the current device is cuda:{current}; make it current")
        capability = torch.cuda.get_device_capability(device)
        found = CHIPS.get(capability, "none")
        described = f"{torch.cuda.get_device_name(device)} (compute capability {capability[0]}.{capability[1]})"
    else:
        found, described = "none", str(device)
    if found not in backends:
        raise UnsupportedDevice(f"no backend for {described}; this solution has {', '.join(backends)}")
    return found


def require(module: str, distribution: str, version: str = "") -> ModuleType:
    """Import `module` of `distribution`; `version` is a prefix that the installed version must have ('' takes any).

    Raises MissingPackage, which names the distribution and what was found.
    """
    wanted = f"{distribution}=={version}" if version else distribution
    try:
        imported = importlib.import_module(module)
    except Exception as error:  # a package whose companions do not fit objects in its own way, with a RuntimeError say
        raise MissingPackage(f"cannot import {module} ({type(error).__name__}: {error}); install {wanted}") from error
    if version:
        try:
            found = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            found = getattr(imported, "__version__", "unknown")
        if found != version and not found.startswith((version + ".", version + "+")):
            raise MissingPackage(f"{distribution} is {found}; expected {version}: install {wanted}")
    return imported


def _check_offset(offset: int) -> int:
    if not isinstance(offset, int) or isinstance(offset, bool):
        raise TypeError(f"local_expert_offset is {type(offset).__name__}; expected a Python int")
    last = EXPERTS - LOCAL_EXPERTS
    if offset % LOCAL_EXPERTS or not 0 <= offset <= last:
        raise ValueError(f"local_expert_offset is {offset}; expected a multiple of {LOCAL_EXPERTS} in [0, {last}]")
    return offset


def _check_factor(factor: float) -> float:
    if not isinstance(factor, (int, float)) or isinstance(factor, bool):
        raise TypeError(f"routed_scaling_factor is {type(factor).__name__}; expected a Python float")
    if not math.isfinite(factor):
        raise ValueError(f"routed_scaling_factor is {factor}; expected a finite number")
    return float(factor)


def _check_rank(name: str, tensor: torch.Tensor, rank: int) -> None:
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{name} is {type(tensor).__name__}; expected a torch.Tensor")
    if tensor.dim() != rank:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}; expected {rank} dimensions")


def _check_columns(name: str, columns: int) -> None:
    if columns == 0 or columns % BLOCK:
        raise ValueError(f"{name} has {columns} columns; expected a positive multiple of {BLOCK}")


def _check_tensor(
    name: str, tensor: torch.Tensor, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> None:
    _check_rank(name, tensor, len(shape))
    if tensor.dtype != dtype:
        raise TypeError(f"{name} is {tensor.dtype}; expected {dtype}")
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}; expected {shape}")
    if tensor.device != device:
        raise ValueError(f"{name} is on {tensor.device}; expected {device}, where hidden_states is")
    if not tensor.is_contiguous():
        raise ValueError(f"{name} has strides {tensor.stride()}; expected a contiguous tensor: call .contiguous()")
    # 16-byte accesses and the bulk copy engine need it; an unaligned slice would fault on the device, far from here.
    if tensor.data_ptr() % ALIGNMENT:
        raise ValueError(f"{name} starts at an address that is no multiple of {ALIGNMENT}; copy it to a fresh tensor")
