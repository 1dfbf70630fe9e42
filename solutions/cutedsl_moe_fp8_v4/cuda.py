"""GPU backends of v4: one call into compiled host code, which launches routing, GEMM1, GEMM2 and combine."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch

from . import geometry as geo
from . import scratch
from .common.checks import MoeCall, require

REFUSES_WRONG_TENSORS = True  # the compiled function compares types, sizes, addresses and devices, `run_cuda` the rest
CUTLASS = "4.8"  # version prefix of nvidia-cutlass-dsl that these kernels were written for


def run_cuda(call: MoeCall, backend: str) -> None:
    """Enqueue one call; backend is sm_90a or sm_100a. Writes call.output (T, H) bf16.

    Raises ValueError for sizes that the kernels were not built for, MissingPackage without nvidia-cutlass-dsl or
    apache-tvm-ffi, and RuntimeError where `scratch.take` does, all before any launch.
    """
    logits, bias, x, x_scale, w1, w1_scale, w2, w2_scale, offset, factor, output = call
    if False in map(_is_contiguous, (logits, bias, x, x_scale, w1, w1_scale, w2, w2_scale, output)):
        raise ValueError("found a tensor with gaps or in another order; expected contiguous tensors")
    # What the compiled function does not compare: sizes that are another one's multiple.
    others = (x_scale.size(0), w1.size(1), w1_scale.size(1), w2_scale.size(2))
    rows, size = _sizes(x.size(0), x.size(1), w2.size(2), others)
    index = x.get_device()
    buffer = scratch.take(index, _stream(index), size)
    blocks = _blocks(index)
    _function(backend)(
        logits, bias, x, x_scale, w1, w1_scale, w2, w2_scale, output, buffer, rows, offset, factor, blocks
    )


_is_contiguous = torch.Tensor.is_contiguous
# The public function makes an object of the stream, which takes as long as a launch.
_stream: Callable[[int], int] = getattr(
    torch._C, "_cuda_getCurrentRawStream", lambda index: torch.cuda.current_stream(index).cuda_stream
)


@functools.lru_cache(maxsize=4096)
def _sizes(tokens: int, hidden: int, inner: int, others: tuple[int, ...]) -> tuple[int, int]:
    """Rows of the grouped matrices and bytes of scratch. Raises ValueError for sizes that the kernels were not built
    for.

    others: H/128, 2I, 2I/128 and I/128, as the tensors have them.
    """
    blocks = (hidden // geo.BLOCK, 2 * inner, 2 * inner // geo.BLOCK, inner // geo.BLOCK)
    if not tokens or others != blocks:
        raise ValueError(f"found {tokens} tokens and sizes {others}; expected at least 1 and {blocks}")
    if tokens > geo.MAX_TOKENS or hidden % 512 or inner % 256:
        raise ValueError(
            f"hidden_states has shape ({tokens}, {hidden}) and gemm2_weights {inner} columns; expected at most "
            f"{geo.MAX_TOKENS} tokens, multiples of 512 and of 256 columns: split the batch, or use another solution"
        )
    rows = geo.row_bound(tokens)
    return rows, geo.places(tokens, rows, hidden, inner).size


@functools.cache
def _function(backend: str) -> Any:
    """The compiled host function; compiles at its first use (about 8 s)."""
    _require_packages()
    from .layer import compile_layer_function

    return compile_layer_function(backend)


@functools.cache
def _blocks(device: int) -> int:
    processors = torch.cuda.get_device_properties(device).multi_processor_count
    return processors // geo.CLUSTER * geo.CLUSTER


def _require_packages() -> None:
    require("cutlass", "nvidia-cutlass-dsl", CUTLASS)
    require("tvm_ffi", "apache-tvm-ffi")


def compile_kernels(arch: str) -> Iterator[dict[str, Any]]:
    """Compile every kernel for sm_90a or sm_100a without a GPU; see solutions/README.md."""
    _require_packages()
    from .layer import compile_each

    yield from compile_each(arch)
