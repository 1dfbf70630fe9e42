"""One e4m3 product compiled for Blackwell by Triton, to compare its descriptors with those of the project's kernels."""

from __future__ import annotations

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource


@triton.jit
def product(x, y, out, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    m, n, k = tl.arange(0, M), tl.arange(0, N), tl.arange(0, K)
    left, right = tl.load(x + m[:, None] * K + k[None, :]), tl.load(y + n[None, :] * K + k[:, None])
    tl.store(out + m[:, None] * N + n[None, :], tl.dot(left, right))


def triton_product(columns: int) -> str:
    """PTX of X (128, 128) times the transpose of Y (columns, 128)."""
    source = ASTSource(
        fn=product,
        signature={"x": "*fp8e4nv", "y": "*fp8e4nv", "out": "*fp32"},
        constexprs={"M": 128, "N": columns, "K": 128},
        attrs={(i,): [["tt.divisibility", 16]] for i in range(3)},
    )
    return str(triton.compile(source, target=GPUTarget("cuda", 100, 32)).asm["ptx"])
