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
from .common.cute_tiles import E4M3, F32, I32, Bundle
from .loads import FEW, GATHERERS, Loads

I64 = cutlass.Int64
GROUPS = ("counters", "starts", "partial")


class LayerGemm(Loads):
    """One GEMM of the layer. Calling `launch` (inside `cute.compile`) records its launch.

    Args:
        gated: GEMM1, with gather, SwiGLU and e4m3; else GEMM2.
    """

    store_warps = 8
    together = False
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
        cute.arch.cluster_arrive_relaxed()  # `roles` waits: before a block signals its partner, both are ready
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
            clear=smem.allocate_array(cutlass.Int64, 1),
            met=smem.allocate_array(cutlass.Int64, 1),
            full=smem.allocate_array(cutlass.Int64, geo.STAGES),
            empty=smem.allocate_array(cutlass.Int64, geo.STAGES),
            **{name: smem.allocate_array(cutlass.Int64, count) for name, count in pairs.items()},
        )
        few = self.ring_layout(geo.STAGES * (geo.BLOCK // FEW), FEW)
        wide = self.ring_layout(geo.STAGES, 2 * geo.BLOCK)
        place.both = cute.make_tensor(place.weights.iterator, wide.outer)
        place.few = cute.make_tensor(place.tokens.iterator, few.outer)
        return smem, place

    def init_ring(self, place: Bundle) -> None:
        """Initialise the barriers; one thread calls this. A slot is full when TMA and every gathering thread have
        arrived."""
        for s in range(geo.STAGES):
            cute.arch.mbarrier_init(place.full + s, 1 if self.boxed else 1 + GATHERERS)
            cute.arch.mbarrier_init(place.empty + s, self.empty_arrivals * geo.CLUSTER)
        if self.together:
            cute.arch.mbarrier_init(place.clear, self.store_warps)
            cute.arch.mbarrier_init(place.met, 1)
        for s in range(self.accumulators):
            cute.arch.mbarrier_init(place.done + s, 1)
            cute.arch.mbarrier_init(place.free + s, self.store_warps)

    @cute.jit
    def release(self, barrier: cute.Pointer) -> None:
        """Give a slot back to the loaders of both blocks, which may both write to it: one arrival for each warp."""
        with cute.arch.elect_one():
            for rank in cutlass.range_constexpr(geo.CLUSTER):
                cute.arch.mbarrier_arrive(barrier, rank)

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
        holder = place.ticket
        self.sync_store_warps()  # thread 0's ticket releases what all threads have stored before this
        if thread == 0:
            at = problem.counters + I64(geo.TICKETS) + I64(4) * I64(tile.number)
            ticket = I32(ptx.take_ticket(at))
            if ticket == tile.parts - 1:
                ptx.store_global(at, [I32(0)])
            holder[0] = ticket
        self.sync_store_warps()
        last = holder[0] == tile.parts - 1
        if last:
            self.add_parts(sums, base, tile.parts)
        return last

    def add_parts(self, sums: cute.Tensor, first: Any, parts: Any) -> None:
        """Add up two or four parts, all on their way together; what a tile has no part for is added as zero."""
        count, found = cute.size(sums), []
        for part in range(geo.MOST_PARTS):
            at = first + I64(4 * geo.PARTIAL_FLOATS) * I64(ptx.select(parts > part, I32(part), I32(0)))
            found.append([v for i in range(0, count, 4) for v in ptx.load_global(at + I64(4 * i), 4, F32)])
        more = [parts > part for part in range(geo.MOST_PARTS)]
        for i in range(count):
            sums[i] = found[0][i] + found[1][i]
            for part in range(2, geo.MOST_PARTS):
                sums[i] = sums[i] + ptx.select(more[part], found[part][i], F32(0.0))

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
            elif tile.loose > 1:
                at = I64(geo.part_row(row, tile.part, tile.parts)) * I64(problem.n) + I64(column + 4 * lane)
                ptx.store_global(problem.partial + I64(4) * at, values)
            else:
                words = [ptx.pack_bf16(values[0], values[1]), ptx.pack_bf16(values[2], values[3])]
                at = problem.out + I64(2) * (I64(row) * I64(problem.n) + I64(column + 4 * lane))
                ptx.store_global(at, words)
            token += self.store_warps

    def write_scale(self, problem: Bundle, n_block: Any, row: Any, scale: Any) -> None:
        """Write one scale of GEMM1's result."""
        index = I64(n_block) * I64(problem.out_scale_rows) + I64(row)
        ptx.store_global(problem.out_scale + I64(4) * index, [scale])
