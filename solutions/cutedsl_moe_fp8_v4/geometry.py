"""Numbers that host, kernels and tests of v4 share: the tile, its paths, and where everything stands in the scratch.

The functions here are called with Python integers and with DSL integers alike, and use nothing but +, -, *, //, %, ^
and comparisons.
Letters: T tokens, H hidden and I intermediate columns, E local experts, M rows of the grouped matrices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

BLOCK = 128  # columns that share a scale, and the rows of a token tile
EXPERTS = 32  # local experts: one for each lane of a warp
SLOTS = 8  # most local pairs of a token
RANK_BITS = 26  # a pair's code is expert << RANK_BITS | rank within the expert
STAGES = 4  # slots of the ring: 32 KiB of weights and 16 KiB of tokens each
CLUSTER = 2  # thread blocks that work on neighbouring tiles and send each other shared weights
STAGED = 32  # tokens that the swapped epilogue turns at a time
COUNTER_INTS = 32  # int32 between two experts' counters: a 128-byte line each, so that atomics spread
MOST_PARTS = 3  # parts of K that meet in global memory
HEAD_BYTES = 8192  # of the scratch: what every call leaves zero
TICKETS = 4 * 32 * 32  # byte where the tiles' tickets start in it
PARTIAL_BLOCKS = 256  # parts of tiles that the scratch has room for: at most one for each thread block
PARTIAL_FLOATS = 256 * 16  # of one part: 256 weight rows by 16 tokens
MAX_TOKENS = 1 << 17  # rows and columns still count in 32 bits, and the scratch takes 17 GB

Int = Any  # a Python int on the host, a DSL integer while a kernel is traced


@dataclass(frozen=True)
class Path:
    """How the tensor core takes a tile: `plain` has tokens on its 128-row side, a swapped path weights.

    A tile is 256 weight rows by up to 128 token rows. The rows that a tile has choose its path, on the device.
    """

    name: str
    rows: int  # most token rows
    swapped: bool

    @property
    def columns(self) -> int:
        """Width of one matrix instruction: weight rows (plain) or token rows."""
        return self.rows if self.swapped else BLOCK


PATHS = (
    Path("swapped16", 16, True),
    Path("swapped32", 32, True),
    Path("swapped64", 64, True),
    Path("plain", 128, False),
)


def pick_path(rows: int) -> Path:
    """The path of a tile with this many true rows: the narrowest that holds them."""
    return next(path for path in PATHS if rows <= path.rows)


def row_bound(tokens: int) -> int:
    """Most rows that T tokens can need: 8 pairs each, every expert's rows padded to a multiple of 128."""
    pairs = tokens * SLOTS
    return (pairs + min(EXPERTS, pairs) * (BLOCK - 1)) // BLOCK * BLOCK


def shared_bytes() -> int:
    """Shared memory of a GEMM's block: ring with scales and barriers, staging rows, schedule, alignment gaps."""
    slot = 3 * BLOCK * BLOCK + 4 * BLOCK + 32 + 16
    return STAGES * slot + 4 * STAGED * (BLOCK + 4) + 16 * EXPERTS + 512


def parts(rest: Int, clusters: Int, k_blocks: Int, choose: Any, together: bool) -> Int:
    """Parts of K for each tile of the last round's `rest` jobs, of few rows each, so that no cluster gets two.

    together: a cluster's two blocks take equal parts of one tile, 2 or 4 in all; else one part of two tiles, 2 or 3.
    choose: (condition, yes, no) -> one of both.
    """
    best = 1
    for many in (CLUSTER, 2 * CLUSTER) if together else range(2, MOST_PARTS + 1):
        fits = choose(rest * many <= clusters, many, best)
        best = choose(k_blocks % many == 0 if together else many <= k_blocks, fits, best)
    return best


