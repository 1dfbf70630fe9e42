"""Combine of v4, device code: the weighted float32 sum of a token's rows, in the order of its experts, to bfloat16."""

# No "from __future__ import annotations" in CuTeDSL modules: Constexpr annotations are read as objects.

from typing import Any

import cutlass
import cutlass.cute as cute

from . import geometry as geo
from .common import cute_ptx as ptx
from .common.cute_tiles import F32, I32, Bundle

I64 = cutlass.Int64
THREADS = 224
EACH = 8  # columns of a thread's piece: 16 bytes
PIECES = 4  # of a thread: 7168 columns a round
TOGETHER = 2  # pairs whose rows are on their way at once


class Combine:
    """The combining kernel. Calling `launch` (inside `cute.compile`) records its launch."""

    @cute.jit
    def launch(self, call: Bundle, spots: Bundle, stream: Any) -> None:
        """Record the launch. call: addresses and numbers of the call; spots: addresses of the scratch
        (`geometry.Places`)."""
        numbers = (call.out, call.hidden)
        places = (spots.counters, spots.starts, spots.code, spots.weight, spots.rows, spots.partial)
        type(self).kernel.set_name_prefix("combine_rows", remove_cutlass_symbol=True, keep_mangled_name=False)
        self.kernel(numbers, places).launch(
            grid=[call.tokens, 1, 1], block=[THREADS, 1, 1], stream=stream, use_pdl=True
        )

    @cute.kernel
    def kernel(self, numbers: tuple[Any, ...], places: tuple[Any, ...]) -> None:
        """A block a token. Tokens without pairs are left alone; the first block clears the counters."""
        out, hidden = numbers
        names = ("counters", "starts", "code", "weight", "rows", "partial")
        spots = Bundle(**dict(zip(names, places, strict=True)))
        thread, _, _ = cute.arch.thread_idx()
        token, _, _ = cute.arch.block_idx()
        lane = cute.arch.lane_idx()
        pair = I64(4) * (I64(token) * I64(geo.SLOTS) + I64(lane % geo.SLOTS))  # lane s knows pair s
        code = I32(ptx.load_relaxed(spots.code + pair))  # the routing ended long ago
        cute.arch.griddepcontrol_wait()
        if token == 0 and thread < geo.EXPERTS:
            ptx.store_global(spots.counters + I64(4 * geo.COUNTER_INTS) * I64(thread), [I32(0)])
        found = cute.arch.popc(cute.arch.vote_ballot_sync(code >= 0) & ((1 << geo.SLOTS) - 1))
        if found > 0:
            weight = ptx.float_of(ptx.load_relaxed(spots.weight + pair))
            row = self.row(spots, code)
            parts = I32(ptx.load_relaxed(spots.starts + I64(4 * geo.EXPERTS)))
            total = cute.make_rmem_tensor(cute.make_layout(PIECES * EACH), F32)
            column = thread * EACH
            while column < hidden:
                total.fill(0.0)
                if parts > 1:
                    for slot in cutlass.range(found, unroll=1):
                        place = geo.part_row(I32(ptx.lane_value(row, slot)), I32(0), parts)
                        at = spots.partial + I64(4) * I64(place) * I64(hidden)
                        self.add_parts(at, parts, ptx.lane_value(weight, slot), hidden, column, total)
                else:
                    for first in cutlass.range(0, found, TOGETHER, unroll=1):
                        self.add(spots, [first + q for q in range(TOGETHER)], found, row, weight, hidden, column, total)
                self.write(out + I64(2) * I64(token) * I64(hidden), hidden, column, total)
                column += PIECES * THREADS * EACH

    def row(self, spots: Bundle, code: Any) -> Any:
        """A pair's row of GEMM2's result; some row where there is no pair."""
        code = ptx.select(code >= 0, code, I32(0))
        expert, rank = code >> geo.RANK_BITS, code & I32((1 << geo.RANK_BITS) - 1)
        return I32(ptx.load_relaxed(spots.starts + I64(4) * I64(expert))) + rank

    def add(
        self, spots: Bundle, slots: list[Any], found: Any, row: Any, weight: Any, hidden: Any, column: Any, total: Any
    ) -> None:
        """Add some pairs' rows, weighted, one after the other; all are on their way together."""
        columns = [column + p * THREADS * EACH for p in range(PIECES)]
        columns = [ptx.select(c < hidden, c, I32(0)) for c in columns]
        rows = [spots.rows + I64(2) * I64(ptx.lane_value(row, slot)) * I64(hidden) for slot in slots]
        pieces = [
            [ptx.load_global_if(slot < found, at + I64(2) * I64(c), 4, I32) for c in columns]
            for slot, at in zip(slots, rows, strict=True)
        ]
        for slot, found_pieces in zip(slots, pieces, strict=True):
            share = ptx.select(slot < found, ptx.lane_value(weight, slot), F32(0.0))
            for p, piece in enumerate(found_pieces):
                values = [value for word in piece for value in ptx.bf16_pair(word)]
                for i, value in enumerate(values):
                    total[p * EACH + i] = ptx.fma(share, value, total[p * EACH + i])

    def add_parts(self, row: Any, parts: Any, weight: Any, hidden: Any, column: Any, total: cute.Tensor) -> None:
        """Add the sum of the parts of a pair's row, in their order, weighted; all are on their way together."""
        for p in range(PIECES):
            at = column + p * THREADS * EACH
            at = row + I64(4) * I64(ptx.select(at < hidden, at, I32(0)))
            pieces = []
            for part in range(geo.MOST_PARTS):
                mine = at + I64(4 * part) * I64(hidden)
                halves = [ptx.load_global_if(part < parts, mine + I64(16 * h), 4, F32) for h in range(2)]
                pieces.append(halves[0] + halves[1])
            for i in range(EACH):
                value = pieces[0][i]
                for piece in pieces[1:]:
                    value = value + piece[i]
                total[p * EACH + i] = ptx.fma(weight, value, total[p * EACH + i])

    @cute.jit
    def write(self, row: Any, hidden: I32, column: I32, total: cute.Tensor) -> None:
        """Write the thread's pieces that the row has."""
        for p in cutlass.range_constexpr(PIECES):
            at = column + p * THREADS * EACH
            if at < hidden:
                words = [ptx.pack_bf16(total[p * EACH + i], total[p * EACH + i + 1]) for i in range(0, EACH, 2)]
                ptx.store_global(row + I64(2) * I64(at), words)
