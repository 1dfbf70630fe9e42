"""Flat 2D grouped GEMM for Blackwell (sm_100a): the formula, operands and schedule of cute_sm90, tcgen05 in place of
wgmma.

Compiled and inspected, never executed so far.

The tensor core adds up one K block of 128 in tensor memory; result threads read it, scale it and add it to float32 sums
in registers, so that block scales apply as on Hopper. Roles, with R result warps (8 in the plain form, 4 in the swapped
one): warps 0..R-1 scale, add up and store (thread = accumulator row, one warpgroup for 128 accumulator columns); warp R
loads; warp R+1 issues the products. Barriers: full/empty for the ring; done/free for the accumulators in tensor memory.
"""

from typing import Any

import cutlass
import cutlass.cute as cute
import cutlass.utils.blackwell_helpers as sm100
from cutlass.cute.nvgpu import tcgen05

from . import cute_maps as maps
from . import cute_ptx as ptx
from .cute_tiles import E4M3, F32, I32, U32, Bundle, GroupedGemmBase


class BlackwellGroupedGemm(GroupedGemmBase):
    """One form of the kernel. Calling it (inside `cute.compile`) records the launch."""

    def __init__(self, form: maps.Form) -> None:
        super().__init__(form)
        self.sums = min(form.tile_y, maps.BLOCK)  # of a result thread
        self.accumulators = maps.accumulator_stages(form)
        self.store_warps = 4 * (form.tile_y // self.sums)
        self.mma_warp = self.store_warps + 1
        # 128 sums a thread are too many for an even share of the registers, and setmaxnreg works on whole warpgroups:
        # in the plain form the loader and the product warp get two idle companions.
        self.big = self.store_warps == 8
        self.threads = 384 if self.big else 192
        self.empty_arrivals = self.store_warps + 1  # the result warps read scales, the tensor core reads operands

    def tiled_mma(self) -> cute.TiledMma:
        """One product of the whole tile, issued by one thread block."""
        k_major = cute.nvgpu.OperandMajorMode.K
        shape = (maps.BLOCK, self.form.tile_y)
        return sm100.make_trivial_tiled_mma(E4M3, E4M3, k_major, k_major, F32, tcgen05.CtaGroup.ONE, shape)

    @cute.jit
    def roles(
        self,
        mma: cute.TiledMma,
        loads: tuple[Any, ...],
        smem: Any,
        place: Bundle,
        problem: Bundle,
        warp: I32,
        thread: I32,
    ) -> None:
        """Load, issue products or collect results, by the warp's number; tensor memory belongs to the product warp."""
        holder = smem.allocate_array(I32, 1)
        if warp == self.mma_warp:
            cute.arch.alloc_tmem(maps.tmem_columns(self.form), holder)
            ptx.tmem_fence_before_signal()
        cute.arch.sync_threads()
        ptx.tmem_fence_after_signal()
        self.sync_cluster()
        tmem = cute.arch.retrieve_tmem_ptr(F32, alignment=16, ptr_to_buffer_holding_addr=holder)
        if warp >= self.store_warps:
            if cutlass.const_expr(self.big):
                cute.arch.setmaxregister_decrease(72)
            if warp == self.store_warps:
                self.produce(loads, place, problem)
            if warp == self.mma_warp:
                self.multiply(mma, tmem, place, problem)
        else:
            if cutlass.const_expr(self.big):
                cute.arch.setmaxregister_increase(216)
            self.collect(tmem, place, problem, thread)
        ptx.tmem_fence_before_signal()
        cute.arch.sync_threads()
        if warp == self.mma_warp:
            ptx.tmem_fence_after_signal()
            cute.arch.relinquish_tmem_alloc_permit()
            cute.arch.dealloc_tmem(tmem, maps.tmem_columns(self.form))

    # --- products -------------------------------------------------------------------------------------------------

    @cute.jit
    def multiply(self, mma: cute.TiledMma, tmem: cute.Pointer, place: Bundle, problem: Bundle) -> None:
        """The product warp: one accumulator for each K block; the tensor core itself signals that it is done."""
        form = self.form
        part = mma.get_slice(0)
        fx = mma.make_fragment_A(part.partition_A(place.x))  # (MMA, 1, K/32, stages)
        fy = mma.make_fragment_B(part.partition_B(place.y))
        shape = mma.partition_shape_C((maps.BLOCK, form.tile_y))
        acc_layout = mma.make_fragment_C(cute.append(shape, self.accumulators)).layout
        acc = cute.make_tensor(tmem, acc_layout)
        everyone = cutlass.Int16((1 << form.cluster) - 1) if form.cluster > 1 else None
        total = place.table[maps.MAX_EXPERTS - 1, 0]
        job = self.first_job()
        step = U32(0)
        while job < total:
            for _ in cutlass.range(problem.k_blocks, unroll=1):
                slot = I32(maps.stage(step, form.stages))
                target = I32(maps.stage(step, self.accumulators))
                cute.arch.mbarrier_wait(place.free + target, maps.empty_parity(step, self.accumulators))
                cute.arch.mbarrier_wait(place.full + slot, maps.full_parity(step, form.stages))
                ptx.tmem_fence_after_signal()
                to = acc[None, None, None, target]
                for kk in cutlass.range_constexpr(maps.BLOCK // maps.MMA_K):
                    mma.set(tcgen05.Field.ACCUMULATE, kk > 0)
                    cute.gemm(mma, to, fx[None, None, kk, slot], fy[None, None, kk, slot], to)
                with cute.arch.elect_one():
                    tcgen05.commit(place.empty + slot, everyone)
                    tcgen05.commit(place.done + target)
                step += 1
            job += self.clusters()

    @cute.jit
    def collect(self, tmem: cute.Pointer, place: Bundle, problem: Bundle, thread: I32) -> None:
        """The result warps: scale each K block, add it up in float32, write the tile."""
        form = self.form
        sums = cute.make_rmem_tensor(cute.make_layout(self.sums), F32)
        total = place.table[maps.MAX_EXPERTS - 1, 0]
        job = self.first_job()
        step = U32(0)
        while job < total:
            tile = self.locate(job, place.table, problem.n_tiles)
            sums.fill(0.0)
            scales = self.weight_index(tile, 0, 0, problem)
            for k in cutlass.range(problem.k_blocks, unroll=1):
                self.collect_block(tmem, place, problem, sums, scales, k, step, thread)
                step += 1
            if cutlass.const_expr(form.swapped):
                self.store_swapped(sums, place, problem, tile, thread)
            else:
                self.store_plain(sums, problem, tile, thread)
            job += self.clusters()

    @cute.jit
    def collect_block(
        self,
        tmem: cute.Pointer,
        place: Bundle,
        problem: Bundle,
        sums: cute.Tensor,
        scales: I32,
        k: I32,
        step: U32,
        thread: I32,
    ) -> None:
        """Add one K block's accumulator, scaled, to the sums."""
        form = self.form
        slot = I32(maps.stage(step, form.stages))
        source = I32(maps.stage(step, self.accumulators))
        cute.arch.mbarrier_wait(place.full + slot, maps.full_parity(step, form.stages))
        weight = self.weight_scales(scales, k, slot, place, problem)
        scale = weight[0]
        if cutlass.const_expr(not form.swapped):
            if cutlass.const_expr(form.n_blocks == 2):
                scale = ptx.select(thread < 128, weight[0], weight[1])
            scale = scale * place.token[slot * form.tile_m + maps.tmem_row(thread)]
        cute.arch.mbarrier_wait(place.done + source, maps.full_parity(step, self.accumulators))
        ptx.tmem_fence_after_signal()
        token = (place.token.iterator + slot * form.tile_m).toint()
        lane = cute.arch.make_warp_uniform(maps.tmem_row(thread) // 32 * 32)
        for first in cutlass.range_constexpr(0, self.sums, min(self.sums, maps.TMEM_LOAD)):
            count = min(self.sums, maps.TMEM_LOAD)
            column = maps.tmem_column(thread // 32 * 32, first, source, form.tile_y)
            address = maps.tmem_address(tmem.toint(), lane, cute.arch.make_warp_uniform(column))
            values = ptx.tmem_load(address, count)
            for i in cutlass.range_constexpr(0, count, 4):
                both = [scale] * 4
                if cutlass.const_expr(form.swapped):
                    both = [t * scale for t in ptx.load_shared4(token + 4 * (first + i))]
                for j in cutlass.range_constexpr(i, i + 4, 2):
                    n = first + j
                    low, high = ptx.fma2(values[j : j + 2], both[j - i : j - i + 2], [sums[n], sums[n + 1]])
                    sums[n] = low
                    sums[n + 1] = high
        ptx.tmem_fence_before_signal()
        cute.arch.sync_warp()
        with cute.arch.elect_one():
            cute.arch.mbarrier_arrive(place.free + source)
            self.arrive(place.empty + slot)

    # --- results --------------------------------------------------------------------------------------------------

    @cute.jit
    def store_plain(self, sums: cute.Tensor, problem: Bundle, tile: Bundle, thread: I32) -> None:
        """Write the thread's row of 128 columns, 32 bytes at a time, so that every write fills a sector."""
        form, out = self.form, problem.out
        r = maps.tmem_row(thread)
        block = maps.column_block(tile.n, form.n_blocks, maps.tmem_block(thread))
        first = maps.first_column(block, maps.BLOCK)
        element = maps.output_index(cutlass.Int64(tile.row + r), first, cute.size(out, mode=[1]))
        values = [sums[i] for i in range(maps.BLOCK)]
        if r < tile.rows:
            if cutlass.const_expr(form.fp8_out):
                scale, inverse = ptx.fp8_scale(ptx.abs_max(values))
                self.write_scale(problem, block, tile.row + r, scale)
                for i in cutlass.range_constexpr(0, maps.BLOCK, 32):
                    quads = [[v * inverse for v in values[j : j + 4]] for j in range(i, i + 32, 4)]
                    ptx.store_global(out.iterator.toint() + element + i, [ptx.pack_e4m3(*quad) for quad in quads])
            else:
                for i in cutlass.range_constexpr(0, maps.BLOCK, 16):
                    words = [ptx.pack_bf16(values[j], values[j + 1]) for j in range(i, i + 16, 2)]
                    ptx.store_global(out.iterator.toint() + 2 * (element + i), words)

    def stage_sums(self, sums: cute.Tensor, place: Bundle, thread: Any) -> None:
        """Put this thread's column of the tile into the staging buffer."""
        for i in range(self.sums):
            place.staging[maps.staging_index(i, maps.tmem_row(thread))] = sums[i]
