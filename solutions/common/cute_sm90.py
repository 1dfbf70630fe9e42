"""Flat 2D grouped GEMM for Hopper (sm_90a): FP8 in, block scales, TMA + mbarrier ring, wgmma, persistent thread blocks.

For every expert e and every row r of e:  out[r, n] = sum over K blocks k of  a_scale[k, r] * b_scale[e, n/128, k] *
(a[r, 128 k : 128 k + 128] . b[e, n, 128 k : 128 k + 128]), each dot product in the tensor core, the sum in float32.

  a        (M, K) e4m3, row-major; the rows of expert e start at m_indptr[e], a multiple of 128
  a_scale  (K/128, M) float32
  b        (E, N, K) e4m3;  b_scale (E, N/128, K/128) float32
  out      (M, N) bfloat16, or e4m3 with out_scale (N/128, M) float32 = amax / 448 of each row and 128 columns
  m_indptr (E + 1,) int32;  m_count (E,) int32, true rows of each expert

Roles: warps 0-7 (two warpgroups) multiply, scale and store; warp 8 loads. No row count is known on the host: each block
reads m_count and walks its jobs. Rows past m_count[e] are neither trusted nor written.
Constraints: E <= 32, N a multiple of 512, K and M multiples of 128. See cute_maps for every index used here.
"""

from typing import Any

import cutlass
import cutlass.cute as cute
import cutlass.utils.hopper_helpers as sm90
from cutlass.cute.nvgpu import warpgroup

from . import cute_maps as maps
from . import cute_ptx as ptx
from .cute_tiles import E4M3, F32, I32, U32, Bundle, GroupedGemmBase


