"""Grouped GEMMs of v4, the part that both chips share: launch, schedule, loader, ends. Device code.

GEMM1 multiplies tokens, gathered by its loads, with the up and the gate half of W1, applies SwiGLU to the float32 sums
and
writes e4m3 with one scale for each row and 128 columns. GEMM2 multiplies that with W2 and writes bfloat16.

A tile is 256 weight rows (GEMM1: 128 up, 128 gate of the same columns) by up to 128 token rows of one expert. How many
rows it has chooses how the tensor core takes it (`geometry.PATHS`), tile by tile: experts with 3, 40 and 500 rows can
stand in one call. All shapes share one ring, so one kernel serves every number of tokens and every routing.

Roles: warps 0-7 multiply and store; warps 8-11 load, token rows by `cp.async` in 16-byte pieces swizzled by hand,
weights
by TMA. A cluster's two blocks take two row tiles of the same weights, of which each loads half for both, or two
columns.
"""

# No "from __future__ import annotations" in CuTeDSL modules: Constexpr annotations are read as objects.

from typing import Any

import cutlass
import cutlass.cute as cute
from cutlass.cute.nvgpu import cpasync
from cutlass.memory import SmemAllocator

from . import geometry as geo
from .common import cute_maps as maps
from .common import cute_ptx as ptx
from .common.cute_tiles import E4M3, F32, I32, U32, Bundle

