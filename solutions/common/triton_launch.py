"""Launching a Triton kernel without its argument binding, and compiling it without a GPU.

`triton_gemm` and `triton_pairs` launch and compile their kernels through this module, under the rules of
`triton_stages`: integers are not specialized, all pointers are multiples of 16 bytes, and constants come in the
kernel's order, then num_warps.
"""

from __future__ import annotations

from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from .triton_stages import Plan

_compiled: dict[tuple[Any, ...], Any] = {}


def launch(
    kernel: Any, plan: Plan, grid: tuple[int, int, int], arguments: tuple[Any, ...], constants: dict[str, Any]
) -> None:
    """Launch a kernel on the plan's stream, compiled at its first use; early, if its constant OVERLAP is set.

    Later launches skip Triton's argument binding, which costs the host more than a small T costs the GPU.
    """
    values = tuple(constants.values())
    key = (kernel.__name__, plan.device.index, values)
    built = _compiled.get(key)
    if built is None:
        _compiled[key] = kernel[grid](*arguments, **constants, launch_pdl=_starts_early(constants))
    else:
        built[grid](*arguments, *values[:-1], stream=plan.stream)  # the last value is num_warps, no argument


def warm(kernel: Any, plan: Plan, arguments: tuple[Any, ...], constants: dict[str, Any]) -> None:
    """Compile a kernel for `launch` without launching it."""
    key = (kernel.__name__, plan.device.index, tuple(constants.values()))
    if key not in _compiled:
        early = _starts_early(constants)
        _compiled[key] = kernel.warmup(*arguments, grid=(1, 1, 1), **constants, launch_pdl=early)


def compile_kernel(
    arch: str, kernel: Any, types: str, constants: dict[str, Any], stage: str, suffix: str = "", mma: str | None = None
) -> dict[str, Any]:
    """Compile a kernel for 'sm_90a' or 'sm_100a' without a GPU, `types` being Triton's of its run-time arguments.

    Returns the dict that solutions/README.md describes for `compile_kernels`; its name is the kernel's and `suffix`.
    """
    names = types.split()
    values = {key: value for key, value in constants.items() if key != "num_warps"}
    signature = dict(zip(kernel.arg_names, names, strict=False)) | dict.fromkeys(values, "constexpr")
    attrs = {(i,): [["tt.divisibility", 16]] for i, kind in enumerate(names) if kind.startswith("*")}
    source = ASTSource(fn=kernel, signature=signature, constexprs=values, attrs=attrs)
    target = GPUTarget("cuda", {"sm_90a": 90, "sm_100a": 100}[arch], 32)
    options = {"num_warps": constants["num_warps"], "launch_pdl": _starts_early(constants)}
    built = triton.compile(source, target=target, options=options)
    shared = built.metadata.shared
    meta = {**values, "threads": constants["num_warps"] * 32, "dynamic_shared_bytes": shared, "mma": mma}
    name = kernel.__name__ + suffix + ("_overlap" if constants.get("OVERLAP") else "")
    return {"name": name, "stage": stage, "cubin": built.asm["cubin"], "ptx": built.asm["ptx"], "meta": meta}


def _starts_early(constants: dict[str, Any]) -> bool:
    return bool(constants.get("OVERLAP"))