def last_round(jobs: Int, clusters: Int, k_blocks: Int, most_rows: Int, choose: Any, together: bool) -> tuple[Int, Int]:
    """Jobs before the last round, and the parts of each tile in it; most_rows: of an expert."""
    rest = jobs % clusters
    many = parts(rest, clusters, k_blocks, choose, together)
    return jobs - rest, choose(most_rows <= PATHS[0].rows, many, 1)


def split_job(job: Int, before: Int, many: Int, choose: Any) -> tuple[Int, Int, Int]:
    """Which job a numbered one, parts counted, is or is a part of; which part; and of how many."""
    last = job - before
    parts = choose(last >= 0, many, 1)
    part = choose(last >= 0, last % parts, 0)
    return choose(last >= 0, before + last // parts, job), part, parts


def pair_parts(part: Int, parts: Int, rank: Int, choose: Any) -> tuple[Int, Int, Int, Int]:
    """Where a cluster's blocks take parts of one tile: the part of K that the block `rank` takes, and the tile's number
    within its job; then, once the two parts are one, which part that is, and of how many."""
    group = part // CLUSTER
    return (
        choose(parts > 1, group * CLUSTER + rank, 0),
        choose(parts > 1, part % CLUSTER, rank),
        choose(parts > 1, group, 0),
        choose(parts > 1, parts // CLUSTER, 1),
    )


def gathered_row(thread: Int, i: int, threads: int) -> Int:
    """Row of the i-th 16-byte piece that one of so many gathering threads copies of a K block."""
    return thread // 8 + threads // 8 * i


def gathered_piece(thread: Int) -> Int:
    """Which of a row's eight pieces a gathering thread copies."""
    return thread % 8


def piece_place(row: Int, piece: Int) -> Int:
    """Byte of the slot where a piece of a row stands: the 128-byte swizzle."""
    return row * BLOCK + (piece ^ (row % 8)) * 16


def part_start(part: Int, parts: Int, k_blocks: Int) -> Int:
    """First K block of a part."""
    return part * k_blocks // parts


def part_row(row: Int, part: Int, parts: Int) -> Int:
    """Row in the partial sums of GEMM2 that holds a part of grouped row `row`.

    Tiles are split only where no expert has more rows than the narrowest path, so that each has one row tile.
    """
    return (row // BLOCK * PATHS[0].rows + row % BLOCK) * parts + part


def line(size: Int) -> Int:
    """The next multiple of 256 bytes."""
    return (size + 255) // 256 * 256


@dataclass(frozen=True)
class Places:
    """Byte offsets into the scratch of a call, and the size of the whole."""

    counters: (
        Int  # (32, 32) int32: pairs of each expert, one line each; then tickets of split tiles; zero between calls
    )
    partial: Int  # (256, 4096) float32: sums of split tiles; of GEMM2's rows of H, at `part_row`
    starts: Int  # (33,) int32, first row of each expert; then the parts that GEMM2's tiles were split into
    code: Int  # (T, 8) int32: pairs of a token by rising expert, then -1
    weight: Int  # (T, 8) float32
    index: Int  # (32, T) int32: token of each pair of an expert
    inner_scale: Int  # (I/128, M) float32
    inner: Int  # (M, I) e4m3
    rows: Int  # (M, H) bfloat16
    size: Int


def places(tokens: Int, rows: Int, hidden: Int, inner: Int) -> Places:
    """Where everything stands, for T tokens and M = `rows`; offsets are multiples of 256."""
    sizes = [
        HEAD_BYTES,
        4 * PARTIAL_BLOCKS * PARTIAL_FLOATS,
        4 * (EXPERTS + 1),
        4 * SLOTS * tokens,
        4 * SLOTS * tokens,
        4 * EXPERTS * tokens,
        4 * (inner // BLOCK) * rows,
        inner * rows,
        2 * hidden * rows,
    ]
    offsets: list[Int] = [0]
    for size in sizes:
        offsets.append(offsets[-1] + line(size))
    return Places(*offsets)
