"""GEMMs of v4 on Blackwell (sm_100a): tcgen05, accumulators in tensor memory. Device code; operands: `gemm`.

Compiled and inspected, never executed on a chip so far.

The tensor core adds up one K block of 128 in tensor memory; result threads read it, scale it and add it to float32
sums in
registers. Roles: warps 0-7 scale, add up and store; warp 8 loads by TMA, warps 9-11 gather in GEMM1; warp 12 issues the
products. Barriers: full/empty for the ring; done/free for the accumulators in tensor memory.

A result thread owns one lane of tensor memory and half of the columns of each of its two weight tiles: its sums are
those columns of tile 0 (GEMM1: up), then of tile 1 (gate). In the plain path a lane is a token and columns are weight
rows; in a swapped path a lane is a weight row and columns are tokens.
"""

# No "from __future__ import annotations" in CuTeDSL modules: Constexpr annotations are read as objects.

from typing import Any

import cutlass
import cutlass.cute as cute
import cutlass.utils.blackwell_helpers as sm100
from cutlass.cute.nvgpu import tcgen05

from . import geometry as geo
from .common import cute_maps as maps
from .common import cute_ptx as ptx
from .common.cute_tiles import E4M3, F32, I32, U32, Bundle
from .gemm import I64, LayerGemm

WIDTH = 256  # columns of an accumulator: both weight tiles of the plain path


