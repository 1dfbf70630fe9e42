"""Flat 2D grouped GEMM for Hopper (sm_90a): FP8 in, block scales, TMA + mbarrier ring, wgmma, persistent thread blocks.

For every expert e and every row r of e:  out[r, n] = sum over K blocks k of  a_scale[k, r] * b_scale[e, n/128, k] *
(a[r, 128 k : 128 k + 128] . b[e, n, 128 k : 128 k + 128]), each dot product in the tensor core, the sum in float32.

  a        (M, K) e4m3, row-major; the rows of expert e start at m_indptr[e], a multiple of 128
  a_scale  (K/128, M) float32
  b        (E, N, K) e4m3;  b_scale (E, N/128, K/128) float32
  out      (M, N) bfloat16, or e4m3 with out_scale (N/128, M) float32 = amax / 448 of each row and 128 columns
  m_indptr (E + 1,) int32;  m_count (E,) int32, true rows of each expert

Roles: warps 0-7 (two warpgroups) multiply, scale and store; warp 8 loads. No row count is known on the host: each thread
block reads m_count and walks the tiles b, b + grid, ... Rows past m_count[e] are neither trusted nor written.
Constraints: E <= 32, K and N multiples of 128, M a multiple of 128. See cute_maps for every index used here.
"""

# No "from __future__ import annotations": CuTeDSL reads Constexpr annotations as objects.

from typing import Any

import cutlass
import cutlass.cute as cute
import cutlass.utils.hopper_helpers as sm90
from cutlass.cute.nvgpu import cpasync, warpgroup

from . import cute_maps as maps
from . import cute_ptx as ptx

E4M3 = cutlass.Float8E4M3FN
F32 = cutlass.Float32
I32 = cutlass.Int32

CONSUMER_WARPS = 8
PRODUCER_WARP = 8
BARRIER_CONSUMERS = 1  # named barrier of the two consumer warpgroups


