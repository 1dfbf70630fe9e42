"""Which form of humming's GEMM serves which T, and which of its tunings; plain Python, shared by both backends."""

from __future__ import annotations

from typing import Any

# Largest T whose rows are read through an index; above, copying them into groups takes less time (docs/kernels.md).
INDEXED_TOKENS = 3000

Tuning = dict[str, Any]
Intervals = list[tuple[int, int, Tuning]]  # the library's table: above the first and up to the second number of rows


def is_indexed(tokens: int) -> bool:
    """Whether the GEMMs of a call with this T read their rows through an index."""
    return tokens <= INDEXED_TOKENS


def pick_tunings(tables: tuple[Intervals, Intervals], tokens: int, same_tile: bool) -> tuple[Tuning, Tuning]:
    """Return the library's tunings of GEMM1 and GEMM2 for T rows, those that all experts can expect together.

    `same_tile`: GEMM2's tile has as many rows as GEMM1's, since one index serves both. Without stream-K, which cuts the
    sums of a tile at a place of that tile's: rows fall into tiles in the order of their arrival, so that bits would
    differ from call to call.
    """
    first = _nearest(tables[0], tokens, None)
    rows = first["block_shape"][0] if same_tile else None
    second = _nearest(tables[1], tokens, rows)
    return {**first, "use_stream_k": False}, {**second, "use_stream_k": False}


def _nearest(table: Intervals, tokens: int, rows: int | None) -> Tuning:
    """The tuning whose interval is nearest to T, of those with so many rows in a tile; made where there is none."""
    fitting = [entry for entry in table if rows in (None, entry[2]["block_shape"][0])]
    if fitting:
        return min(fitting, key=lambda entry: max(entry[0] + 1 - tokens, tokens - entry[1], 0))[2]
    tuning = dict(_nearest(table, tokens, None))
    for shape in ("block_shape", "warp_shape"):  # every tuning has one warp along a tile's rows
        tuning[shape] = (rows, *tuning[shape][1:])
    return tuning