class BlackwellGemm(LayerGemm):
    """One GEMM of the layer on Blackwell."""

    accumulators = maps.TMEM_COLUMNS // WIDTH
    tmem_columns = maps.TMEM_COLUMNS
    empty_arrivals = 9  # the result warps read scales, the tensor core reads operands
    threads = 512  # the product warp gets three idle companions: setmaxnreg works on whole warpgroups

    @cute.jit
    def roles(self, loads: tuple[Any, ...], smem: Any, place: Bundle, problem: Bundle, warp: I32, thread: I32) -> None:
        """Load, gather, issue products or collect results; tensor memory belongs to the product warp."""
        holder = smem.allocate_array(I32, 1)
        if warp == self.store_warps + 4:
            cute.arch.alloc_tmem(self.tmem_columns, holder)
            ptx.tmem_fence_before_signal()
        cute.arch.sync_threads()
        ptx.tmem_fence_after_signal()
        cute.arch.cluster_wait()
        tmem = cute.arch.retrieve_tmem_ptr(F32, alignment=16, ptr_to_buffer_holding_addr=holder)
        if warp >= self.store_warps + 4:
            cute.arch.setmaxregister_decrease(40)
            if warp == self.store_warps + 4:
                self.multiply(tmem, place, problem)
        elif warp >= self.store_warps:
            cute.arch.setmaxregister_decrease(56)
            if warp == self.store_warps:
                self.load(loads, place, problem)
            elif cutlass.const_expr(not self.boxed):
                self.gather(place, problem, thread - 32 * (self.store_warps + 1))
        else:
            cute.arch.setmaxregister_increase(208)
            self.collect(tmem, place, problem, thread)
        ptx.tmem_fence_before_signal()
        cute.arch.sync_threads()
        if warp == self.store_warps + 4:
            ptx.tmem_fence_after_signal()
            cute.arch.relinquish_tmem_alloc_permit()
            cute.arch.dealloc_tmem(tmem, self.tmem_columns)
        cute.arch.cluster_arrive()  # a block must not leave while its partner may still write to its memory
        cute.arch.cluster_wait()

    def tiled_mma(self, path: geo.Path) -> Any:
        """One product: 128 rows of the M side; both weight tiles (plain) or the tokens (swapped) on the other."""
        k_major = cute.nvgpu.OperandMajorMode.K
        shape = (maps.BLOCK, path.rows if path.swapped else WIDTH)
        return sm100.make_trivial_tiled_mma(E4M3, E4M3, k_major, k_major, F32, tcgen05.CtaGroup.ONE, shape)

    # --- products ---------------------------------------------------------------------------------------------------

    @cute.jit
    def multiply(self, tmem: cute.Pointer, place: Bundle, problem: Bundle) -> None:
        """The product warp: an accumulator for each K block; the tensor core itself signals that it is done."""
        total = self.all_jobs(place)
        job = self.first_job()
        step = U32(0)
        while job < total:
            tile = self.locate(job, place, problem)
            if tile.rows <= geo.PATHS[0].rows:
                self.multiply_tile(geo.PATHS[0], tmem, place, tile, step)
            elif tile.rows <= geo.PATHS[1].rows:
                self.multiply_tile(geo.PATHS[1], tmem, place, tile, step)
            elif tile.rows <= geo.PATHS[2].rows:
                self.multiply_tile(geo.PATHS[2], tmem, place, tile, step)
            else:
                self.multiply_tile(geo.PATHS[3], tmem, place, tile, step)
            step += U32(tile.steps)
            job += self.clusters()

    @cute.jit
    def multiply_tile(self, path: geo.Path, tmem: cute.Pointer, place: Bundle, tile: Bundle, step: U32) -> None:
        """Issue a tile's products, K block by K block."""
        mma = self.tiled_mma(path)
        part = mma.get_slice(0)
        tokens = cute.local_tile(place.tokens, (path.rows, maps.BLOCK), (0, 0, None))
        x, y = (place.weights, tokens) if path.swapped else (tokens, place.both)
        fx, fy = mma.make_fragment_A(part.partition_A(x)), mma.make_fragment_B(part.partition_B(y))
        columns = path.rows if path.swapped else WIDTH
        layout = mma.make_fragment_C(mma.partition_shape_C((maps.BLOCK, columns))).layout
        everyone = cutlass.Int16((1 << geo.CLUSTER) - 1)
        for k in cutlass.range(tile.steps, unroll=1):
            now = step + U32(k)
            slot = I32(maps.stage(now, geo.STAGES))
            target = I32(maps.stage(now, self.accumulators))
            cute.arch.mbarrier_wait(place.free + target, maps.empty_parity(now, self.accumulators))
            cute.arch.mbarrier_wait(place.full + slot, maps.full_parity(now, geo.STAGES))
            if cutlass.const_expr(not self.boxed):
                ptx.show_to_async_units()
            ptx.tmem_fence_after_signal()
            self.issue(path, mma, tmem, layout, fx, fy, slot, target)
            with cute.arch.elect_one():
                tcgen05.commit(place.empty + slot, everyone)
                tcgen05.commit(place.done + target)

    def issue(self, path: geo.Path, mma: Any, tmem: Any, layout: Any, fx: Any, fy: Any, slot: Any, target: Any) -> None:
        """One K block's products; in a swapped path those of the second weight tile follow `path.rows` columns on."""
        for j in range(2 if path.swapped else 1):
            to = cute.make_tensor(tmem + (target * WIDTH + j * path.rows), layout)
            xs, ys = (2 * slot + j, slot) if path.swapped else (slot, slot)
            for kk in range(maps.BLOCK // maps.MMA_K):
                mma.set(tcgen05.Field.ACCUMULATE, kk > 0)
                cute.gemm(mma, to, fx[None, None, kk, xs], fy[None, None, kk, ys], to)

    # --- results ----------------------------------------------------------------------------------------------------

    @cute.jit
    def collect(self, tmem: cute.Pointer, place: Bundle, problem: Bundle, thread: I32) -> None:
        """The result warps: each tile by the path that its rows choose."""
        total = self.all_jobs(place)
        job = self.first_job()
        step = U32(0)
        while job < total:
            tile = self.locate(job, place, problem)
            if tile.rows <= geo.PATHS[0].rows:
                self.collect_tile(geo.PATHS[0], tmem, place, problem, tile, step, thread)
            elif tile.rows <= geo.PATHS[1].rows:
                self.collect_tile(geo.PATHS[1], tmem, place, problem, tile, step, thread)
            elif tile.rows <= geo.PATHS[2].rows:
                self.collect_tile(geo.PATHS[2], tmem, place, problem, tile, step, thread)
            else:
                self.collect_tile(geo.PATHS[3], tmem, place, problem, tile, step, thread)
            step += U32(tile.steps)
            job += self.clusters()

    @cute.jit
    def collect_tile(
        self, path: geo.Path, tmem: cute.Pointer, place: Bundle, problem: Bundle, tile: Bundle, step: U32, thread: I32
    ) -> None:
        """Scale each K block, add it up in float32, write the tile."""
        half = path.columns // 2  # columns of each weight tile that a thread owns
        sums = cute.make_rmem_tensor(cute.make_layout(2 * half), F32)
        sums.fill(0.0)
        scales = [I32(self.scale_index(tile, j, tile.start, problem)) for j in range(2)]
        for k in cutlass.range(tile.steps, unroll=1):
            self.collect_block(path, tmem, place, sums, scales, k, step + U32(k), thread)
        if cutlass.const_expr(path == geo.PATHS[0]):
            whole = cutlass.Boolean(True)
            if tile.parts > (1 if self.gated else tile.loose):
                whole = self.gather_parts(sums, place, problem, tile, thread)
            if whole:
                self.store_swapped(path, sums, place, problem, tile, thread)
        elif cutlass.const_expr(path.swapped):
            self.store_swapped(path, sums, place, problem, tile, thread)
        elif cutlass.const_expr(self.gated):
            self.store_gated(sums, place, problem, tile, thread)
        else:
            self.store_bf16(sums, problem, tile, thread)

    @cute.jit
    def collect_block(
        self,
        path: geo.Path,
        tmem: cute.Pointer,
        place: Bundle,
        sums: cute.Tensor,
        scales: Any,
        k: I32,
        step: U32,
        thread: I32,
    ) -> None:
        """Add one K block's accumulator, scaled, to the sums."""
        slot = I32(maps.stage(step, geo.STAGES))
        source = I32(maps.stage(step, self.accumulators))
        cute.arch.mbarrier_wait(place.full + slot, maps.full_parity(step, geo.STAGES))
        weight = [place.weight[(2 * slot + j) * 4 + I32(maps.copy_offset(U32(scales[j] + k)))] for j in range(2)]
        if cutlass.const_expr(not path.swapped):
            mine = place.token[slot * geo.BLOCK + thread % 128]
            weight = [weight[0] * mine, weight[1] * mine]
        cute.arch.mbarrier_wait(place.done + source, maps.full_parity(step, self.accumulators))
        ptx.tmem_fence_after_signal()
        half = path.columns // 2
        count = min(half, maps.TMEM_LOAD)
        group = cute.arch.make_warp_uniform(thread // 128)
        lane = cute.arch.make_warp_uniform(thread % 128 // 32 * 32)
        tokens = (place.token.iterator + slot * geo.BLOCK + group * half).toint()
        for j in cutlass.range_constexpr(2):
            for first in cutlass.range_constexpr(0, half, count):
                column = source * WIDTH + j * path.columns + group * half + first
                address = maps.tmem_address(tmem.toint(), lane, cute.arch.make_warp_uniform(column))
                self.add(path, sums, j * half + first, ptx.tmem_load(address, count), weight[j], tokens + 4 * first)
        ptx.tmem_fence_before_signal()
        cute.arch.sync_warp()
        with cute.arch.elect_one():
            cute.arch.mbarrier_arrive(place.free + source)
        self.release(place.empty + slot)

    def add(self, path: geo.Path, sums: cute.Tensor, first: int, values: list[Any], scale: Any, tokens: Any) -> None:
        """Add values, scaled, to the sums from `first` on; in a swapped path each column has its token's scale as
        well."""
        for i in range(0, len(values), 4):
            both = [scale] * 4
            if path.swapped:
                both = [t * scale for t in ptx.load_shared4(tokens + 4 * i)]
            for j in range(i, i + 4, 2):
                n = first + j
                low, high = ptx.fma2(values[j : j + 2], both[j - i : j - i + 2], [sums[n], sums[n + 1]])
                sums[n], sums[n + 1] = low, high

    @cute.jit
    def store_swapped(
        self, path: geo.Path, sums: cute.Tensor, place: Bundle, problem: Bundle, tile: Bundle, thread: I32
    ) -> None:
        """Turn the tile through shared memory, some tokens at a time, then write it row by row."""
        for first in cutlass.range_constexpr(0, path.columns, geo.STAGED):
            for j in cutlass.range_constexpr(1 if self.gated else 2):
                self.sync_store_warps()  # the rows before have been read
                self.stage_half(path, sums, place, j, first, thread)
                self.sync_store_warps()
                column = (tile.n if self.gated else 2 * tile.n + j) * geo.BLOCK
                self.write_staged(place, problem, tile, column, first, thread)

    @cute.jit
    def stage_half(self, path: geo.Path, sums: cute.Tensor, place: Bundle, j: int, first: int, thread: I32) -> None:
        """Put this thread's results of tokens `first` and on into the staging buffer, if it has any of them.

        A warpgroup owns half of the tokens: of 64 one fills the whole buffer, of 32 or 16 each fills its part.
        """
        half = path.columns // 2
        group, row = thread // 128, thread % 128
        staging = place.staging
        begin = group * half - first  # place of its first token in the buffer
        if begin >= 0 and begin < geo.STAGED:
            for i in cutlass.range_constexpr(half):
                value = self.gate(sums[i], sums[half + i]) if self.gated else sums[j * half + i]
                staging[maps.staging_index(begin + i, row)] = value

    def gate_all(self, sums: cute.Tensor, half: int) -> None:
        """SwiGLU of each column in place of its up half."""
        for i in range(half):
            sums[i] = self.gate(sums[i], sums[half + i])

    @cute.jit
    def store_gated(self, sums: cute.Tensor, place: Bundle, problem: Bundle, tile: Bundle, thread: I32) -> None:
        """SwiGLU of the thread's 64 columns of its row, quantized with amax / 448 of the row's 128 columns.

        The other half's largest magnitude comes from the other warpgroup through the staging buffer.
        """
        half = geo.BLOCK // 2
        group, r = thread // 128, thread % 128
        staging = place.staging
        self.gate_all(sums, half)
        amax = ptx.abs_max([sums[i] for i in range(half)])
        self.sync_store_warps()  # the tile before has been read
        staging[thread] = amax
        self.sync_store_warps()
        amax = cute.arch.fmax(amax, staging[(thread + 128) % 256])
        scale, inverse = ptx.fp8_scale(amax)
        row = tile.row + r
        at = problem.out + I64(row) * I64(problem.n // 2) + I64(tile.n * geo.BLOCK + group * half)
        if r < tile.rows:
            if group == 0:
                self.write_scale(problem, tile.n, row, scale)
            for i in cutlass.range_constexpr(0, half, 32):
                words = [ptx.pack_e4m3(*[sums[q + c] * inverse for c in range(4)]) for q in range(i, i + 32, 4)]
                ptx.store_global(at + I64(i), words)

    @cute.jit
    def store_bf16(self, sums: cute.Tensor, problem: Bundle, tile: Bundle, thread: I32) -> None:
        """Write the thread's 64 columns of each weight tile, 32 bytes at a time, so that every write fills a sector."""
        half = geo.BLOCK // 2
        group, r = thread // 128, thread % 128
        row = I64(tile.row + r) * I64(problem.n)
        if r < tile.rows:
            for j in cutlass.range_constexpr(2):
                first = (2 * tile.n + j) * geo.BLOCK + group * half
                for i in cutlass.range_constexpr(0, half, 16):
                    words = [ptx.pack_bf16(sums[j * half + i + c], sums[j * half + i + c + 1]) for c in range(0, 16, 2)]
                    ptx.store_global(problem.out + I64(2) * (row + I64(first + i)), words)
