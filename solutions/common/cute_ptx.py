"""Single PTX instructions that CuTeDSL has no function for, and the small register shuffles built on them."""

from __future__ import annotations

from typing import Any

import cutlass
import cutlass.cute as cute
from cutlass.cute.arch import inline_ptx

from . import cute_maps as maps

Value = Any  # a DSL value


def bulk_copy(dst_smem: Value, src_gmem: Value, num_bytes: Value, barrier: Value) -> None:
    """Start one asynchronous copy of `num_bytes` (a multiple of 16) to shared memory; call from one thread.

    `dst_smem` and `barrier` are shared-memory addresses (Int32), `src_gmem` a global address (Int64), all 16-byte
    aligned.
    """
    inline_ptx(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [{$r0}], [{$r1}], {$r2}, [{$r3}];",
        read_only_args=[dst_smem, src_gmem, cutlass.Int32(num_bytes), barrier],
    )


def pack_bf16(low: Value, high: Value) -> Value:
    """Round two float32 to bfloat16, to nearest even, in one 32-bit word."""
    return inline_ptx(
        "cvt.rn.bf16x2.f32 {$w0}, {$r1}, {$r0};", write_only_types=[cutlass.Int32], read_only_args=[low, high]
    )


def pack_e4m3(v0: Value, v1: Value, v2: Value, v3: Value) -> Value:
    """Round four float32 to e4m3, saturating, in one 32-bit word, v0 in the lowest byte."""
    return inline_ptx(
        "{ .reg .b16 lo, hi; cvt.rn.satfinite.e4m3x2.f32 lo, {$r1}, {$r0};"
        " cvt.rn.satfinite.e4m3x2.f32 hi, {$r3}, {$r2}; mov.b32 {$w0}, {lo, hi}; }",
        write_only_types=[cutlass.Int32],
        read_only_args=[v0, v1, v2, v3],
    )


def take_halves(a: Value, b: Value, high: bool) -> Value:
    """Word made of the low (or high) 16-bit halves of `a` (to the low half) and `b`."""
    return cutlass.Int32(cute.arch.prmt(a, b, cutlass.Int32(maps.HIGH_HALVES if high else maps.LOW_HALVES)))


def store_global(address: Value, words: list[Value]) -> None:
    """Store 1, 2, 4 or (Blackwell) 8 32-bit words at a global address aligned to their total size."""
    vector = {1: "", 2: ".v2", 4: ".v4", 8: ".v8"}[len(words)]
    names = ", ".join(f"{{$r{i + 1}}}" for i in range(len(words)))
    operand = names if len(words) == 1 else "{" + names + "}"
    inline_ptx(f"st.global{vector}.b32 [{{$r0}}], {operand};", read_only_args=[address, *words])


def quad_transpose(words: list[Value], lane: Value) -> list[Value]:
    """Transpose a 4 x 4 matrix of 32-bit words held by the four lanes of a quad: lane q gets word q of lanes 0..3."""
    return maps.quad_transpose(words, lane, lambda word, bit: cute.arch.shuffle_sync_bfly(word, offset=bit), select)


def fma(a: Value, b: Value, c: Value) -> Value:
    """a * b + c in one rounding."""
    return inline_ptx(
        "fma.rn.f32 {$w0}, {$r0}, {$r1}, {$r2};", write_only_types=[cutlass.Float32], read_only_args=[a, b, c]
    )


def abs_max(values: list[Value]) -> Value:
    """Largest magnitude of some float32."""
    largest = cutlass.Float32(0.0)
    for v in values:
        largest = cute.arch.fmax(largest, cute.arch.fmax(v, -v))
    return largest


def fp8_scale(amax: Value) -> tuple[Value, Value]:
    """Scale amax / 448 and its inverse; an all-zero block gets scale 1."""
    zero = amax == 0.0
    scale = select(zero, cutlass.Float32(1.0), amax * cutlass.Float32(1.0 / maps.FP8_MAX))
    return scale, cutlass.Float32(1.0) / scale


def select(condition: Value, yes: Value, no: Value) -> Value:
    """yes where condition holds, else no; both of one type."""
    return type(yes)(cutlass.select_(condition, yes, no))


def load_shared4(address: Value) -> list[Value]:
    """Four float32 at a shared-memory address that is a multiple of 16."""
    return list(
        inline_ptx(
            "ld.shared.v4.f32 {{$w0}, {$w1}, {$w2}, {$w3}}, [{$r0}];",
            write_only_types=[cutlass.Float32] * 4,
            read_only_args=[address],
        )
    )


def fma2(a: list[Value], b: list[Value], c: list[Value]) -> list[Value]:
    """Two float32 a * b + c in one Blackwell instruction."""
    return list(cute.arch.fma_packed_f32x2(tuple(a), tuple(b), tuple(c), rnd="rn"))


def tmem_load(address: Value, columns: int) -> list[Value]:
    """`columns` consecutive float32 of this thread's tensor-memory lane, waited for.

    Load and wait are one piece of assembly: nothing else would keep a use of the registers behind the wait.
    """
    names = ", ".join(f"{{$w{i}}}" for i in range(columns))
    return list(
        inline_ptx(
            f"tcgen05.ld.sync.aligned.32x32b.x{columns}.b32 {{{names}}}, [{{$r0}}]; tcgen05.wait::ld.sync.aligned;",
            write_only_types=[cutlass.Float32] * columns,
            read_only_args=[address],
        )
    )


def tmem_fence_before_signal() -> None:
    """Order earlier tensor-memory accesses before a signal to other threads."""
    inline_ptx("tcgen05.fence::before_thread_sync;")


def tmem_fence_after_signal() -> None:
    """Order later tensor-memory accesses after a signal from other threads."""
    inline_ptx("tcgen05.fence::after_thread_sync;")