I64 = cutlass.Int64
SLOT_BYTES = 2 * geo.BLOCK * geo.BLOCK  # weights of one slot, which TMA announces
GATHERERS = 96  # threads that gather: three warps, beside the one that loads by TMA
ROUNDS = -(-geo.BLOCK * 8 // GATHERERS)  # 16-byte pieces of a K block that each of them copies
FEW = 16  # rows of a box where a tile has few
GROUPS = ("counters", "starts", "partial")


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


class LayerGemm:
    """One GEMM of the layer. Calling `launch` (inside `cute.compile`) records its launch.

    Args:
        gated: GEMM1, with gather, SwiGLU and e4m3; else GEMM2.
    """

    store_warps = 8
    accumulators = 0  # in tensor memory
    tmem_columns = 0
    empty_arrivals: int  # arrivals from one block that free a slot
    threads = 384
    consume: Any

    def __init__(self, gated: bool) -> None:
        self.gated = gated
        self.boxed = not gated
        self.name = "gemm1_swiglu" if gated else "gemm2"

    # --- launch -----------------------------------------------------------------------------------------------------

    @cute.jit
    def launch(self, a: Any, b: cute.Tensor, b_scale: cute.Tensor, out: Any, groups: Any, blocks: I32, stream: Any):
        """Record the launch.

        a: Bundle of data and scale addresses (Int64), scale_rows (distance of two K blocks' scales), index (address of
        the (E, T) token numbers) and index_rows (T). b: (E, N, K) e4m3. out: Bundle of data and scale addresses and
        scale_rows. groups: Bundle of the addresses counters, starts, partial.
        """
        layout = self.ring_layout(geo.STAGES * 2)
        weights = cute.make_tensor(b.iterator, cute.select(b.layout, mode=[1, 2, 0]))
        tile = (geo.BLOCK, geo.BLOCK)
        alone = cpasync.make_tiled_tma_atom(cpasync.CopyBulkTensorTileG2SOp(), weights, layout, tile)
        shared = cpasync.make_tiled_tma_atom(cpasync.CopyBulkTensorTileG2SMulticastOp(), weights, layout, tile)
        numbers = (a.data, a.scale, a.scale_rows, a.index, a.index_rows)
        results = (out.data, out.scale, out.scale_rows, groups.counters, groups.starts, groups.partial)
        sizes = (I32(cute.size(b, mode=[1])), I32(cute.size(b, mode=[2])))
        loads = [*list(alone)[:2], *list(shared)[:2]]
        if cutlass.const_expr(self.boxed):
            pointer = cute.make_ptr(E4M3, a.data, cute.AddressSpace.gmem, assumed_align=16)
            k = cute.size(b, mode=[2])
            rows = cute.make_tensor(pointer, cute.make_layout((a.scale_rows, k), stride=(k, 1)))
            for height in (geo.BLOCK, FEW):
                layout = self.ring_layout(geo.STAGES, height)
                made = cpasync.make_tiled_tma_atom(cpasync.CopyBulkTensorTileG2SOp(), rows, layout, (height, geo.BLOCK))
                loads += list(made)[:2]
        loads = tuple(loads)
        type(self).kernel.set_name_prefix(self.name, remove_cutlass_symbol=True, keep_mangled_name=False)
        self.kernel(loads, b_scale, numbers, results, sizes).launch(
            grid=[blocks, 1, 1],
            block=[self.threads, 1, 1],
            cluster=[geo.CLUSTER, 1, 1],
            min_blocks_per_mp=1,
            stream=stream,
            use_pdl=True,
        )

    @cute.kernel
    def kernel(
        self,
        loads: tuple[Any, ...],
        b_scale: cute.Tensor,
        numbers: tuple[Any, ...],
        results: tuple[Any, ...],
        sizes: tuple[Any, ...],
    ) -> None:
        thread, _, _ = cute.arch.thread_idx()
        warp = cute.arch.make_warp_uniform(cute.arch.warp_idx())
        smem, place = self.allocate()
        names = ("data", "scale", "scale_rows", "index", "index_rows", "out", "out_scale", "out_scale_rows")
        values = (*numbers, *results)
        problem = Bundle(**dict(zip((*names, *GROUPS), values, strict=True)), b_scale=b_scale)
        problem.n, problem.k = sizes
        problem.k_blocks = problem.k // geo.BLOCK
        problem.n_blocks = problem.n // geo.BLOCK
        problem.n_tiles = problem.n // (2 * geo.BLOCK)
        if warp == self.store_warps:
            for i in cutlass.range_constexpr(0, len(loads), 2):
                cpasync.prefetch_descriptor(loads[i])
            with cute.arch.elect_one():
                self.init_ring(place)
                cute.arch.mbarrier_init_fence()
        if cutlass.const_expr(self.gated):
            cute.arch.griddepcontrol_wait()  # the routing, which writes the counts and the zeros, has ended
        if warp == 0:
            self.build_schedule(problem, place.table)
        self.roles(loads, smem, place, problem, warp, thread)

    # --- shared memory ----------------------------------------------------------------------------------------------

    def ring_layout(self, tiles: int, height: int = geo.BLOCK) -> Any:
        """(height, 128, tiles) bytes, K-major: 128-byte rows, 128-byte swizzle."""
        atom = cute.make_composed_layout(cute.make_swizzle(3, 4, 3), 0, cute.make_layout((8, 128), stride=(128, 1)))
        return cute.tile_to_shape(atom, (height, geo.BLOCK, tiles), order=(0, 1, 2))

    def allocate(self) -> tuple[Any, Bundle]:
        """Shared memory of a block: the allocator, and the tensors and barriers in it. Slot s holds weight tiles 2 s,
        2 s + 1."""
        smem = SmemAllocator()
        weights, tokens = self.ring_layout(2 * geo.STAGES), self.ring_layout(geo.STAGES)
        pairs = dict.fromkeys(("done", "free"), self.accumulators) if self.accumulators else {}
        place = Bundle(
            weights=smem.allocate_tensor(E4M3, weights.outer, byte_alignment=1024, swizzle=weights.inner),
            tokens=smem.allocate_tensor(E4M3, tokens.outer, byte_alignment=1024, swizzle=tokens.inner),
            token=smem.allocate_tensor(F32, cute.make_layout(geo.BLOCK * geo.STAGES), byte_alignment=128),
            weight=smem.allocate_tensor(F32, cute.make_layout(8 * geo.STAGES), byte_alignment=16),
            staging=smem.allocate_tensor(F32, cute.make_layout(geo.STAGED * maps.STAGING_ROW), byte_alignment=16),
            table=smem.allocate_tensor(I32, cute.make_layout((geo.EXPERTS, 4)), byte_alignment=16),
            ticket=smem.allocate_array(I32, 1),
            full=smem.allocate_array(cutlass.Int64, geo.STAGES),
            empty=smem.allocate_array(cutlass.Int64, geo.STAGES),
            **{name: smem.allocate_array(cutlass.Int64, count) for name, count in pairs.items()},
        )
        few = self.ring_layout(geo.STAGES * (geo.BLOCK // FEW), FEW)
        place.few = cute.make_tensor(place.tokens.iterator, few.outer)
        return smem, place

    def init_ring(self, place: Bundle) -> None:
        """Initialise the barriers; one thread calls this. A slot is full when TMA and every gathering thread have
        arrived."""
        for s in range(geo.STAGES):
            cute.arch.mbarrier_init(place.full + s, 1 if self.boxed else 1 + GATHERERS)
            cute.arch.mbarrier_init(place.empty + s, self.empty_arrivals * geo.CLUSTER)
        for s in range(self.accumulators):
            cute.arch.mbarrier_init(place.done + s, 1)
            cute.arch.mbarrier_init(place.free + s, self.store_warps)

    @cute.jit
    def release(self, barrier: cute.Pointer) -> None:
        """Give a slot back to the loaders of both blocks, which may both write to it: one arrival for each warp."""
        with cute.arch.elect_one():
            for rank in cutlass.range_constexpr(geo.CLUSTER):
                cute.arch.mbarrier_arrive(barrier, rank)

    # --- schedule ---------------------------------------------------------------------------------------------------

    @cute.jit
    def build_schedule(self, problem: Bundle, table: cute.Tensor) -> None:
        """Fill table[e] = (jobs of experts 0..e, rows, first row, parts); lane e of the calling warp does expert e.

        Where no expert has more rows than the narrowest path and few tiles have work, each tile is `parts` jobs, one
        for each
        part of K.
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
        tiles_in_all = cute.arch.shuffle_sync(jobs, geo.EXPERTS - 1) * geo.CLUSTER
        blocks = I32(cute.arch.grid_dim()[0])
        many = I32(geo.parts(tiles_in_all, blocks, problem.k_blocks, choose))
        many = ptx.select(I32(ptx.warp_max(count)) <= geo.PATHS[0].rows, many, I32(1))
        table[lane, 0] = jobs * many
        table[lane, 1] = count
        table[lane, 3] = many
        start = rows - tiles * geo.BLOCK
        table[lane, 2] = start
        if cutlass.const_expr(self.gated):
            self.write_start(problem, lane, start)

    @cute.jit
    def write_start(self, problem: Bundle, lane: I32, start: I32) -> None:
        """GEMM1's first block leaves each expert's first row for the combine."""
        if cute.arch.block_idx()[0] == 0:
            ptx.store_global(problem.starts + I64(4) * I64(lane), [start])

    @cute.jit
    def locate(self, job: I32, place: Bundle, problem: Bundle) -> Bundle:
        """This block's tile of a job; every lane of the warp takes part.

        Returns the tile: expert, n (column tile), first (its first row within the expert), row (in the grouped matrix),
        rows (true ones, at most 128), share_weights, whether the cluster's two blocks multiply the same weights, part
        of
        parts, start and steps (K blocks), and number, which counts tiles.
        """
        table = place.table
        lane = cute.arch.lane_idx()
        expert = cute.arch.popc(cute.arch.vote_ballot_sync(table[lane, 0] <= job))
        local = job
        if expert > 0:
            local = job - table[expert - 1, 0]
        parts = table[0, 3]
        part = local % parts
        local = local // parts
        count = table[expert, 1]
        tiles_m = maps.row_tiles(count, geo.BLOCK)
        rank = cute.arch.block_idx_in_cluster()
        tile_m = tiles_m - 1
        tile_n = maps.lone_column_tile(local, tiles_m, problem.n_tiles, rank)
        share_weights = local < maps.row_pair_jobs(tiles_m, problem.n_tiles)
        if share_weights:
            tile_m = maps.paired_row_tile(local, tiles_m, rank)
            tile_n = maps.paired_column_tile(local, tiles_m)
        first = tile_m * geo.BLOCK
        rows = cutlass.min(count - first, I32(geo.BLOCK))
        row = table[expert, 2] + first
        start = geo.part_start(part, parts, problem.k_blocks)
        return Bundle(
            expert=expert, n=tile_n, first=first, row=row, rows=rows, share_weights=share_weights,
            most=path_rows(rows), part=part, parts=parts, start=start, steps=geo.part_start(part + 1, parts,
            problem.k_blocks) - start,
            number=job // parts * geo.CLUSTER + rank,
        )  # fmt: skip

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
        ends;
        its rows wait. Its schedule needs no wait: GEMM1 lets it start only after it has waited for the routing.
        """
        boxes = self.boxes(loads, place)
        total = place.table[geo.EXPERTS - 1, 0]
        job = self.first_job()
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
        cute.arch.griddepcontrol_launch_dependents()
        # The partner's last arrivals at this block's barriers come before either block leaves.
        for _ in cutlass.range(geo.STAGES, unroll=1):
            slot = I32(maps.stage(step, geo.STAGES))
            cute.arch.mbarrier_wait(place.empty + slot, maps.empty_parity(step, geo.STAGES))
            step += 1

    @cute.jit
    def gather(self, place: Bundle, problem: Bundle, mine: I32) -> None:
        """The three gathering warps of GEMM1: token rows and scales, tile by tile."""
        total = place.table[geo.EXPERTS - 1, 0]
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
                cute.copy(atom, source[box], to[None, 2 * slot + j], tma_bar_ptr=bar)

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
            row = mine // 8 + (GATHERERS // 8) * i
            there = row < tile.rows
            offsets[i] = U32(self.token_of(tile, ptx.select(there, row, I32(0)), problem)) * U32(problem.k)
            used[i] = ptx.select(there, I32(16), I32(0))
        scales = [self.token_of(tile, ptx.select(r < tile.rows, r, I32(0)), problem) for r in (mine, mine + GATHERERS)]
        return Bundle(
            offsets=offsets, used=used, data=problem.data + I64(mine % 8 * 16),
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
            row = mine // 8 + (GATHERERS // 8) * i
            if row < tile.most:
                piece = (mine % 8) ^ (row % 8)  # the 128-byte swizzle
                ptx.copy_async(ring + row * geo.BLOCK + piece * 16, data + I64(source.offsets[i]), 16, source.used[i])
        distance = I64(k) * I64(problem.scale_rows) * I64(4)
        token = (place.token.iterator + slot * geo.BLOCK + mine).toint()
        ptx.copy_async(token, source.scales[0] + distance, 4, source.scales_used[0])
        if mine < geo.BLOCK - GATHERERS:
            ptx.copy_async(token + 4 * GATHERERS, source.scales[1] + distance, 4, source.scales_used[1])
        ptx.copies_arrive((place.full + slot).toint())

    # --- results ----------------------------------------------------------------------------------------------------

    def sync_store_warps(self) -> None:
        """Wait for all warps that hold results."""
        cute.arch.barrier(barrier_id=1, number_of_threads=32 * self.store_warps)

    @cute.jit
    def gather_parts(
        self, sums: cute.Tensor, place: Bundle, problem: Bundle, tile: Bundle, thread: I32
    ) -> cutlass.Boolean:
        """Put a part's sums aside; whoever comes last adds up all parts in their order and returns true.

        Nobody waits for anybody. The order of the sum does not depend on who comes when.
        """
        count = cute.size(sums)
        base = problem.partial + I64(4) * (
            I64(tile.number) * I64(tile.parts) * I64(geo.PARTIAL_FLOATS) + I64(thread * count)
        )
        mine = base + I64(4 * geo.PARTIAL_FLOATS) * I64(tile.part)
        for i in cutlass.range_constexpr(0, count, 4):
            ptx.store_global(mine + I64(4 * i), [sums[i + j] for j in range(4)])
        cute.arch.fence_acq_rel_gpu()
        holder = place.ticket
        self.sync_store_warps()
        if thread == 0:
            at = problem.counters + I64(geo.TICKETS) + I64(4) * I64(tile.number)
            ticket = I32(ptx.take_ticket(at))
            if ticket == tile.parts - 1:
                ptx.store_global(at, [I32(0)])
            holder[0] = ticket
        self.sync_store_warps()
        last = holder[0] == tile.parts - 1
        if last:
            cute.arch.fence_acq_rel_gpu()
            sums.fill(0.0)
            for pair in cutlass.range(tile.parts // 2, unroll=1):
                self.add_two_parts(sums, base + I64(8 * geo.PARTIAL_FLOATS) * I64(pair))
        return last

    def add_two_parts(self, sums: cute.Tensor, first: Any) -> None:
        """Add the sums of two parts, which are on their way together."""
        count, found = cute.size(sums), []
        for part in range(2):
            at = first + I64(4 * geo.PARTIAL_FLOATS * part)
            found.append([v for i in range(0, count, 4) for v in ptx.load_global(at + I64(4 * i), 4, F32)])
        for i in range(count):
            sums[i] = sums[i] + found[0][i] + found[1][i]

    def gate(self, up: Any, gate: Any) -> Any:
        """silu(gate) * up in float32."""
        return up * (gate * ptx.reciprocal(F32(1.0) + ptx.power_of_two(gate * F32(-1.4426950408889634))))

    @cute.jit
    def write_staged(self, place: Bundle, problem: Bundle, tile: Bundle, column: Any, first: int, thread: I32) -> None:
        """Write rows `first` and on of a tile from the staging buffer: each warp whole rows of 128 columns, 4 a lane.

        column: first output column.
        """
        lane = thread % 32
        token = thread // 32
        while token < cutlass.min(tile.rows - first, I32(geo.STAGED)):
            values = [place.staging[maps.staging_index(token, maps.staged_column(lane)) + j] for j in range(4)]
            row = tile.row + first + token
            if cutlass.const_expr(self.gated):
                amax = ptx.abs_max(values)
                for bit in cutlass.range_constexpr(5):
                    amax = cute.arch.fmax(amax, cute.arch.shuffle_sync_bfly(amax, offset=1 << bit))
                scale, inverse = ptx.fp8_scale(amax)
                if lane == 0:
                    self.write_scale(problem, tile.n, row, scale)
                word = ptx.pack_e4m3(*[v * inverse for v in values])
                at = problem.out + I64(row) * I64(problem.n // 2) + I64(column + 4 * lane)
                ptx.store_global(at, [word])
            else:
                words = [ptx.pack_bf16(values[0], values[1]), ptx.pack_bf16(values[2], values[3])]
                at = problem.out + I64(2) * (I64(row) * I64(problem.n) + I64(column + 4 * lane))
                ptx.store_global(at, words)
            token += self.store_warps

    def write_scale(self, problem: Bundle, n_block: Any, row: Any, scale: Any) -> None:
        """Write one scale of GEMM1's result."""
        index = I64(n_block) * I64(problem.out_scale_rows) + I64(row)
        ptx.store_global(problem.out_scale + I64(4) * index, [scale])