class HopperGroupedGemm(GroupedGemmBase):
    """One form of the kernel. Calling it (inside `cute.compile`) records the launch."""

    store_warps = 8  # two warpgroups, which multiply as well
    empty_arrivals = 8

    def __init__(self, form: maps.Form) -> None:
        super().__init__(form)
        # 64 x 128 is the widest accumulator that leaves room for its float32 sum: wider tiles take several passes.
        self.wave_n = min(form.tile_y, 128)
        self.waves = form.tile_y // self.wave_n
        self.registers = 64 * self.wave_n // 128  # accumulator registers of one pass
        self.factors = form.tile_y // 4 if form.swapped else 2 * self.waves  # scales that a thread needs for a K block
        # setmaxnreg works on whole warpgroups, so the loader gets three idle companions where registers are short.
        self.big = form.tile_y >= 128
        self.threads = 384 if self.big else 288

    def tiled_mma(self) -> cute.TiledMma:
        """Both warpgroups' products of one pass: 128 rows of X, wave_n of Y."""
        k_major = cute.nvgpu.OperandMajorMode.K
        return sm90.make_trivial_tiled_mma(E4M3, E4M3, k_major, k_major, F32, (2, 1, 1), (64, self.wave_n))

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
        """Load or multiply, by the warp's number."""
        cute.arch.sync_threads()
        self.sync_cluster()
        if warp >= self.store_warps:
            if cutlass.const_expr(self.big):
                cute.arch.setmaxregister_decrease(40)
            if warp == self.store_warps:
                self.produce(loads, place, problem)
        else:
            if cutlass.const_expr(self.big):
                cute.arch.setmaxregister_increase(232)
            self.consume(mma, place, problem, thread)

    # --- products -------------------------------------------------------------------------------------------------

    @cute.jit
    def consume(self, mma: cute.TiledMma, place: Bundle, problem: Bundle, thread: I32) -> None:
        """A consumer warpgroup: add up each tile's K blocks, then write its half of the tile."""
        form = self.form
        group = cute.arch.make_warp_uniform(thread // 128)
        part = mma.get_slice(group * 128)
        waves = [cute.local_tile(place.y, (self.wave_n, maps.BLOCK), (j, 0, None)) for j in range(self.waves)]
        fragments = Bundle(
            x=mma.make_fragment_A(part.partition_A(place.x)),  # (MMA, 1, K/32, stages)
            y=[mma.make_fragment_B(part.partition_B(wave)) for wave in waves],
            acc=cute.make_rmem_tensor(mma.partition_shape_C((maps.BLOCK, self.wave_n)), F32),
        )
        sums = cute.make_rmem_tensor(cute.make_layout(self.waves * self.registers), F32)
        factors = cute.make_rmem_tensor(cute.make_layout(self.factors), F32)
        total = place.table[maps.MAX_EXPERTS - 1, 0]
        job = self.first_job()
        step = U32(0)
        while job < total:
            tile = self.locate(job, place.table, problem.n_tiles)
            sums.fill(0.0)
            scales = self.weight_index(tile, 0, 0, problem)
            if self.has_rows(tile.rows, group):
                self.take(place, problem, scales, 0, step, thread, factors)
                for k in cutlass.range(problem.k_blocks, unroll=1):
                    self.multiply(mma, fragments, sums, factors, place, problem, scales, k, step, thread)
                    step += 1
            else:
                for _ in cutlass.range(problem.k_blocks, unroll=1):
                    slot = I32(maps.stage(step, form.stages))
                    cute.arch.mbarrier_wait(place.full + slot, maps.full_parity(step, form.stages))
                    self.release(place.empty + slot)
                    step += 1
            if cutlass.const_expr(form.swapped):
                self.store_swapped(sums, place, problem, tile, thread)
            elif cutlass.const_expr(form.fp8_out):
                self.store_fp8(sums, problem, tile, thread)
            else:
                self.store_bf16(sums, problem, tile, thread)
            job += self.clusters()

    def has_rows(self, rows: Any, group: Any) -> Any:
        """Whether a warpgroup has true rows; one whose 64 token rows are all padding only keeps the ring turning."""
        return rows > 0 if self.form.swapped else rows > group * 64

    @cute.jit
    def take(
        self, place: Bundle, problem: Bundle, scales: I32, k: I32, step: U32, thread: I32, factors: cute.Tensor
    ) -> None:
        """Wait for K block k (ring step `step`) and read what this thread's products will be multiplied with.

        factors: token scale times weight scale, for each pass two rows (plain), or for two columns of each 8 (swapped).
        """
        form = self.form
        slot = I32(maps.stage(step, form.stages))
        cute.arch.mbarrier_wait(place.full + slot, maps.full_parity(step, form.stages))
        weight = self.weight_scales(scales, k, slot, place, problem)
        base = slot * form.tile_m
        for n in cutlass.range_constexpr(self.factors):
            if cutlass.const_expr(form.swapped):
                factors[n] = place.token[base + maps.wgmma_column(thread, 2 * n - n % 2)] * weight[0]
            else:
                factors[n] = place.token[base + maps.wgmma_row(thread, 2 * (n % 2))] * weight[n // 2]

    @cute.jit
    def take_next(
        self, place: Bundle, problem: Bundle, scales: I32, k: I32, step: U32, thread: I32, factors: cute.Tensor
    ) -> None:
        """`take`, unless the tile has no K block k."""
        if k < problem.k_blocks:
            self.take(place, problem, scales, k, step, thread, factors)

    @cute.jit
    def multiply(
        self,
        mma: cute.TiledMma,
        fragments: Bundle,
        sums: cute.Tensor,
        factors: cute.Tensor,
        place: Bundle,
        problem: Bundle,
        scales: I32,
        k: I32,
        step: U32,
        thread: I32,
    ) -> None:
        """Add K block k of a tile to the float32 sums, and take the next block while the tensor core works."""
        acc = fragments.acc
        slot = I32(maps.stage(step, self.form.stages))
        ahead = cute.make_rmem_tensor_like(factors)
        for j in cutlass.range_constexpr(self.waves):
            warpgroup.fence()
            for kk in cutlass.range_constexpr(maps.BLOCK // maps.MMA_K):
                mma.set(warpgroup.Field.ACCUMULATE, kk > 0)
                cute.gemm(mma, acc, fragments.x[None, None, kk, slot], fragments.y[j][None, None, kk, slot], acc)
            warpgroup.commit_group()
            last = j == self.waves - 1
            if cutlass.const_expr(last):
                self.take_next(place, problem, scales, k + 1, step + 1, thread, ahead)
            warpgroup.wait_group(0)
            if cutlass.const_expr(last):
                self.release(place.empty + slot)
            self.promote(acc, sums, factors, j)
        for n in cutlass.range_constexpr(self.factors):
            factors[n] = ahead[n]

    def promote(self, acc: cute.Tensor, sums: cute.Tensor, factors: cute.Tensor, j: int) -> None:
        """Add pass j's accumulator, scaled, to the float32 sums."""
        for i in range(self.registers):
            n = j * self.registers + i
            factor = maps.wgmma_scale(i) if self.form.swapped else 2 * j + maps.wgmma_half(i)
            sums[n] = ptx.fma(acc[i], factors[factor], sums[n])

    # --- results --------------------------------------------------------------------------------------------------

    @cute.jit
    def store_bf16(self, sums: cute.Tensor, problem: Bundle, tile: Bundle, thread: I32) -> None:
        """Write the thread's two rows, 16 bytes at a time."""
        out, quad_lane = problem.out, thread % 4
        columns = cute.size(out, mode=[1])
        for half in cutlass.range_constexpr(2):
            r = maps.wgmma_row(thread, 2 * half)
            first = maps.first_column(tile.n, self.form.tile_n)
            base = out.iterator.toint() + 2 * maps.output_index(cutlass.Int64(tile.row + r), first, columns)
            for g in cutlass.range_constexpr(self.form.tile_n // 32):
                blocks = [maps.bf16_word_block(g, w) for w in range(4)]
                pairs = [[sums[maps.wgmma_register(half, b, j)] for j in range(2)] for b in blocks]
                words = ptx.quad_transpose([ptx.pack_bf16(*pair) for pair in pairs], quad_lane)
                if r < tile.rows:
                    ptx.store_global(base + 2 * maps.bf16_chunk_column(g, quad_lane), words)

    @cute.jit
    def store_fp8(self, sums: cute.Tensor, problem: Bundle, tile: Bundle, thread: I32) -> None:
        """Quantize each row and 128 columns with amax / 448, write values and scales."""
        out, quad_lane, n_blocks = problem.out, thread % 4, self.form.n_blocks
        columns = cute.size(out, mode=[1])
        for half in cutlass.range_constexpr(2):
            r = maps.wgmma_row(thread, 2 * half)
            first = maps.first_column(tile.n, self.form.tile_n)
            base = out.iterator.toint() + maps.output_index(cutlass.Int64(tile.row + r), first, columns)
            for block in cutlass.range_constexpr(n_blocks):
                values = [sums[maps.wgmma_register(half, 16 * block + b, j)] for b in range(16) for j in range(2)]
                amax = ptx.abs_max(values)
                for bit in cutlass.range_constexpr(2):
                    amax = cute.arch.fmax(amax, cute.arch.shuffle_sync_bfly(amax, offset=1 << bit))
                scale, inverse = ptx.fp8_scale(amax)
                values = [v * inverse for v in values]
                if r < tile.rows and quad_lane == 0:
                    self.write_scale(problem, maps.column_block(tile.n, n_blocks, block), tile.row + r, scale)
                for g in cutlass.range_constexpr(2):
                    firsts = [2 * maps.fp8_word_block(g, w) for w in range(4)]
                    words = ptx.quad_transpose([ptx.pack_e4m3(*values[f : f + 4]) for f in firsts], quad_lane)
                    chunk = [ptx.take_halves(words[p], words[p + 1], high) for high in (False, True) for p in (0, 2)]
                    if r < tile.rows:
                        ptx.store_global(base + 128 * block + maps.fp8_chunk_column(g, quad_lane), chunk)

    def stage_sums(self, sums: cute.Tensor, place: Bundle, thread: Any) -> None:
        """Put this thread's sums into the staging buffer."""
        for i in range(self.registers):
            place.staging[maps.staging_index(maps.wgmma_column(thread, i), maps.wgmma_row(thread, i))] = sums[i]