class HopperGroupedGemm:
    """One form of the kernel. Calling it (inside `cute.compile`) records the launch."""

    def __init__(self, form: maps.Form) -> None:
        self.form = form
        # 64 x 128 is the widest accumulator that leaves room for its float32 sum: wider tiles take several passes.
        self.wave_n = min(form.tile_y, 128)
        self.waves = form.tile_y // self.wave_n
        self.registers = 64 * self.wave_n // 128  # accumulator registers of one pass
        # setmaxnreg works on whole warpgroups, so the loader gets three idle companions where registers are short.
        self.big = self.waves * self.registers > 64
        self.threads = 384 if self.big else 288

    @cute.jit
    def __call__(
        self,
        a: cute.Tensor,
        a_scale: cute.Tensor,
        b: cute.Tensor,
        b_scale: cute.Tensor,
        out: cute.Tensor,
        out_scale: cute.Tensor,
        m_indptr: cute.Tensor,
        m_count: cute.Tensor,
        blocks: cutlass.Int32,
        stream: Any,
    ):
        form = self.form
        tokens = cute.make_tensor(cute.recast_ptr(a.iterator, dtype=E4M3), a.layout)
        weights = cute.make_tensor(cute.recast_ptr(b.iterator, dtype=E4M3), cute.select(b.layout, mode=[1, 2, 0]))
        x, y = (weights, tokens) if form.swapped else (tokens, weights)
        atom = warpgroup.make_smem_layout_atom(warpgroup.SmemLayoutAtomKind.K_SW128, E4M3)
        x_layout = cute.tile_to_shape(atom, (maps.BLOCK, maps.BLOCK, form.stages), order=(0, 1, 2))
        y_layout = cute.tile_to_shape(atom, (form.tile_y, maps.BLOCK, form.stages), order=(0, 1, 2))
        load = cpasync.CopyBulkTensorTileG2SOp()
        x_atom, x_tma = cpasync.make_tiled_tma_atom(load, x, x_layout, (maps.BLOCK, maps.BLOCK))
        y_atom, y_tma = cpasync.make_tiled_tma_atom(load, y, y_layout, (form.tile_y, maps.BLOCK))
        mma = sm90.make_trivial_tiled_mma(
            E4M3, E4M3, warpgroup.OperandMajorMode.K, warpgroup.OperandMajorMode.K, F32, (2, 1, 1), (64, self.wave_n)
        )
        self.kernel(
            x_atom, x_tma, y_atom, y_tma, x_layout, y_layout, mma,
            a_scale, b_scale, out, out_scale, m_indptr, m_count, cute.size(a, mode=[1]) // maps.BLOCK,
        ).launch(grid=[blocks, 1, 1], block=[self.threads, 1, 1], min_blocks_per_mp=1, stream=stream)  # fmt: skip

    @cute.kernel
    def kernel(
        self,
        x_atom: cute.CopyAtom,
        x_tma: cute.Tensor,
        y_atom: cute.CopyAtom,
        y_tma: cute.Tensor,
        x_layout: cute.ComposedLayout,
        y_layout: cute.ComposedLayout,
        mma: cute.TiledMma,
        a_scale: cute.Tensor,
        b_scale: cute.Tensor,
        out: cute.Tensor,
        out_scale: cute.Tensor,
        m_indptr: cute.Tensor,
        m_count: cute.Tensor,
        k_blocks: cutlass.Int32,
    ):
        form = self.form
        thread, _, _ = cute.arch.thread_idx()
        warp = cute.arch.make_warp_uniform(cute.arch.warp_idx())

        smem = cutlass.utils.SmemAllocator()
        sx = smem.allocate_tensor(E4M3, x_layout.outer, byte_alignment=1024, swizzle=x_layout.inner)
        sy = smem.allocate_tensor(E4M3, y_layout.outer, byte_alignment=1024, swizzle=y_layout.inner)
        s_token = smem.allocate_tensor(F32, cute.make_layout(form.tile_m * form.stages), byte_alignment=128)
        s_weight = smem.allocate_tensor(F32, cute.make_layout(4 * form.n_blocks * form.stages), byte_alignment=16)
        staging_size = maps.STAGING_ROW * form.tile_m if form.swapped else 4
        staging = smem.allocate_tensor(F32, cute.make_layout(staging_size), byte_alignment=16)
        table = smem.allocate_tensor(I32, cute.make_layout((maps.MAX_EXPERTS, 3)), byte_alignment=16)
        full = smem.allocate_array(cutlass.Int64, form.stages)
        empty = smem.allocate_array(cutlass.Int64, form.stages)

        n_tiles = cute.size(out, mode=[1]) // form.tile_n
        if warp == 0:
            self.build_schedule(m_indptr, m_count, n_tiles, table)
        if warp == PRODUCER_WARP:
            cpasync.prefetch_descriptor(x_atom)
            cpasync.prefetch_descriptor(y_atom)
            with cute.arch.elect_one():
                for s in cutlass.range_constexpr(form.stages):
                    cute.arch.mbarrier_init(full + s, 1)
                    cute.arch.mbarrier_init(empty + s, CONSUMER_WARPS)
                cute.arch.mbarrier_init_fence()
        cute.arch.sync_threads()

        if warp >= CONSUMER_WARPS:
            if cutlass.const_expr(self.big):
                cute.arch.setmaxregister_decrease(40)
            if warp == PRODUCER_WARP:
                self.produce(
                    x_atom, x_tma, y_atom, y_tma, a_scale, b_scale,
                    sx, sy, s_token, s_weight, table, full, empty, n_tiles, k_blocks,
                )  # fmt: skip
        else:
            if cutlass.const_expr(self.big):
                cute.arch.setmaxregister_increase(232)
            self.consume(
                mma, sx, sy, s_token, s_weight, staging, table, full, empty,
                b_scale, out, out_scale, n_tiles, k_blocks, thread,
            )  # fmt: skip

    # --- schedule -------------------------------------------------------------------------------------------------

    @cute.jit
    def build_schedule(self, m_indptr: cute.Tensor, m_count: cute.Tensor, n_tiles: cutlass.Int32, table: cute.Tensor):
        """Fill table[e] = (tiles of experts 0..e, rows, first row); lane e of the calling warp does expert e."""
        lane = cute.arch.lane_idx()
        count = I32(0)
        start = I32(0)
        if lane < cute.size(m_count):
            count = m_count[lane]
            start = m_indptr[lane]
        tiles = maps.row_tiles(count, self.form.tile_m) * n_tiles
        for bit in cutlass.range_constexpr(5):
            below = cute.arch.shuffle_sync_up(tiles, 1 << bit, mask_and_clamp=0)
            tiles += ptx.select(lane >= (1 << bit), below, I32(0))
        table[lane, 0] = tiles
        table[lane, 1] = count
        table[lane, 2] = start

    @cute.jit
    def locate(self, tile: cutlass.Int32, table: cute.Tensor):
        """Expert, row tile, column tile and rows of a tile; every lane of the warp takes part."""
        lane = cute.arch.lane_idx()
        expert = cute.arch.popc(cute.arch.vote_ballot_sync(table[lane, 0] <= tile))
        before = I32(0)
        if expert > 0:
            before = table[expert - 1, 0]
        count = table[expert, 1]
        tiles_m = maps.row_tiles(count, self.form.tile_m)
        local = tile - before
        tile_m = maps.row_tile(local, tiles_m)
        tile_n = maps.column_tile(local, tiles_m)
        row = maps.first_row(table[expert, 2], tile_m, self.form.tile_m)
        return expert, tile_n, row, count - tile_m * self.form.tile_m

    # --- loads ----------------------------------------------------------------------------------------------------

    @cute.jit
    def produce(
        self,
        x_atom: cute.CopyAtom,
        x_tma: cute.Tensor,
        y_atom: cute.CopyAtom,
        y_tma: cute.Tensor,
        a_scale: cute.Tensor,
        b_scale: cute.Tensor,
        sx: cute.Tensor,
        sy: cute.Tensor,
        s_token: cute.Tensor,
        s_weight: cute.Tensor,
        table: cute.Tensor,
        full: cute.Pointer,
        empty: cute.Pointer,
        n_tiles: cutlass.Int32,
        k_blocks: cutlass.Int32,
    ):
        form = self.form
        # (tile, 128, rest, K/128[, E]) -> one TMA box and its place in the ring
        gx = cute.local_tile(x_tma, (maps.BLOCK, maps.BLOCK), (None,) * cute.rank(x_tma))
        gy = cute.local_tile(y_tma, (form.tile_y, maps.BLOCK), (None,) * cute.rank(y_tma))
        one = cute.make_layout(1)
        xs, xg = cpasync.tma_partition(x_atom, 0, one, cute.group_modes(sx, 0, 2), cute.group_modes(gx, 0, 2))
        ys, yg = cpasync.tma_partition(y_atom, 0, one, cute.group_modes(sy, 0, 2), cute.group_modes(gy, 0, 2))
        m_pad = cute.size(a_scale, mode=[1])
        total = table[maps.MAX_EXPERTS - 1, 0]
        tile, _, _ = cute.arch.block_idx()
        grid, _, _ = cute.arch.grid_dim()
        step = I32(0)
        while tile < total:
            expert, tile_n, row, _ = self.locate(tile, table)
            tile_m = row // form.tile_m
            for k in cutlass.range(k_blocks, unroll=1):
                slot = maps.stage(step, form.stages)
                barrier = full + slot
                cute.arch.mbarrier_wait(empty + slot, maps.empty_parity(step, form.stages))
                with cute.arch.elect_one():
                    cute.arch.mbarrier_arrive_and_expect_tx(barrier, form.stage_bytes)
                    token = a_scale.iterator + maps.token_scale_index(cutlass.Int64(k), row, m_pad)
                    ptx.bulk_copy(
                        (s_token.iterator + slot * form.tile_m).toint(), token.toint(), 4 * form.tile_m, barrier.toint()
                    )
                    for j in cutlass.range_constexpr(form.n_blocks):
                        index = maps.weight_scale_index(
                            expert, tile_n * form.n_blocks + j, k, n_tiles * form.n_blocks, k_blocks
                        )
                        weight = b_scale.iterator + maps.copy_start(index)
                        place = s_weight.iterator + (slot * form.n_blocks + j) * 4
                        ptx.bulk_copy(place.toint(), weight.toint(), 16, barrier.toint())
                if cutlass.const_expr(form.swapped):
                    x_box, y_box = xg[None, tile_n, k, expert], yg[None, tile_m, k]
                else:
                    x_box, y_box = xg[None, tile_m, k], yg[None, tile_n, k, expert]
                cute.copy(x_atom, x_box, xs[None, slot], tma_bar_ptr=barrier)
                cute.copy(y_atom, y_box, ys[None, slot], tma_bar_ptr=barrier)
                step += 1
            tile += grid

    # --- products -------------------------------------------------------------------------------------------------

    @cute.jit
    def consume(
        self,
        mma: cute.TiledMma,
        sx: cute.Tensor,
        sy: cute.Tensor,
        s_token: cute.Tensor,
        s_weight: cute.Tensor,
        staging: cute.Tensor,
        table: cute.Tensor,
        full: cute.Pointer,
        empty: cute.Pointer,
        b_scale: cute.Tensor,
        out: cute.Tensor,
        out_scale: cute.Tensor,
        n_tiles: cutlass.Int32,
        k_blocks: cutlass.Int32,
        thread: cutlass.Int32,
    ):
        form = self.form
        group = cute.arch.make_warp_uniform(thread // 128)
        part = mma.get_slice(group * 128)
        fx = mma.make_fragment_A(part.partition_A(sx))  # (MMA, 1, K/32, stages)
        waves = [cute.local_tile(sy, (self.wave_n, maps.BLOCK), (j, 0, None)) for j in range(self.waves)]
        fy = [mma.make_fragment_B(part.partition_B(wave)) for wave in waves]
        acc = cute.make_rmem_tensor(mma.partition_shape_C((maps.BLOCK, self.wave_n)), F32)
        total_sum = cute.make_rmem_tensor(cute.make_layout(self.waves * self.registers), F32)
        total = table[maps.MAX_EXPERTS - 1, 0]
        tile, _, _ = cute.arch.block_idx()
        grid, _, _ = cute.arch.grid_dim()
        step = I32(0)
        while tile < total:
            expert, tile_n, row, rows = self.locate(tile, table)
            total_sum.fill(0.0)
            # A warpgroup whose 64 token rows are all padding only keeps the ring turning.
            busy = True if cutlass.const_expr(form.swapped) else rows > group * 64
            for k in cutlass.range(k_blocks, unroll=1):
                slot = maps.stage(step, form.stages)
                cute.arch.mbarrier_wait(full + slot, maps.full_parity(step, form.stages))
                if busy:
                    self.multiply(
                        mma, fx, fy, acc, total_sum, s_token, s_weight, b_scale, expert, tile_n, k, n_tiles, k_blocks,
                        slot, thread, empty + slot,
                    )  # fmt: skip
                else:
                    self.release(empty + slot)
                step += 1
            if cutlass.const_expr(form.swapped):
                self.store_swapped(total_sum, staging, out, out_scale, tile_n, row, rows, thread)
            elif cutlass.const_expr(form.fp8_out):
                self.store_fp8(total_sum, out, out_scale, tile_n, row, rows, thread)
            else:
                self.store_bf16(total_sum, out, tile_n, row, rows, thread)
            tile += grid

    @cute.jit
    def release(self, barrier: cute.Pointer):
        """Give a slot back to the loader: one arrival for each consumer warp."""
        with cute.arch.elect_one():
            cute.arch.mbarrier_arrive(barrier)

    @cute.jit
    def multiply(
        self,
        mma: cute.TiledMma,
        fx: cute.Tensor,
        fy: list[cute.Tensor],
        acc: cute.Tensor,
        total_sum: cute.Tensor,
        s_token: cute.Tensor,
        s_weight: cute.Tensor,
        b_scale: cute.Tensor,
        expert: cutlass.Int32,
        tile_n: cutlass.Int32,
        k: cutlass.Int32,
        n_tiles: cutlass.Int32,
        k_blocks: cutlass.Int32,
        slot: cutlass.Int32,
        thread: cutlass.Int32,
        barrier: cute.Pointer,
    ):
        """Add one K block of a tile to the float32 sums. All scale reads come before the slot is released."""
        form = self.form
        weight = []
        for j in cutlass.range_constexpr(form.n_blocks):
            index = maps.weight_scale_index(
                expert, tile_n * form.n_blocks + j, k, n_tiles * form.n_blocks, k_blocks
            )
            weight.append(s_weight[(slot * form.n_blocks + j) * 4 + maps.copy_offset(index)])
        token = self.token_scales(s_token, slot * form.tile_m, thread)
        for j in cutlass.range_constexpr(self.waves):
            warpgroup.fence()
            for kk in cutlass.range_constexpr(maps.BLOCK // maps.MMA_K):
                mma.set(warpgroup.Field.ACCUMULATE, kk > 0)
                cute.gemm(mma, acc, fx[None, None, kk, slot], fy[j][None, None, kk, slot], acc)
            warpgroup.commit_group()
            warpgroup.wait_group(0)
            if cutlass.const_expr(j == self.waves - 1):
                self.release(barrier)
            if cutlass.const_expr(form.swapped):
                for i in cutlass.range_constexpr(self.registers):
                    total_sum[i] = ptx.fma(acc[i], token[2 * (i // 4) + i % 2] * weight[0], total_sum[i])
            else:
                scale = [token[half] * weight[j] for half in range(2)]
                for i in cutlass.range_constexpr(self.registers):
                    n = j * self.registers + i
                    total_sum[n] = ptx.fma(acc[i], scale[i // 2 % 2], total_sum[n])

    def token_scales(self, s_token: cute.Tensor, base: Any, thread: Any) -> list[Any]:
        """Token scales that this thread's registers need: two rows (plain), or two columns of each 8 (swapped)."""
        if self.form.swapped:
            registers = [4 * b + j for b in range(self.registers // 4) for j in range(2)]
            return [s_token[base + maps.wgmma_column(thread, i)] for i in registers]
        return [s_token[base + maps.wgmma_row(thread, i)] for i in (0, 2)]

    # --- results --------------------------------------------------------------------------------------------------

    @cute.jit
    def store_bf16(
        self,
        total_sum: cute.Tensor,
        out: cute.Tensor,
        tile_n: cutlass.Int32,
        row: cutlass.Int32,
        rows: cutlass.Int32,
        thread: cutlass.Int32,
    ):
        """Write the thread's two rows, 16 bytes at a time."""
        quad_lane = thread % 4
        columns = cute.size(out, mode=[1])
        for half in cutlass.range_constexpr(2):
            r = maps.wgmma_row(thread, 2 * half)
            base = out.iterator.toint() + 2 * (cutlass.Int64(row + r) * columns + tile_n * self.form.tile_n)
            for g in cutlass.range_constexpr(self.form.tile_n // 32):
                blocks = [maps.bf16_word_block(g, w) for w in range(4)]
                pairs = [[total_sum[maps.wgmma_register(half, b, j)] for j in range(2)] for b in blocks]
                words = ptx.quad_transpose([ptx.pack_bf16(*pair) for pair in pairs], quad_lane)
                if r < rows:
                    ptx.store_global(base + 2 * maps.bf16_chunk_column(g, quad_lane), words)

    @cute.jit
    def store_fp8(
        self,
        total_sum: cute.Tensor,
        out: cute.Tensor,
        out_scale: cute.Tensor,
        tile_n: cutlass.Int32,
        row: cutlass.Int32,
        rows: cutlass.Int32,
        thread: cutlass.Int32,
    ):
        """Quantize each row and 128 columns with amax / 448, write values and scales."""
        quad_lane = thread % 4
        columns = cute.size(out, mode=[1])
        m_pad = cute.size(out_scale, mode=[1])
        for half in cutlass.range_constexpr(2):
            r = maps.wgmma_row(thread, 2 * half)
            base = out.iterator.toint() + cutlass.Int64(row + r) * columns + tile_n * self.form.tile_n
            for block in cutlass.range_constexpr(self.form.n_blocks):
                values = [total_sum[maps.wgmma_register(half, 16 * block + b, j)] for b in range(16) for j in range(2)]
                amax = ptx.abs_max(values)
                for distance in cutlass.range_constexpr(1, 3):
                    amax = cute.arch.fmax(amax, cute.arch.shuffle_sync_bfly(amax, offset=distance))
                scale, inverse = ptx.fp8_scale(amax)
                values = [v * inverse for v in values]
                if r < rows:
                    if quad_lane == 0:
                        index = maps.output_scale_index(cutlass.Int64(tile_n * self.form.n_blocks + block), row + r, m_pad)
                        ptx.store_global(out_scale.iterator.toint() + 4 * index, [scale])
                for g in cutlass.range_constexpr(2):
                    firsts = [2 * maps.fp8_word_block(g, w) for w in range(4)]
                    words = ptx.quad_transpose([ptx.pack_e4m3(*values[f : f + 4]) for f in firsts], quad_lane)
                    chunk = [ptx.take_halves(words[p], words[p + 1], high) for high in (False, True) for p in (0, 2)]
                    if r < rows:
                        ptx.store_global(base + 128 * block + maps.fp8_chunk_column(g, quad_lane), chunk)

    @cute.jit
    def store_swapped(
        self,
        total_sum: cute.Tensor,
        staging: cute.Tensor,
        out: cute.Tensor,
        out_scale: cute.Tensor,
        tile_n: cutlass.Int32,
        row: cutlass.Int32,
        rows: cutlass.Int32,
        thread: cutlass.Int32,
    ):
        """Turn the tile through shared memory: then each warp writes whole 128-column rows, one token at a time."""
        form = self.form
        cute.arch.barrier(barrier_id=BARRIER_CONSUMERS, number_of_threads=256)  # the last tile's rows have been read
        for i in cutlass.range_constexpr(self.registers):
            staging[maps.staging_index(maps.wgmma_column(thread, i), maps.wgmma_row(thread, i))] = total_sum[i]
        cute.arch.barrier(barrier_id=BARRIER_CONSUMERS, number_of_threads=256)
        lane = thread % 32
        columns = cute.size(out, mode=[1])
        token = thread // 32
        while token < cutlass.min(rows, form.tile_m):
            values = [staging[maps.staging_index(token, 4 * lane) + j] for j in range(4)]
            element = cutlass.Int64(row + token) * columns + tile_n * maps.BLOCK + 4 * lane
            if cutlass.const_expr(form.fp8_out):
                amax = ptx.abs_max(values)
                for bit in cutlass.range_constexpr(5):
                    amax = cute.arch.fmax(amax, cute.arch.shuffle_sync_bfly(amax, offset=1 << bit))
                scale, inverse = ptx.fp8_scale(amax)
                if lane == 0:
                    index = maps.output_scale_index(cutlass.Int64(tile_n), row + token, cute.size(out_scale, mode=[1]))
                    ptx.store_global(out_scale.iterator.toint() + 4 * index, [scale])
                word = ptx.pack_e4m3(*[v * inverse for v in values])
                ptx.store_global(out.iterator.toint() + element, [word])
            else:
                words = [ptx.pack_bf16(values[0], values[1]), ptx.pack_bf16(values[2], values[3])]
                ptx.store_global(out.iterator.toint() + 2 * element, words)
            token += CONSUMER_WARPS
