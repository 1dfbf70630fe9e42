"""GEMMs of v4 on Hopper (sm_90a): wgmma, sums in registers. Device code; roles and operands: `gemm`."""

from typing import Any

import cutlass
import cutlass.cute as cute
import cutlass.utils.hopper_helpers as sm90
from cutlass.cute.nvgpu import warpgroup

from . import geometry as geo
from .common import cute_maps as maps
from .common import cute_ptx as ptx
from .common.cute_tiles import E4M3, F32, I32, U32, Bundle
from .gemm import I64, LayerGemm


class HopperGemm(LayerGemm):
    """Two warpgroups, each 64 rows of the instruction's M side in two passes: two weight tiles, or up and gate."""

    empty_arrivals = 8
    together = True

    @cute.jit
    def roles(self, loads: tuple[Any, ...], smem: Any, place: Bundle, problem: Bundle, warp: I32, thread: I32) -> None:
        """Load or multiply, by the warp's number."""
        cute.arch.sync_threads()
        cute.arch.cluster_wait()
        if warp >= self.store_warps:
            cute.arch.setmaxregister_decrease(56)
            if warp == self.store_warps:
                self.load(loads, place, problem)
            elif cutlass.const_expr(not self.boxed):
                self.gather(place, problem, thread - 32 * (self.store_warps + 1))
        else:
            cute.arch.setmaxregister_increase(224)
            self.consume(place, problem, thread)
        cute.arch.cluster_arrive()  # a block must not leave while its partner may still write to its memory
        cute.arch.cluster_wait()

    def tiled_mma(self, path: geo.Path) -> Any:
        """Both warpgroups' products of one pass: 128 rows of the M side."""
        k_major = cute.nvgpu.OperandMajorMode.K
        return sm90.make_trivial_tiled_mma(E4M3, E4M3, k_major, k_major, F32, (2, 1, 1), (64, path.columns))

    @cute.jit
    def consume(self, place: Bundle, problem: Bundle, thread: I32) -> None:
        """A consumer warpgroup: each tile by the path that its rows choose."""
        total = self.all_jobs(place)
        job = self.first_job()
        step = U32(0)
        while job < total:
            tile = self.locate(job, place, problem)
            if tile.rows <= geo.PATHS[0].rows:
                self.multiply_tile(geo.PATHS[0], place, problem, tile, step, thread)
            elif tile.rows <= geo.PATHS[1].rows:
                self.multiply_tile(geo.PATHS[1], place, problem, tile, step, thread)
            elif tile.rows <= geo.PATHS[2].rows:
                self.multiply_tile(geo.PATHS[2], place, problem, tile, step, thread)
            else:
                self.multiply_tile(geo.PATHS[3], place, problem, tile, step, thread)
            step += U32(tile.steps)
            job += self.clusters()

    @cute.jit
    def multiply_tile(
        self, path: geo.Path, place: Bundle, problem: Bundle, tile: Bundle, step: U32, thread: I32
    ) -> None:
        """Add up the tile's K blocks, then write it."""
        mma = self.tiled_mma(path)
        part = mma.get_slice(cute.arch.make_warp_uniform(thread // 128) * 128)
        registers = path.columns // 2  # of one pass
        factors_count = path.columns // 2 if path.swapped else 4
        tokens = cute.local_tile(place.tokens, (path.rows, maps.BLOCK), (0, 0, None))
        x, y = (place.weights, tokens) if path.swapped else (tokens, place.weights)
        shape = mma.partition_shape_C((maps.BLOCK, path.columns))
        state = Bundle(
            mma=mma,
            x=mma.make_fragment_A(part.partition_A(x)),
            y=mma.make_fragment_B(part.partition_B(y)),
            acc=[cute.make_rmem_tensor(shape, F32) for _ in range(2 if path.swapped else 1)],
            sums=cute.make_rmem_tensor(cute.make_layout(2 * registers), F32),
            factors=cute.make_rmem_tensor(cute.make_layout(factors_count), F32),
            scales=[I32(self.scale_index(tile, j, tile.start, problem)) for j in range(2)],
        )
        state.sums.fill(0.0)
        if cutlass.const_expr(path == geo.PATHS[0]):
            self.announce(tile, place, thread)
        self.take(path, place, state.scales, I32(0), step, thread, state.factors)
        for k in cutlass.range(tile.steps, unroll=1):
            self.multiply(path, state, place, k, k + 1 < tile.steps, step + U32(k), thread)
        if cutlass.const_expr(path == geo.PATHS[0]):
            whole = cutlass.Boolean(True)
            if tile.meets:
                whole = self.meet(state.sums, place, thread)
            if whole & cutlass.Boolean(tile.parts > 1):
                whole = self.gather_parts(state.sums, place, problem, tile, thread)
            if whole:
                self.store_swapped(path, state.sums, place, problem, tile, thread)
        elif cutlass.const_expr(path.swapped):
            self.store_swapped(path, state.sums, place, problem, tile, thread)
        elif cutlass.const_expr(self.gated):
            self.store_gated(state.sums, problem, tile, thread)
        else:
            self.store_bf16(state.sums, problem, tile, thread)

    @cute.jit
    def take(
        self, path: geo.Path, place: Bundle, scales: Any, k: Any, step: U32, thread: I32, factors: cute.Tensor
    ) -> None:
        """Wait for ring step `step` and read what this thread's products will be multiplied with: token times weight
        scale."""
        slot = I32(maps.stage(step, geo.STAGES))
        cute.arch.mbarrier_wait(place.full + slot, maps.full_parity(step, geo.STAGES))
        if cutlass.const_expr(not self.boxed):
            ptx.show_to_async_units()
        weight = [place.weight[(2 * slot + j) * 4 + I32(maps.copy_offset(U32(scales[j] + k)))] for j in range(2)]
        base = slot * geo.BLOCK
        if cutlass.const_expr(path.swapped):
            half = path.columns // 4
            for n in cutlass.range_constexpr(half):
                scale = place.token[base + maps.wgmma_column(thread, 2 * n - n % 2)]
                factors[n] = scale * weight[0]
                factors[half + n] = scale * weight[1]
        else:
            for n in cutlass.range_constexpr(4):
                factors[n] = place.token[base + maps.wgmma_row(thread, 2 * (n % 2))] * weight[n // 2]

    @cute.jit
    def take_next(
        self,
        path: geo.Path,
        place: Bundle,
        scales: Any,
        k: Any,
        more: Any,
        step: U32,
        thread: I32,
        factors: cute.Tensor,
    ) -> None:
        """`take`, unless the tile has no further K block."""
        if more:
            self.take(path, place, scales, k, step, thread, factors)

    @cute.jit
    def multiply(self, path: geo.Path, state: Bundle, place: Bundle, k: Any, more: Any, step: U32, thread: I32) -> None:
        """Add one K block to the float32 sums, and take the next block while the tensor core works."""
        slot = I32(maps.stage(step, geo.STAGES))
        ahead = cute.make_rmem_tensor_like(state.factors)
        ahead.fill(0.0)
        passes = ((0, 1),) if path.swapped else ((0,), (1,))
        for group in cutlass.range_constexpr(len(passes)):
            warpgroup.fence()
            self.issue(path, state, slot, passes[group])
            warpgroup.commit_group()
            if cutlass.const_expr(group == len(passes) - 1):
                self.take_next(path, place, state.scales, k + 1, more, step + U32(1), thread, ahead)
            warpgroup.wait_group(0)
            if cutlass.const_expr(group == len(passes) - 1):
                self.release(place.empty + slot)
            self.promote(path, state, passes[group])
        for n in cutlass.range_constexpr(cute.size(state.factors)):
            state.factors[n] = ahead[n]

    def issue(self, path: geo.Path, state: Bundle, slot: Any, passes: tuple[int, ...]) -> None:
        """Start the products of some passes over a slot."""
        for j in passes:
            acc = state.acc[j if path.swapped else 0]
            xs, ys = (2 * slot + j, slot) if path.swapped else (slot, 2 * slot + j)
            for kk in range(maps.BLOCK // maps.MMA_K):
                state.mma.set(warpgroup.Field.ACCUMULATE, kk > 0)
                cute.gemm(state.mma, acc, state.x[None, None, kk, xs], state.y[None, None, kk, ys], acc)

    def promote(self, path: geo.Path, state: Bundle, passes: tuple[int, ...]) -> None:
        """Add the accumulators of some passes, scaled, to the float32 sums."""
        registers = path.columns // 2
        for j in passes:
            acc = state.acc[j if path.swapped else 0]
            for i in range(registers):
                factor = j * (path.columns // 4) + maps.wgmma_scale(i) if path.swapped else 2 * j + maps.wgmma_half(i)
                n = j * registers + i
                state.sums[n] = ptx.fma(acc[i], state.factors[factor], state.sums[n])

    # --- parts of a tile --------------------------------------------------------------------------------------------

    @cute.jit
    def announce(self, tile: Bundle, place: Bundle, thread: I32) -> None:
        """Before a tile of which each of the cluster's blocks takes a part: the first block's warps tell the second
        block that they have read the staging buffer, and it announces what the second one will send there.

        A cluster comes here once in a launch at most: the last round has no part for another time.
        """
        if tile.meets & cutlass.Boolean(cute.arch.block_idx_in_cluster() == 0):
            with cute.arch.elect_one():
                cute.arch.mbarrier_arrive(place.clear, 1)
            if thread == 0:
                cute.arch.mbarrier_arrive_and_expect_tx(place.met, 4 * geo.PARTIAL_FLOATS)

    @cute.jit
    def meet(self, sums: cute.Tensor, place: Bundle, thread: I32) -> cutlass.Boolean:
        """The second block sends its part's sums to the first one, which adds them to its own; true there."""
        count, threads = cute.size(sums), 32 * self.store_warps
        mine, met = place.staging.iterator.toint() + 16 * thread, place.met.toint()
        first = cute.arch.block_idx_in_cluster() == 0
        if first:
            cute.arch.mbarrier_wait(place.met, 0)
            for i in cutlass.range_constexpr(0, count, 4):
                found = ptx.load_shared4(mine + 4 * i * threads)
                for j in cutlass.range_constexpr(4):
                    sums[i + j] = sums[i + j] + found[j]
        else:
            cute.arch.mbarrier_wait(place.clear, 0)
            for i in cutlass.range_constexpr(0, count, 4):
                values = [sums[i + j] for j in range(4)]
                there = ptx.block_address(mine + 4 * i * threads, 0)
                ptx.store_to_block(there, values, ptx.block_address(met, 0))
        return first

    # --- results ----------------------------------------------------------------------------------------------------

    @cute.jit
    def store_swapped(
        self, path: geo.Path, sums: cute.Tensor, place: Bundle, problem: Bundle, tile: Bundle, thread: I32
    ) -> None:
        """Turn the tile through shared memory, some tokens at a time, then write it row by row."""
        for first in cutlass.range_constexpr(0, path.columns, geo.STAGED):
            for j in cutlass.range_constexpr(1 if self.gated else 2):
                self.sync_store_warps()  # the rows before have been read
                self.stage(path, sums, place, j, first, thread)
                self.sync_store_warps()
                column = (tile.n if self.gated else 2 * tile.n + j) * geo.BLOCK
                self.write_staged(place, problem, tile, column, first, thread)

    def stage(self, path: geo.Path, sums: cute.Tensor, place: Bundle, j: int, first: int, thread: Any) -> None:
        """Put this thread's results of tokens `first` and on into the staging buffer."""
        registers = path.columns // 2
        for i in range(first // 2, min(registers, (first + geo.STAGED) // 2)):
            value = self.gate(sums[i], sums[registers + i]) if self.gated else sums[j * registers + i]
            token = maps.wgmma_column(thread, i) - first
            place.staging[maps.staging_index(token, maps.wgmma_row(thread, i))] = value

    @cute.jit
    def store_gated(self, sums: cute.Tensor, problem: Bundle, tile: Bundle, thread: I32) -> None:
        """SwiGLU of the thread's two rows, quantized with amax / 448 of each row and 128 columns; 16 bytes at a
        time."""
        quad_lane = thread % 4
        for half in cutlass.range_constexpr(2):
            r = maps.wgmma_row(thread, 2 * half)
            row = tile.row + r
            base = problem.out + I64(row) * I64(problem.n // 2) + I64(tile.n * geo.BLOCK)
            registers = [maps.wgmma_register(half, b, j) for b in range(16) for j in range(2)]
            values = [self.gate(sums[i], sums[64 + i]) for i in registers]
            amax = ptx.abs_max(values)
            for bit in cutlass.range_constexpr(2):
                amax = cute.arch.fmax(amax, cute.arch.shuffle_sync_bfly(amax, offset=1 << bit))
            scale, inverse = ptx.fp8_scale(amax)
            values = [v * inverse for v in values]
            if r < tile.rows and quad_lane == 0:
                self.write_scale(problem, tile.n, row, scale)
            for g in cutlass.range_constexpr(2):
                firsts = [2 * maps.fp8_word_block(g, w) for w in range(4)]
                words = ptx.quad_transpose([ptx.pack_e4m3(*values[f : f + 4]) for f in firsts], quad_lane)
                chunk = [ptx.take_halves(words[p], words[p + 1], high) for high in (False, True) for p in (0, 2)]
                if r < tile.rows:
                    ptx.store_global(base + I64(maps.fp8_chunk_column(g, quad_lane)), chunk)

    @cute.jit
    def store_bf16(self, sums: cute.Tensor, problem: Bundle, tile: Bundle, thread: I32) -> None:
        """Write the thread's two rows of 256 columns, 16 bytes at a time."""
        quad_lane = thread % 4
        for half in cutlass.range_constexpr(2):
            r = maps.wgmma_row(thread, 2 * half)
            base = problem.out + I64(2) * (I64(tile.row + r) * I64(problem.n) + I64(tile.n * 256))
            for g in cutlass.range_constexpr(8):
                blocks = [maps.bf16_word_block(g, w) for w in range(4)]
                pairs = [[sums[maps.wgmma_register(half, b, j)] for j in range(2)] for b in blocks]
                words = ptx.quad_transpose([ptx.pack_bf16(*pair) for pair in pairs], quad_lane)
                if r < tile.rows:
                    ptx.store_global(base + I64(2 * maps.bf16_chunk_column(g, quad_lane)), words)
