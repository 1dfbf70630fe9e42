"""What the grouped GEMMs of both chips share: operands, ring, schedule, loader, and the row-wise result writer.

Device code. `GroupedGemmBase` is the common part of a kernel class; the chip's own part (products, accumulators) stands
in cute_sm90 and cute_sm100. Letters and index maps: cute_maps.
"""

# No "from __future__ import annotations" in CuTeDSL modules: Constexpr annotations are read as objects.

from typing import TYPE_CHECKING, Any, TypeAlias

import cutlass
import cutlass.cute as cute
from cutlass.cute.nvgpu import cpasync
from cutlass.memory import SmemAllocator

from . import cute_maps as maps
from . import cute_ptx as ptx

E4M3 = cutlass.Float8E4M3FN
F32 = cutlass.Float32
I32: TypeAlias = cutlass.Int32
U32: TypeAlias = cutlass.Uint32


class Bundle:
    """Named DSL values that travel together through device functions."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


class GroupedGemmBase:
    """Common part of the kernels.

    Args:
        form: tile, ring depth, cluster and output type.
    """

    threads: int  # threads of a block
    store_warps: int  # warps that hold results, the first ones: they write them; the next one loads
    accumulators = 0  # in tensor memory
    store_barrier = 1  # named barrier of those warps
    empty_arrivals: int  # arrivals from one block that free a slot of the ring
    # What the chip's class adds: the matrix instruction; the warps' roles, once tables and barriers are on their way;
    # and how a thread's sums of a swapped tile go to the staging buffer.
    tiled_mma: Any
    roles: Any
    stage_sums: Any

    def __init__(self, form: maps.Form) -> None:
        self.form = form

    # --- launch ---------------------------------------------------------------------------------------------------

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
        blocks: I32,
        stream: Any,
    ) -> None:
        layouts = self.operand_layouts()
        loads = self.operand_loads(a, b, *layouts)
        tensors = (a_scale, b_scale, out, out_scale, m_indptr, m_count)
        self.kernel(loads, layouts, self.tiled_mma(), tensors, cute.size(a, mode=[1])).launch(
            grid=[blocks, 1, 1],
            block=[self.threads, 1, 1],
            cluster=[self.form.cluster, 1, 1],
            min_blocks_per_mp=1,
            stream=stream,
            use_pdl=self.form.overlap,
        )

    @cute.kernel
    def kernel(
        self,
        loads: tuple[Any, ...],
        layouts: tuple[cute.ComposedLayout, cute.ComposedLayout],
        mma: cute.TiledMma,
        tensors: tuple[cute.Tensor, ...],
        k: I32,
    ) -> None:
        thread, _, _ = cute.arch.thread_idx()
        warp = cute.arch.make_warp_uniform(cute.arch.warp_idx())
        smem, place = self.allocate(*layouts)
        problem = self.problem(tensors, k)
        if warp == 0:
            self.build_schedule(problem, place.table)
        if warp == self.store_warps:
            self.prefetch(loads)
            with cute.arch.elect_one():
                self.init_ring(place)
                cute.arch.mbarrier_init_fence()
        self.roles(mma, loads, smem, place, problem, warp, thread)
        if cutlass.const_expr(self.form.cluster > 1):
            # A block must not leave while its partner may still write to its memory: release, not relaxed, so that
            # every
            # signal to the partner is there before.
            cute.arch.cluster_arrive()
            cute.arch.cluster_wait()

    def problem(self, tensors: Any, k: Any) -> Bundle:
        """The kernel's tensors by name, and the numbers of column tiles and K blocks."""
        names = ("a_scale", "b_scale", "out", "out_scale", "m_indptr", "m_count")
        named = dict(zip(names, tensors, strict=True))
        n_tiles = cute.size(named["out"], mode=[1]) // self.form.tile_n
        return Bundle(**named, n_tiles=n_tiles, k_blocks=k // maps.BLOCK)

    # --- operands -------------------------------------------------------------------------------------------------

    def operand_layouts(self) -> tuple[Any, Any]:
        """Shared-memory layouts of the X and Y rings (rows, 128, stages): 128-byte rows, 128-byte swizzle."""
        atom = cute.make_composed_layout(cute.make_swizzle(3, 4, 3), 0, cute.make_layout((8, 128), stride=(128, 1)))
        shapes = [(rows, maps.BLOCK, self.form.stages) for rows in (maps.BLOCK, self.form.tile_y)]
        return tuple(cute.tile_to_shape(atom, shape, order=(0, 1, 2)) for shape in shapes)

    def operand_loads(self, a: Any, b: Any, x_layout: Any, y_layout: Any) -> tuple[Any, ...]:
        """TMA atoms and tensors: X, Y, and both again for the half tiles that a cluster's blocks send each other.

        a: (M, K) bytes; b: (E, N, K) bytes. Weights become (N, K, E).
        """
        form = self.form
        tokens = cute.make_tensor(cute.recast_ptr(a.iterator, dtype=E4M3), a.layout)
        weights = cute.make_tensor(cute.recast_ptr(b.iterator, dtype=E4M3), cute.select(b.layout, mode=[1, 2, 0]))
        x, y = (weights, tokens) if form.swapped else (tokens, weights)
        alone = (cpasync.CopyBulkTensorTileG2SOp(), 1)
        shared = (cpasync.CopyBulkTensorTileG2SMulticastOp(), form.cluster) if form.cluster > 1 else alone
        loads: list[Any] = []
        for op, parts in (alone, shared):
            loads += list(cpasync.make_tiled_tma_atom(op, x, x_layout, (maps.BLOCK, maps.BLOCK), parts))[:2]
            loads += list(cpasync.make_tiled_tma_atom(op, y, y_layout, (form.tile_y, maps.BLOCK), parts))[:2]
        return tuple(loads)

    def allocate(self, x_layout: Any, y_layout: Any) -> tuple[Any, Bundle]:
        """Shared memory of a block: the allocator, and the tensors and barriers in it.

        Accumulators in tensor memory have barriers of their own: done and free.
        """
        form = self.form
        smem = SmemAllocator()
        pairs = dict.fromkeys(("done", "free"), self.accumulators) if self.accumulators else {}
        place = Bundle(
            x=smem.allocate_tensor(E4M3, x_layout.outer, byte_alignment=1024, swizzle=x_layout.inner),
            y=smem.allocate_tensor(E4M3, y_layout.outer, byte_alignment=1024, swizzle=y_layout.inner),
            token=smem.allocate_tensor(F32, cute.make_layout(form.tile_m * form.stages), byte_alignment=128),
            weight=smem.allocate_tensor(F32, cute.make_layout(4 * form.n_blocks * form.stages), byte_alignment=16),
            staging=smem.allocate_tensor(F32, cute.make_layout(maps.staging_floats(form)), byte_alignment=16),
            table=smem.allocate_tensor(I32, cute.make_layout((maps.MAX_EXPERTS, 3)), byte_alignment=16),
            full=smem.allocate_array(cutlass.Int64, form.stages),
            empty=smem.allocate_array(cutlass.Int64, form.stages),
            **{name: smem.allocate_array(cutlass.Int64, count) for name, count in pairs.items()},
        )
        return smem, place

    def init_ring(self, place: Bundle) -> None:
        """Initialise the barriers of the ring and of the accumulators; one thread calls this."""
        for s in range(self.form.stages):
            cute.arch.mbarrier_init(place.full + s, 1)
            cute.arch.mbarrier_init(place.empty + s, self.empty_arrivals * self.form.cluster)
        for s in range(self.accumulators):
            cute.arch.mbarrier_init(place.done + s, 1)
            cute.arch.mbarrier_init(place.free + s, self.store_warps)

    @cute.jit
    def release(self, barrier: cute.Pointer) -> None:
        """Give a slot back to the loaders of the cluster, which all write to it: one arrival for each warp."""
        with cute.arch.elect_one():
            self.arrive(barrier)

    @cute.jit
    def arrive(self, barrier: cute.Pointer) -> None:
        """One arrival at the barrier of every block of the cluster."""
        if cutlass.const_expr(self.form.cluster == 1):
            cute.arch.mbarrier_arrive(barrier)
        else:
            for rank in cutlass.range_constexpr(self.form.cluster):
                cute.arch.mbarrier_arrive(barrier, rank)

    @cute.jit
    def sync_cluster(self) -> None:
        if cutlass.const_expr(self.form.cluster > 1):
            cute.arch.cluster_arrive_relaxed()
            cute.arch.cluster_wait()

    # --- schedule -------------------------------------------------------------------------------------------------

    @cute.jit
    def build_schedule(self, problem: Bundle, table: cute.Tensor) -> None:
        """Fill table[e] = (jobs of experts 0..e, rows, first row); lane e of the calling warp does expert e."""
        lane = cute.arch.lane_idx()
        count = I32(0)
        start = I32(0)
        if lane < cute.size(problem.m_count):
            # Past the L1 cache: with overlap this kernel has not waited for the one that wrote them.
            count = I32(ptx.load_relaxed((problem.m_count.iterator + lane).toint()))
            start = I32(ptx.load_relaxed((problem.m_indptr.iterator + lane).toint()))
        jobs = maps.jobs(maps.row_tiles(count, self.form.tile_m), problem.n_tiles, self.form.cluster)
        for bit in cutlass.range_constexpr(5):
            below = cute.arch.shuffle_sync_up(jobs, 1 << bit, mask_and_clamp=0)
            jobs += ptx.select(lane >= (1 << bit), below, I32(0))
        table[lane, 0] = jobs
        table[lane, 1] = count
        table[lane, 2] = start

    @cute.jit
    def locate(self, job: I32, table: cute.Tensor, n_tiles: I32) -> Bundle:
        """This block's tile of a job; every lane of the warp takes part.

        Returns the tile: expert, n (column tile), row (its first), rows (left in the expert), and share_weights,
        whether the cluster shares the weight tile (else it shares the token tile).
        """
        lane = cute.arch.lane_idx()
        expert = cute.arch.popc(cute.arch.vote_ballot_sync(table[lane, 0] <= job))
        local = job
        if expert > 0:
            local = job - table[expert - 1, 0]
        count = table[expert, 1]
        tiles_m = maps.row_tiles(count, self.form.tile_m)
        share_weights = cutlass.Boolean(True)
        if cutlass.const_expr(self.form.cluster == 1):
            tile_m = maps.row_tile(local, tiles_m)
            tile_n = maps.column_tile(local, tiles_m)
        else:
            rank = cute.arch.block_idx_in_cluster()
            cluster = self.form.cluster
            tile_m = maps.lone_row_tile(local, tiles_m, n_tiles, cluster)
            tile_n = maps.lone_column_tile(local, tiles_m, n_tiles, rank, cluster)
            share_weights = local < maps.row_pair_jobs(tiles_m, n_tiles, cluster)
            if share_weights:
                tile_m = maps.paired_row_tile(local, tiles_m, rank, cluster)
                tile_n = maps.paired_column_tile(local, tiles_m, cluster)
        row = maps.first_row(table[expert, 2], tile_m, self.form.tile_m)
        rows = count - tile_m * self.form.tile_m
        return Bundle(expert=expert, n=tile_n, row=row, rows=rows, share_weights=share_weights)

    def first_job(self) -> Any:
        """Job that this block's cluster starts with."""
        return cute.arch.block_idx()[0] // self.form.cluster

    def clusters(self) -> Any:
        """Clusters of the grid: the distance between a cluster's jobs."""
        return cute.arch.grid_dim()[0] // self.form.cluster

    def weight_index(self, tile: Bundle, j: int, k: Any, problem: Bundle) -> Any:
        """Flat index of the weight scale of the tile's j-th column block and K block k."""
        n_blocks = self.form.n_blocks
        n_block, n_all = maps.column_block(tile.n, n_blocks, j), problem.n_tiles * n_blocks
        return maps.weight_scale_index(tile.expert, n_block, k, n_all, problem.k_blocks)

    # --- loads ----------------------------------------------------------------------------------------------------

    @cute.jit
    def produce(self, loads: tuple[Any, ...], place: Bundle, problem: Bundle) -> None:
        """The loader warp: fill the ring, K block by K block, for every tile of this block.

        With `overlap` the kernel starts while the one before it in the stream still runs. Weights come from no kernel,
        so the first round of the ring asks for them at once; tokens wait for the end of the kernel that writes them.
        The schedule needs no wait: `permute_rows` lets GEMM1 start only after it has waited for the routing, and GEMM2
        starts after GEMM1.
        """
        form = self.form
        copies = self.copies(loads, place)
        total = place.table[maps.MAX_EXPERTS - 1, 0]
        job = self.first_job()
        ahead = U32(0)
        if cutlass.const_expr(form.overlap):
            if job < total:
                first = self.locate(job, place.table, problem.n_tiles)
                ahead = U32(cutlass.min(problem.k_blocks, form.stages))
                for k in cutlass.range(I32(ahead), unroll=1):
                    self.load_weights(copies, first, k, I32(k), place, problem)
            cute.arch.griddepcontrol_wait()
        step = U32(0)
        while job < total:
            tile = self.locate(job, place.table, problem.n_tiles)
            for k in cutlass.range(problem.k_blocks, unroll=1):
                slot = I32(maps.stage(step, form.stages))
                if step >= ahead:
                    cute.arch.mbarrier_wait(place.empty + slot, maps.empty_parity(step, form.stages))
                    self.load_weights(copies, tile, k, slot, place, problem)
                self.load_tokens(copies, tile, k, slot, place, problem)
                step += 1
            job += self.clusters()
        if cutlass.const_expr(form.overlap):
            cute.arch.griddepcontrol_launch_dependents()
        if cutlass.const_expr(form.cluster > 1):
            # The tensor core's own signals to the partner (Blackwell) no thread's release orders: each block waits for
            # those
            # that are still on their way to it.
            for _ in cutlass.range(form.stages, unroll=1):
                slot = I32(maps.stage(step, form.stages))
                cute.arch.mbarrier_wait(place.empty + slot, maps.empty_parity(step, form.stages))
                step += 1

    def copies(self, loads: tuple[Any, ...], place: Bundle) -> Bundle:
        """TMA copies of the tokens and of the weights: atom, places in the ring and boxes, alone and in parts
        (`_parts`)."""
        form = self.form
        x_atom, x_tma, y_atom, y_tma, xs_atom, xs_tma, ys_atom, ys_tma = loads
        x = (x_atom, *self.boxes(x_atom, x_tma, place.x, maps.BLOCK, 1))
        y = (y_atom, *self.boxes(y_atom, y_tma, place.y, form.tile_y, 1))
        if form.swapped:
            return Bundle(weights=x, tokens=y)
        xs = (xs_atom, *self.boxes(xs_atom, xs_tma, place.x, maps.BLOCK, form.cluster))
        ys = (ys_atom, *self.boxes(ys_atom, ys_tma, place.y, form.tile_y, form.cluster))
        return Bundle(weights=y, tokens=x, weight_parts=ys, token_parts=xs)

    @cute.jit
    def load_weights(self, copies: Bundle, tile: Bundle, k: Any, slot: Any, place: Bundle, problem: Bundle) -> None:
        """Start the copies of one K block's weights and their scales; the slot now waits for all its bytes."""
        form = self.form
        bar = place.full + slot
        box = (None, *maps.weight_box(tile.n, k, tile.expert))
        everyone = cutlass.Int16((1 << form.cluster) - 1)
        with cute.arch.elect_one():
            cute.arch.mbarrier_arrive_and_expect_tx(bar, form.stage_bytes)
            for j in range(form.n_blocks):
                index = U32(self.weight_index(tile, j, k, problem))
                source = problem.b_scale.iterator + maps.copy_start(index)
                target = place.weight.iterator + (slot * form.n_blocks + j) * 4
                ptx.bulk_copy(target.toint(), source.toint(), 16, bar.toint())
        atom, to, source = copies.weights
        if cutlass.const_expr(form.cluster == 1):
            cute.copy(atom, source[box], to[None, slot], tma_bar_ptr=bar)
        elif tile.share_weights:
            part, part_to, part_source = copies.weight_parts
            cute.copy(part, part_source[box], part_to[None, slot], tma_bar_ptr=bar, mcast_mask=everyone)
        else:
            cute.copy(atom, source[box], to[None, slot], tma_bar_ptr=bar)

    @cute.jit
    def load_tokens(self, copies: Bundle, tile: Bundle, k: Any, slot: Any, place: Bundle, problem: Bundle) -> None:
        """Start the copies of one K block's tokens and their scales."""
        form = self.form
        bar = place.full + slot
        box = (None, *maps.token_box(tile.row, k, form.tile_m))
        everyone = cutlass.Int16((1 << form.cluster) - 1)
        with cute.arch.elect_one():
            m_pad = cute.size(problem.a_scale, mode=[1])
            source = problem.a_scale.iterator + maps.token_scale_index(cutlass.Int64(k), tile.row, m_pad)
            target = place.token.iterator + slot * form.tile_m
            ptx.bulk_copy(target.toint(), source.toint(), 4 * form.tile_m, bar.toint())
        atom, to, source = copies.tokens
        if cutlass.const_expr(form.cluster == 1):
            cute.copy(atom, source[box], to[None, slot], tma_bar_ptr=bar)
        elif not tile.share_weights:
            part, part_to, part_source = copies.token_parts
            cute.copy(part, part_source[box], part_to[None, slot], tma_bar_ptr=bar, mcast_mask=everyone)
        else:
            cute.copy(atom, source[box], to[None, slot], tma_bar_ptr=bar)

    def prefetch(self, loads: tuple[Any, ...]) -> None:
        """Fetch the descriptors of the operands' copies ahead of their first use."""
        cpasync.prefetch_descriptor(loads[0])
        cpasync.prefetch_descriptor(loads[2])

    def boxes(self, atom: Any, tensor: Any, shared: Any, rows: int, parts: int) -> tuple[Any, Any]:
        """Places in the ring (box, stage) and boxes of a tensor (box, tile, K block[, expert]) of one TMA copy.

        With `parts` > 1 a box is this block's part of the tile.
        """
        tiles = cute.local_tile(tensor, (rows, maps.BLOCK), (None,) * cute.rank(tensor))
        rank = cute.arch.block_idx_in_cluster() if parts > 1 else 0
        shared, tiles = cute.group_modes(shared, 0, 2), cute.group_modes(tiles, 0, 2)
        return cpasync.tma_partition(atom, rank, cute.make_layout(parts), shared, tiles)

    def weight_scales(self, scales: Any, k: Any, slot: Any, place: Bundle, problem: Bundle) -> list[Any]:
        """Weight scales of one K block, one for each 128 columns of the tile; `scales` is the index of the tile's
        first."""
        indices = [U32(scales + j * problem.k_blocks + k) for j in range(self.form.n_blocks)]
        places = [(slot * self.form.n_blocks + j) * 4 + I32(maps.copy_offset(i)) for j, i in enumerate(indices)]
        return [place.weight[i] for i in places]

    # --- results --------------------------------------------------------------------------------------------------

    def sync_store_warps(self) -> None:
        """Wait for all warps that hold results."""
        cute.arch.barrier(barrier_id=self.store_barrier, number_of_threads=32 * self.store_warps)

    @cute.jit
    def store_swapped(self, sums: cute.Tensor, place: Bundle, problem: Bundle, tile: Bundle, thread: I32) -> None:
        """Turn a swapped tile through shared memory, then write it row by row."""
        self.sync_store_warps()  # the last tile's rows have been read
        self.stage_sums(sums, place, thread)
        self.sync_store_warps()
        self.write_staged_rows(place, problem, tile, thread)

    @cute.jit
    def write_staged_rows(self, place: Bundle, problem: Bundle, tile: Bundle, thread: I32) -> None:
        """Write a tile from the staging buffer: each warp takes whole rows of 128 columns, 4 columns a lane."""
        form, out, staging = self.form, problem.out, place.staging
        lane = thread % 32
        columns = cute.size(out, mode=[1])
        token = thread // 32
        while token < cutlass.min(tile.rows, form.tile_m):
            values = [staging[maps.staging_index(token, maps.staged_column(lane)) + j] for j in range(4)]
            first = maps.first_column(tile.n, maps.BLOCK)
            element = maps.output_index(cutlass.Int64(tile.row + token), first, columns) + maps.staged_column(lane)
            if cutlass.const_expr(form.fp8_out):
                amax = ptx.abs_max(values)
                for bit in cutlass.range_constexpr(5):
                    amax = cute.arch.fmax(amax, cute.arch.shuffle_sync_bfly(amax, offset=1 << bit))
                scale, inverse = ptx.fp8_scale(amax)
                if lane == 0:
                    self.write_scale(problem, tile.n, tile.row + token, scale)
                word = ptx.pack_e4m3(*[v * inverse for v in values])
                ptx.store_global(out.iterator.toint() + element, [word])
            else:
                words = [ptx.pack_bf16(values[0], values[1]), ptx.pack_bf16(values[2], values[3])]
                ptx.store_global(out.iterator.toint() + 2 * element, words)
            token += self.store_warps

    def write_scale(self, problem: Bundle, n_block: Any, row: Any, scale: Any) -> None:
        """Write one output scale."""
        m_pad = cute.size(problem.out_scale, mode=[1])
        index = maps.output_scale_index(cutlass.Int64(n_block), row, m_pad)
        ptx.store_global(problem.out_scale.iterator.toint() + 4 * index, [scale])
