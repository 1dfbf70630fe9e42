"""GPU backends of v3: GEMM1 writes bfloat16, a kernel of its own quantizes it, and SwiGLU reads that."""

from __future__ import annotations

import functools

from .common.cute_layer import compile_layer, run_layer

run_cuda = functools.partial(run_layer, fp8_epilogue=False)
compile_kernels = functools.partial(compile_layer, fp8_epilogue=False)
