"""A cuda.py with one Triton GEMM, the smallest kernel that shows what a build looks at."""

from __future__ import annotations

# tile_m 128 maps to the chip's warpgroup or tensor-memory instructions; 16 silently becomes mma.sync on both chips.
CUDA = """
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource


@triton.jit
def gemm(a, b, c, k_size, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    m, n, k = tl.arange(0, M), tl.arange(0, N), tl.arange(0, K)
    acc = tl.zeros((M, N), tl.float32)
    for i in range(0, k_size, K):
        x = tl.load(a + m[:, None] * k_size + (i + k)[None, :])
        y = tl.load(b + n[None, :] * k_size + (i + k)[:, None])
        acc = tl.dot(x, y, acc)
    tl.store(c + m[:, None] * N + n[None, :], acc)


def compile_kernels(arch):
    source = ASTSource(
        fn=gemm,
        signature={"a": "*fp8e4nv", "b": "*fp8e4nv", "c": "*fp32", "k_size": "i32"},
        constexprs={"M": TILE_M, "N": 128, "K": 128},
        attrs={(i,): [["tt.divisibility", 16]] for i in (0, 1, 3)},
    )
    target = GPUTarget("cuda", {"sm_90a": 90, "sm_100a": 100}[arch], 32)
    built = triton.compile(source, target=target, options={"num_warps": 4, "num_stages": 3} | OPTIONS)
    meta = {"mma": {"sm_90a": "wgmma", "sm_100a": "tcgen05"}[arch], "dynamic_shared_bytes": built.metadata.shared}
    yield {"name": "gemm1_e4m3", "stage": "gemm1", "cubin": built.asm["cubin"], "ptx": built.asm["ptx"], "meta": meta}
"""


def cuda(tile_m: int = 128, options: str = "{}") -> str:
    return CUDA.replace("TILE_M", str(tile_m)).replace("OPTIONS", options)
