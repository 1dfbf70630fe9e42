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
    """Scale amax * (1 / 448) and its inverse; 1 for a block of zeros, as which everything below FP8_ZERO counts."""
    zero = amax < cutlass.Float32(maps.FP8_ZERO)
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


def load_relaxed(address: Value) -> Value:
    """One int32 of global memory, past the L1 cache: what an earlier kernel wrote, though this one has not waited for
    it."""
    return inline_ptx(
        "ld.relaxed.gpu.global.b32 {$w0}, [{$r0}];", write_only_types=[cutlass.Int32], read_only_args=[address]
    )


def load_global(address: Value, count: int, kind: Any) -> list[Value]:
    """2 or 4 consecutive 32-bit values of `kind` at a global address aligned to their total size; kept out of the L1
    cache."""
    names = ", ".join(f"{{$w{i}}}" for i in range(count))
    return list(
        inline_ptx(
            f"ld.global.L1::no_allocate.v{count}.b32 {{{names}}}, [{{$r0}}];",
            write_only_types=[kind] * count,
            read_only_args=[address],
        )
    )


def load_global_if(condition: Value, address: Value, count: int, kind: Any) -> list[Value]:
    """`load_global` where the condition holds; else nothing is read, and the values are zero."""
    names = [f"{{$w{i}}}" for i in range(count)]
    zeros = " ".join(f"mov.b32 {name}, 0;" for name in names)
    return list(
        inline_ptx(
            "{ .reg .pred p; setp.ne.b32 p, {$r1}, 0; "
            + zeros
            + f" @p ld.global.L1::no_allocate.v{count}.b32 {{{', '.join(names)}}}, [{{$r0}}]; }}",
            write_only_types=[kind] * count,
            read_only_args=[address, select(cutlass.Boolean(condition), cutlass.Int32(1), cutlass.Int32(0))],
        )
    )


def copy_async(dst_smem: Value, src_gmem: Value, width: int, used: Value) -> None:
    """Copy `width` (4 or 16) bytes to shared memory asynchronously, of which the first `used` are read and the rest
    zeros."""
    cache = "cg" if width == 16 else "ca"
    inline_ptx(
        f"cp.async.{cache}.shared.global [{{$r0}}], [{{$r1}}], {width}, {{$r2}};",
        read_only_args=[dst_smem, src_gmem, used],
    )


def copies_arrive(barrier: Value) -> None:
    """One arrival at `barrier` (shared-memory address) once all earlier `copy_async` of this thread are done."""
    inline_ptx("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [{$r0}];", read_only_args=[barrier])


def show_to_async_units() -> None:
    """Order shared memory that threads (`copy_async` included) wrote before what matrix and copy units do next."""
    inline_ptx("fence.proxy.async.shared::cta;")


def count_up(address: Value, amount: Value) -> Value:
    """Add to an int32 of global memory, return what it held before."""
    return inline_ptx(
        "atom.relaxed.gpu.global.add.u32 {$w0}, [{$r0}], {$r1};",
        write_only_types=[cutlass.Int32],
        read_only_args=[address, amount],
    )


def power_of_two(x: Value) -> Value:
    """2 ** x, to about 2 units in the last place."""
    return inline_ptx("ex2.approx.ftz.f32 {$w0}, {$r0};", write_only_types=[cutlass.Float32], read_only_args=[x])


def reciprocal(x: Value) -> Value:
    """1 / x, to 1 unit in the last place; zero where that would be subnormal."""
    return inline_ptx("rcp.approx.ftz.f32 {$w0}, {$r0};", write_only_types=[cutlass.Float32], read_only_args=[x])


def warp_max(value: Value) -> Value:
    """Largest int32 of the warp's lanes."""
    return inline_ptx(
        "redux.sync.max.s32 {$w0}, {$r0}, 0xffffffff;", write_only_types=[cutlass.Int32], read_only_args=[value]
    )


def warp_or(value: Value) -> Value:
    """All lanes' bits together."""
    return inline_ptx(
        "redux.sync.or.b32 {$w0}, {$r0}, 0xffffffff;", write_only_types=[cutlass.Int32], read_only_args=[value]
    )


def bits_of(value: Value) -> Value:
    """A float32's bits as int32."""
    return inline_ptx("mov.b32 {$w0}, {$r0};", write_only_types=[cutlass.Int32], read_only_args=[value])


def float_of(bits: Value) -> Value:
    """The float32 of an int32's bits."""
    return inline_ptx("mov.b32 {$w0}, {$r0};", write_only_types=[cutlass.Float32], read_only_args=[bits])


def bf16_pair(word: Value) -> list[Value]:
    """Two bfloat16 of a 32-bit word, the low one first, as float32."""
    return [float_of(word << 16), float_of(word & cutlass.Int32(-65536))]


def lane_value(value: Value, lane: Value) -> Value:
    """A 32-bit value of another lane, whose number may differ from lane to lane."""
    kind = type(value)
    return inline_ptx(
        "shfl.sync.idx.b32 {$w0}, {$r0}, {$r1}, 31, 0xffffffff;", write_only_types=[kind], read_only_args=[value, lane]
    )


def take_ticket(address: Value) -> Value:
    """Add one to an int32 of global memory, return what it held; what came before is seen by whoever comes after."""
    return inline_ptx(
        "atom.acq_rel.gpu.global.add.u32 {$w0}, [{$r0}], 1;",
        write_only_types=[cutlass.Int32],
        read_only_args=[address],
    )


def block_address(address: Value, rank: int) -> Value:
    """Where the cluster's block `rank` has what stands at this shared-memory address in one's own."""
    return inline_ptx(
        f"mapa.shared::cluster.u32 {{$w0}}, {{$r0}}, {rank};",
        write_only_types=[cutlass.Int32],
        read_only_args=[address],
    )


def store_to_block(address: Value, values: list[Value], barrier: Value) -> None:
    """Store four float32 asynchronously to a block's shared memory, whose barrier counts 16 bytes when they are there;
    both are a `block_address`."""
    inline_ptx(
        "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [{$r0}], {{$r1}, {$r2}, {$r3}, {$r4}}, [{$r5}];",
        read_only_args=[address, *map(bits_of, values), barrier],
    )
