"""The layer of v4 as one compiled host function: routing, GEMM1, GEMM2 and combine, launched one after the other.

Device side of the host: `compile_layer_function` compiles it without a GPU; `cuda` calls it.
"""

# No "from __future__ import annotations" in CuTeDSL modules: Constexpr annotations are read as objects.

import tempfile
import threading
from collections.abc import Iterator
from typing import Any

import cutlass
import cutlass.cute as cute
from cutlass.cute.runtime import make_fake_compact_tensor, make_fake_stream

from . import geometry as geo
from .combine import Combine
from .common.cute_tiles import E4M3, F32, I32, Bundle
from .gemm import LayerGemm
from .route import Routing

I64 = cutlass.Int64
_COMPILE_LOCK = threading.Lock()  # kernel names are set on the classes before each compilation
# Tensor arguments in order: type, sizes, alignment in bytes; the same letter is the same size, and * any size.
SIGNATURE = (
    (F32, ("T", 256), 16),
    (cutlass.BFloat16, (256,), 16),
    (E4M3, ("T", "H"), 16),
    (F32, ("H/128", "T"), 16),
    (E4M3, (32, "2I", "H"), 16),
    (F32, (32, "2I/128", "H/128"), 16),
    (E4M3, (32, "H", "I"), 16),
    (F32, (32, "H/128", "I/128"), 16),
    (cutlass.BFloat16, ("T", "H"), 16),
    (cutlass.Uint8, ("*",), 256),
)
KERNELS = {"route_tokens": "routing", "gemm1_swiglu": "gemm1", "gemm2": "gemm2", "combine_rows": "combine"}
STEPS = {"H": 512, "2I": 512, "I": 256}  # what a size is a multiple of


class Layer:
    """All launches of one call. Each kernel but the first starts before the end of the one before it (programmatic
    dependent launch) and waits where it needs its results; the first waits for everything, so that calls never overlap.

    Args:
        arch: sm_90a or sm_100a.
        only: leave out all kernels but this one, of KERNELS, so that its machine code can be looked at by itself.
    """

    def __init__(self, arch: str, only: str = "") -> None:
        self.only = only
        gemm = gemm_class(arch)
        self.routing = Routing()
        self.gemm1: LayerGemm = gemm(gated=True)
        self.gemm2: LayerGemm = gemm(gated=False)
        self.combine = Combine()

    @cute.jit
    def __call__(
        self,
        logits: cute.Tensor,
        bias: cute.Tensor,
        x: cute.Tensor,
        x_scale: cute.Tensor,
        w1: cute.Tensor,
        w1_scale: cute.Tensor,
        w2: cute.Tensor,
        w2_scale: cute.Tensor,
        out: cute.Tensor,
        scratch: cute.Tensor,
        rows: I32,
        first_expert: I32,
        factor: F32,
        blocks: I32,
        stream: Any,
    ) -> None:
        tokens, hidden = I32(cute.size(x, mode=[0])), I32(cute.size(x, mode=[1]))
        inner = I32(cute.size(w2, mode=[2]))
        offsets = geo.places(I64(tokens), I64(rows), I64(hidden), I64(inner))
        base = scratch.iterator.toint()
        spots = Bundle(**{name: base + I64(offset) for name, offset in vars(offsets).items()})
        call = Bundle(
            logits=logits.iterator.toint(),
            bias=bias.iterator.toint(),
            out=out.iterator.toint(),
            tokens=tokens,
            hidden=hidden,
            first_expert=first_expert,
            factor=factor,
        )
        grouped = Bundle(data=spots.inner, scale=spots.inner_scale, scale_rows=rows)
        token_rows = Bundle(
            data=x.iterator.toint(),
            scale=x_scale.iterator.toint(),
            scale_rows=tokens,
            index=spots.index,
            index_rows=tokens,
        )
        inner_rows = Bundle(
            data=spots.inner, scale=spots.inner_scale, scale_rows=rows, index=spots.index, index_rows=tokens
        )
        results = Bundle(data=spots.rows, scale=spots.inner_scale, scale_rows=rows)
        if cutlass.const_expr(self.only in ("", "route_tokens")):
            self.routing.launch(call, spots, stream)
        if cutlass.const_expr(self.only in ("", "gemm1_swiglu")):
            self.gemm1.launch(token_rows, w1, w1_scale, grouped, spots, blocks, stream)
        if cutlass.const_expr(self.only in ("", "gemm2")):
            self.gemm2.launch(inner_rows, w2, w2_scale, results, spots, blocks, stream)
        if cutlass.const_expr(self.only in ("", "combine_rows")):
            self.combine.launch(call, spots, stream)


def gemm_class(arch: str) -> Any:
    """The chip's GEMM. Raises ValueError for a chip without one."""
    if arch == "sm_90a":
        from .hopper import HopperGemm

        return HopperGemm
    if arch == "sm_100a":
        from .blackwell import BlackwellGemm

        return BlackwellGemm
    raise ValueError(f"no kernels for {arch}; expected sm_90a or sm_100a")


def compile_layer_function(arch: str, only: str = "") -> Any:
    """Compile all kernels and their launches for `arch`; returns CuTeDSL's callable, which also holds cubin and PTX.

    Needs no GPU. T, H and I stay symbolic.
    """
    layer = Layer(arch, only)
    with _COMPILE_LOCK, tempfile.TemporaryDirectory() as scratch:
        options = f"--enable-tvm-ffi --gpu-arch {arch} --keep-ptx --keep-cubin --dump-dir={scratch}"
        return cute.compile(layer, *_fake_arguments(), options=options)


def compile_each(arch: str) -> Iterator[dict[str, Any]]:
    """Compile each kernel by itself; yields the dicts that solutions/README.md describes for `compile_kernels`."""
    for name, stage in KERNELS.items():
        built = compile_layer_function(arch, name)
        meta = {"threads": 128, "dynamic_shared_bytes": 0, "mma": None, "tmem_columns": 0}
        if stage in ("gemm1", "gemm2"):
            gemm = gemm_class(arch)(gated=stage == "gemm1")
            meta = {
                "tile": [geo.BLOCK, 2 * geo.BLOCK, geo.BLOCK],
                "stages": geo.STAGES,
                "cluster": geo.CLUSTER,
                "threads": gemm.threads,
                "dynamic_shared_bytes": geo.shared_bytes(),
                "mma": "wgmma" if arch == "sm_90a" else "tcgen05",
                "tmem_columns": gemm.tmem_columns,
            }
        yield {"name": name, "stage": stage, "cubin": built.__cubin__, "ptx": built.__ptx__, "meta": meta}


def _fake_arguments() -> list[Any]:
    symbols: dict[str, Any] = {}
    fakes: list[Any] = []
    for kind, names, align in SIGNATURE:
        shape = tuple(name if isinstance(name, int) else symbols.setdefault(name, _symbol(name)) for name in names)
        order = tuple(reversed(range(len(shape))))
        fakes.append(make_fake_compact_tensor(kind, shape, stride_order=order, assumed_align=align))
    return [*fakes, I32(1), I32(1), F32(1.0), I32(1), make_fake_stream(use_tvm_ffi_env_stream=True)]


def _symbol(name: str) -> Any:
    return cute.sym_int64() if name == "*" else cute.sym_int32(divisibility=STEPS.get(name, 1))
