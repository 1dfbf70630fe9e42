"""Schedule and loads of v4's GEMMs, the same on both chips. Device code.

`Loads` is the part of `gemm.LayerGemm` that finds a block's tiles and fills the ring: one warp by TMA, weights always
and in GEMM2 rows too; three warps gather GEMM1's rows by `cp.async`, 16 bytes at a time, swizzled by hand.
"""

# No "from __future__ import annotations" in CuTeDSL modules: Constexpr annotations are read as objects.

from typing import Any

import cutlass
import cutlass.cute as cute
from cutlass.cute.nvgpu import cpasync

from . import geometry as geo
from .common import cute_maps as maps
from .common import cute_ptx as ptx
from .common.cute_tiles import I32, U32, Bundle

I64 = cutlass.Int64
SLOT_BYTES = 2 * geo.BLOCK * geo.BLOCK  # weights of one slot, which TMA announces
GATHERERS = 96  # threads that gather: three warps, beside the one that loads by TMA
ROUNDS = -(-geo.BLOCK * 8 // GATHERERS)  # 16-byte pieces of a K block that each of them copies
EVICT_NORMAL, EVICT_FIRST = 0x1000000000000000, 0x12F0000000000000  # hints of a TMA copy to the L2 cache
FEW = 16  # rows of a box where a tile has few


def choose(condition: Any, yes: Any, no: Any) -> Any:
    """yes where the condition holds, else no: int32."""
    return ptx.select(cutlass.Boolean(condition), I32(yes), I32(no))


def path_rows(rows: Any) -> Any:
    """Rows that a tile's path multiplies."""
    most = I32(geo.BLOCK)
    for path in reversed(geo.PATHS[:-1]):
        most = ptx.select(rows <= path.rows, I32(path.rows), most)
    return most


def row_bytes(rows: Any) -> Any:
    """Bytes of the boxes that hold a tile's rows of one K block."""
    few = (rows + (FEW - 1)) // FEW * (FEW * geo.BLOCK)
    return ptx.select(rows > geo.PATHS[2].rows, I32(geo.BLOCK * geo.BLOCK), few)


class Loads:
    """Finds tiles and loads them. `gated`: GEMM1, with gather; `boxed`: rows come by TMA; `together`: where tiles are
    split along K, a cluster's two blocks take parts of one tile."""

    gated: bool
    boxed: bool
    together: bool
    store_warps: int

    # --- schedule ---------------------------------------------------------------------------------------------------

    @cute.jit
    def build_schedule(self, problem: Bundle, table: cute.Tensor) -> None:
        """Fill table[e] = (jobs of experts 0..e, rows, first row, *), where * is for e = 0, 1 and 2 the parts of a job
        of the last round, the jobs before that round, and all jobs, parts counted; lane e of the calling warp does
        expert e.

        The last round is split along K where no expert has more rows than the narrowest path and clusters would be
        idle.
        """
        lane = cute.arch.lane_idx()
        count = I32(ptx.load_relaxed(problem.counters + I64(4 * geo.COUNTER_INTS) * I64(lane)))
        tiles = maps.row_tiles(count, geo.BLOCK)
        jobs = maps.jobs(tiles, problem.n_tiles, geo.CLUSTER)
        rows = tiles * geo.BLOCK
        for bit in cutlass.range_constexpr(5):
            below = cute.arch.shuffle_sync_up(jobs, 1 << bit, mask_and_clamp=0)
            rows_below = cute.arch.shuffle_sync_up(rows, 1 << bit, mask_and_clamp=0)
            jobs += ptx.select(lane >= (1 << bit), below, I32(0))
            rows += ptx.select(lane >= (1 << bit), rows_below, I32(0))
        whole_jobs = cute.arch.shuffle_sync(jobs, geo.EXPERTS - 1)
        most = I32(ptx.warp_max(count))
        before, many = geo.last_round(whole_jobs, self.clusters(), problem.k_blocks, most, choose, self.together)
        table[lane, 0] = jobs
        table[lane, 1] = count
        table[lane, 3] = ptx.select(
            lane == 0, many, ptx.select(lane == 1, before, before + (whole_jobs - before) * many)
        )
        start = rows - tiles * geo.BLOCK
        table[lane, 2] = start
        left = I32(1) if self.together else ptx.select(before == 0, many, I32(1))
        self.write_plan(problem, lane, start, left)

    @cute.jit
    def write_plan(self, problem: Bundle, lane: I32, start: I32, many: I32) -> None:
        """For the combine, GEMM1's first block leaves each expert's first row, GEMM2's the parts that it has to add."""
        if cute.arch.block_idx()[0] == 0:
            if cutlass.const_expr(self.gated):
                ptx.store_global(problem.starts + I64(4) * I64(lane), [start])
            elif lane == 0:
                ptx.store_global(problem.starts + I64(4 * geo.EXPERTS), [many])

    @cute.jit
    def locate(self, job: I32, place: Bundle, problem: Bundle) -> Bundle:
        """This block's tile of a job; every lane of the warp takes part.

        Returns the tile: expert, n (column tile), first (its first row within the expert), row (in the grouped matrix),
        rows (true ones, at most 128), share_weights, whether the cluster's two blocks multiply the same weights, start
        and steps (K blocks), meets, whether the cluster's blocks have parts of it, part of parts, those that meet in
        global memory, number, which counts the last round's tiles, and loose, the parts whose sum GEMM2 leaves to the
        combine: all, where the last round is the only one.
        """
        table = place.table
        lane = cute.arch.lane_idx()
        before = table[1, 3]
        whole, part, parts = geo.split_job(job, before, table[0, 3], choose)
        expert = cute.arch.popc(cute.arch.vote_ballot_sync(table[lane, 0] <= whole))
        local = whole
        if expert > 0:
            local = whole - table[expert - 1, 0]
        count = table[expert, 1]
        tiles_m = maps.row_tiles(count, geo.BLOCK)
        rank = cute.arch.block_idx_in_cluster()
        piece, pieces, meets = part, parts, cutlass.Boolean(False)
        if cutlass.const_expr(self.together):
            meets = cutlass.Boolean(parts > 1)
            piece, rank, part, parts = geo.pair_parts(part, parts, rank, choose)
        tile_m = tiles_m - 1
        tile_n = maps.lone_column_tile(local, tiles_m, problem.n_tiles, rank)
        share_weights = local < maps.row_pair_jobs(tiles_m, problem.n_tiles)
        if share_weights:
            tile_m = maps.paired_row_tile(local, tiles_m, rank)
            tile_n = maps.paired_column_tile(local, tiles_m)
        first = tile_m * geo.BLOCK
        rows = cutlass.min(count - first, I32(geo.BLOCK))
        row = table[expert, 2] + first
        start = geo.part_start(piece, pieces, problem.k_blocks)
        return Bundle(
            expert=expert, n=tile_n, first=first, row=row, rows=rows, share_weights=share_weights,
            most=path_rows(rows), part=part, parts=parts, meets=meets, start=start, steps=geo.part_start(piece + 1,
            pieces, problem.k_blocks) - start, number=(whole - before) * geo.CLUSTER + rank,
            loose=I32(1) if self.together else ptx.select(before == 0, parts, I32(1)),
        )  # fmt: skip

    def all_jobs(self, place: Bundle) -> Any:
        """Jobs of the call, parts counted."""
        return place.table[2, 3]

    def first_job(self) -> Any:
        """Job that this block's cluster starts with."""
        return cute.arch.block_idx()[0] // geo.CLUSTER

    def clusters(self) -> Any:
        """Clusters of the grid: the distance between a cluster's jobs."""
        return cute.arch.grid_dim()[0] // geo.CLUSTER

    def weight_block(self, tile: Bundle, j: Any, problem: Bundle) -> Any:
        """128-row block of the weights that is the tile's j-th: gate rows follow all up rows."""
        return tile.n + j * (problem.n_blocks // 2) if self.gated else 2 * tile.n + j

    def scale_index(self, tile: Bundle, j: int, k: Any, problem: Bundle) -> Any:
        """Flat index of the weight scale of the tile's j-th block and K block k."""
        block = self.weight_block(tile, j, problem)
        return maps.weight_scale_index(tile.expert, block, k, problem.n_blocks, problem.k_blocks)

    # --- loads ------------------------------------------------------------------------------------------------------

    @cute.jit
    def load(self, loads: tuple[Any, ...], place: Bundle, problem: Bundle) -> None:
        """The warp that loads by TMA: fill the ring with weights, and in GEMM2 with rows and scales, tile by tile.

        It runs ahead of the gathering warps: what it asks for first comes from no kernel. GEMM2 starts while GEMM1
        ends; its rows wait. Its schedule needs no wait: GEMM1 lets it start only after it has waited for the routing.
        """
        boxes = self.boxes(loads, place)
        total = self.all_jobs(place)
        job = self.first_job()
        # With several rounds GEMM2 comes at once, to find each processor that has no tile of GEMM1 any more. Within one
        # round its weights would only get in the way of GEMM1's.
        early = cutlass.Boolean(False)
        if cutlass.const_expr(self.gated):
            early = total > self.clusters()
            if early:
                cute.arch.griddepcontrol_launch_dependents()
        ahead = U32(0)
        if cutlass.const_expr(self.boxed):
            if job < total:
                tile = self.locate(job, place, problem)
                ahead = U32(cutlass.min(tile.steps, I32(geo.STAGES)))
                for k in cutlass.range(I32(ahead), unroll=1):
                    self.load_weights(boxes, tile, tile.start + k, I32(k), place, problem)
            cute.arch.griddepcontrol_wait()
        step = U32(0)
        while job < total:
            tile = self.locate(job, place, problem)
            for i in cutlass.range(tile.steps, unroll=1):
                slot = I32(maps.stage(step, geo.STAGES))
                if step >= ahead:
                    cute.arch.mbarrier_wait(place.empty + slot, maps.empty_parity(step, geo.STAGES))
                    self.load_weights(boxes, tile, tile.start + i, slot, place, problem)
                if cutlass.const_expr(self.boxed):
                    self.load_rows(boxes, tile, tile.start + i, slot, place, problem)
                step += 1
            job += self.clusters()
        if not early:
            cute.arch.griddepcontrol_launch_dependents()
        # The partner's last arrivals at this block's barriers come before either block leaves.
        for _ in cutlass.range(geo.STAGES, unroll=1):
            slot = I32(maps.stage(step, geo.STAGES))
            cute.arch.mbarrier_wait(place.empty + slot, maps.empty_parity(step, geo.STAGES))
            step += 1

    @cute.jit
    def gather(self, place: Bundle, problem: Bundle, mine: I32) -> None:
        """The three gathering warps of GEMM1: token rows and scales, tile by tile."""
        total = self.all_jobs(place)
        job = self.first_job()
        step = U32(0)
        while job < total:
            tile = self.locate(job, place, problem)
            source = self.sources(tile, problem, mine)
            for i in cutlass.range(tile.steps, unroll=1):
                slot = I32(maps.stage(step, geo.STAGES))
                cute.arch.mbarrier_wait(place.empty + slot, maps.empty_parity(step, geo.STAGES))
                self.load_tokens(source, tile, tile.start + i, slot, place, problem, mine)
                step += 1
            job += self.clusters()

    def boxes(self, loads: tuple[Any, ...], place: Bundle) -> Bundle:
        """TMA copies: atom, places in the ring, boxes. Weights to this block alone and to both; rows by 128 and by
        16."""
        names, made = ("alone", "both", "rows", "few"), {}
        for i, name in enumerate(names[: len(loads) // 2]):
            atom, tensor = loads[2 * i : 2 * i + 2]
            height = FEW if name == "few" else geo.BLOCK
            tiles = cute.local_tile(tensor, (height, geo.BLOCK), (None,) * cute.rank(tensor))
            ring = place.weights if i < 2 else place.tokens
            if name == "few":
                ring = place.few
            shared, tiles = cute.group_modes(ring, 0, 2), cute.group_modes(tiles, 0, 2)
            made[name] = (atom, *cpasync.tma_partition(atom, 0, cute.make_layout(1), shared, tiles))
        return Bundle(**made)

    @cute.jit
    def load_weights(self, boxes: Bundle, tile: Bundle, k: Any, slot: Any, place: Bundle, problem: Bundle) -> None:
        """Start the copies of one K block's weights; in a shared tile each block loads one half for both."""
        bar = place.full + slot
        size = I32(SLOT_BYTES + 32)
        if cutlass.const_expr(self.boxed):
            size += 4 * geo.BLOCK + row_bytes(tile.rows)
        with cute.arch.elect_one():
            cute.arch.mbarrier_arrive_and_expect_tx(bar, size)
            for j in range(2):
                index = maps.copy_start(U32(self.scale_index(tile, j, k, problem)))
                target = place.weight.iterator + (2 * slot + j) * 4
                ptx.bulk_copy(target.toint(), (problem.b_scale.iterator + index).toint(), 16, bar.toint())
        if tile.share_weights:
            atom, to, source = boxes.both
            rank = cute.arch.block_idx_in_cluster()
            box = (None, self.weight_block(tile, rank, problem), k, tile.expert)
            everyone = cutlass.Int16((1 << geo.CLUSTER) - 1)
            cute.copy(atom, source[box], to[None, 2 * slot + rank], tma_bar_ptr=bar, mcast_mask=everyone)
        else:
            atom, to, source = boxes.alone
            for j in cutlass.range_constexpr(2):
                box = (None, self.weight_block(tile, j, problem), k, tile.expert)
                cute.copy(atom, source[box], to[None, 2 * slot + j], tma_bar_ptr=bar, cache_policy=self.hint(place))

    def hint(self, place: Bundle) -> Any:
        """Where all tiles are split, the few weights that the call reads need not push out what the cache holds."""
        few = cutlass.Boolean(place.table[0, 3] > 1) & cutlass.Boolean(place.table[1, 3] == 0)
        return ptx.select(few, I64(EVICT_FIRST), I64(EVICT_NORMAL))

    @cute.jit
    def load_rows(self, boxes: Bundle, tile: Bundle, k: Any, slot: Any, place: Bundle, problem: Bundle) -> None:
        """GEMM2: start the copies of one K block's rows and their scales, which lie together."""
        bar = place.full + slot
        with cute.arch.elect_one():
            source = problem.scale + I64(4) * (I64(k) * I64(problem.scale_rows) + I64(tile.row))
            target = place.token.iterator + slot * geo.BLOCK
            ptx.bulk_copy(target.toint(), source, 4 * geo.BLOCK, bar.toint())
        if tile.rows > geo.PATHS[2].rows:
            atom, to, boxed = boxes.rows
            cute.copy(atom, boxed[None, tile.row // geo.BLOCK, k], to[None, slot], tma_bar_ptr=bar)
        else:
            atom, to, boxed = boxes.few
            for i in cutlass.range((tile.rows + (FEW - 1)) // FEW, unroll=1):
                box = (None, tile.row // FEW + i, k)
                cute.copy(atom, boxed[box], to[None, (geo.BLOCK // FEW) * slot + i], tma_bar_ptr=bar)

    @cute.jit
    def sources(self, tile: Bundle, problem: Bundle, mine: I32) -> Bundle:
        """Where a gathering thread finds its pieces of a tile.

        Thread t copies 16-byte piece t % 8 of rows t // 8 + 12 i, and the scales of rows t and t + 96. Offsets of rows
        are
        unsigned 32-bit; a row that the tile does not have is copied as zeros.
        """
        offsets = cute.make_rmem_tensor(cute.make_layout(ROUNDS), U32)
        used = cute.make_rmem_tensor(cute.make_layout(ROUNDS), I32)
        for i in cutlass.range_constexpr(ROUNDS):
            row = geo.gathered_row(mine, i, GATHERERS)
            there = row < tile.rows
            offsets[i] = U32(self.token_of(tile, ptx.select(there, row, I32(0)), problem)) * U32(problem.k)
            used[i] = ptx.select(there, I32(16), I32(0))
        scales = [self.token_of(tile, ptx.select(r < tile.rows, r, I32(0)), problem) for r in (mine, mine + GATHERERS)]
        return Bundle(
            offsets=offsets, used=used, data=problem.data + I64(geo.gathered_piece(mine) * 16),
            scales=[problem.scale + I64(4) * I64(token) for token in scales],
            scales_used=[ptx.select(r < tile.rows, I32(4), I32(0)) for r in (mine, mine + GATHERERS)],
        )  # fmt: skip

    def token_of(self, tile: Bundle, row: Any, problem: Bundle) -> Any:
        """Token whose row is the tile's `row`."""
        at = I64(tile.expert) * I64(problem.index_rows) + I64(tile.first + row)
        return I32(ptx.load_relaxed(problem.index + I64(4) * at))

    @cute.jit
    def load_tokens(
        self, source: Bundle, tile: Bundle, k: Any, slot: Any, place: Bundle, problem: Bundle, mine: I32
    ) -> None:
        """GEMM1: start the copies of one K block's token rows and scales; the slot counts them when they are done."""
        ring = (place.tokens.iterator + slot * (geo.BLOCK * geo.BLOCK)).toint()
        data = source.data + I64(k) * I64(geo.BLOCK)
        for i in cutlass.range_constexpr(ROUNDS):
            row = geo.gathered_row(mine, i, GATHERERS)
            if row < tile.most:
                to = ring + geo.piece_place(row, geo.gathered_piece(mine))
                ptx.copy_async(to, data + I64(source.offsets[i]), 16, source.used[i])
        distance = I64(k) * I64(problem.scale_rows) * I64(4)
        token = (place.token.iterator + slot * geo.BLOCK + mine).toint()
        ptx.copy_async(token, source.scales[0] + distance, 4, source.scales_used[0])
        if mine < geo.BLOCK - GATHERERS:
            ptx.copy_async(token + 4 * GATHERERS, source.scales[1] + distance, 4, source.scales_used[1])
        ptx.copies_arrive((place.full + slot).toint())
