"""Index maps and pipeline arithmetic of the CuTeDSL grouped GEMMs, as plain functions.

The device code calls these functions with DSL integers while a kernel is traced, and the tests call the very same
functions with Python integers, so what the tests prove by brute force is what the kernels compute. They therefore use
nothing but +, -, *, //, % and comparisons on non-negative integers.

Letters: T tokens, E experts, M rows of the padded token matrix, N output columns, K reduction length.
Every quantization block is 128 wide; the rows of an expert start at a multiple of 128 (m_indptr).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

BLOCK = 128  # width of a scale block along K and N, and the alignment of an expert's first row
MMA_K = 32  # K of one FP8 matrix instruction on both chips
FP8_MAX = 448.0  # largest finite e4m3 value
FP8_ZERO = 1e-30  # a block whose largest magnitude is below this is quantized as zeros, with scale 1
SMEM_BYTES = 232448  # shared memory that one block may use on sm_90 and sm_100
STAGING_ROW = BLOCK + 4  # floats; 4 more than a row so that neither the scattered writes nor the row reads share banks
MAX_EXPERTS = 32  # one expert per lane of the warp that builds the schedule

Int = Any  # a Python int on the host, a DSL integer while a kernel is traced


@dataclass(frozen=True)
class Form:
    """One compiled shape of a grouped GEMM kernel.

    The matrix instruction multiplies X (128 rows, its M side) by Y (`tile_y` rows, its N side). In the plain form X is
    the tokens and Y the weights. In the swapped form X is the weights and Y the tokens, so that few tokens do not waste
    a tile of 128 rows.
    """

    name: str
    swapped: bool
    tile_y: int  # rows of Y in a tile
    stages: int  # depth of the shared-memory ring
    fp8_out: bool  # write e4m3 with one float32 scale per row and 128 columns instead of bfloat16
    cluster: int = 1  # thread blocks that work on neighbouring tiles and send each other what both need
    overlap: bool = False  # start before the kernel before it in the stream has ended, and load weights meanwhile

    @property
    def tile_m(self) -> int:
        """Token rows in a tile."""
        return self.tile_y if self.swapped else BLOCK

    @property
    def tile_n(self) -> int:
        """Output columns in a tile."""
        return BLOCK if self.swapped else self.tile_y

    @property
    def n_blocks(self) -> int:
        """128-column blocks in a tile: weight scales needed for one K block."""
        return self.tile_n // BLOCK

    @property
    def stage_bytes(self) -> int:
        """Bytes that arrive in one stage: X and Y tiles, token scales, and 16 bytes of weight scales per column
        block."""
        return BLOCK * BLOCK + self.tile_y * BLOCK + 4 * self.tile_m + 16 * self.n_blocks


NO_LIMIT = 1 << 62  # tokens


def shared_bytes(form: Form) -> int:
    """Shared memory of a form: ring, staging rows of the swapped epilogue, schedule, barriers, alignment gaps."""
    return form.stages * (form.stage_bytes + 16) + 4 * staging_floats(form) + 12 * MAX_EXPERTS + 512


def staging_floats(form: Form) -> int:
    """Size of the buffer that the swapped epilogue turns a tile in."""
    return STAGING_ROW * form.tile_m if form.swapped else 4


def fit_stages(form: Form, reserve: int = 0) -> Form:
    """The form with the deepest ring that fits, leaving `reserve` bytes free."""
    while shared_bytes(replace(form, stages=form.stages + 1)) <= SMEM_BYTES - reserve:
        form = replace(form, stages=form.stages + 1)
    return form


# --- pipeline ---------------------------------------------------------------------------------------------------------
# Step i is the i-th K block that a thread block handles, counted over all its tiles.


def stage(i: Int, stages: int) -> Int:
    """Ring slot of step i."""
    return i % stages


def full_parity(i: Int, stages: int) -> Int:
    """Parity a consumer waits for on the `full` barrier of step i's slot."""
    return (i // stages) % 2


def empty_parity(i: Int, stages: int) -> Int:
    """Parity the producer waits for on the `empty` barrier; the first round passes on a fresh barrier."""
    return (i // stages + 1) % 2


# --- schedule ---------------------------------------------------------------------------------------------------------
# A job is one tile for each thread block of a cluster. Jobs are numbered expert by expert; cluster c takes jobs c,
# c + clusters, c + 2 clusters, ... Within an expert the row tiles of one column tile follow each other, so that the
# thread blocks running at the same time share weight tiles in L2.
#
# The blocks of a cluster share either a weight tile (as many row tiles of one column) or, in the rows that are left, a
# token tile (as many columns of one row): no block is ever without work.


def row_tiles(count: Int, tile_m: int) -> Int:
    """Row tiles of an expert with `count` rows."""
    return (count + tile_m - 1) // tile_m


def jobs(tiles_m: Int, tiles_n: Int, cluster: int) -> Int:
    """Jobs of an expert; tiles_n is a multiple of the cluster size."""
    return tiles_m * tiles_n // cluster


def row_tile(job: Int, tiles_m: Int) -> Int:
    """Row tile of an expert's job when blocks work alone."""
    return job % tiles_m


def column_tile(job: Int, tiles_m: Int) -> Int:
    """Column tile of an expert's job when blocks work alone."""
    return job // tiles_m


def row_pair_jobs(tiles_m: Int, tiles_n: Int, cluster: int = 2) -> Int:
    """Jobs of an expert whose blocks share a weight tile; they come first."""
    return tiles_m // cluster * tiles_n


def paired_row_tile(job: Int, tiles_m: Int, rank: Int, cluster: int = 2) -> Int:
    """Row tile of block `rank` of a job that shares a weight tile."""
    return cluster * (job % (tiles_m // cluster)) + rank


def paired_column_tile(job: Int, tiles_m: Int, cluster: int = 2) -> Int:
    """Column tile of a job that shares a weight tile."""
    return job // (tiles_m // cluster)


def lone_row_tile(job: Int, tiles_m: Int, tiles_n: Int, cluster: int = 2) -> Int:
    """Row tile of a job that shares a token tile: one of the expert's last, those that no whole cluster has."""
    if cluster == 2:
        return tiles_m - 1
    lone = (tiles_m - 1) % cluster + 1
    return tiles_m - lone + (job - row_pair_jobs(tiles_m, tiles_n, cluster)) % lone


def lone_column_tile(job: Int, tiles_m: Int, tiles_n: Int, rank: Int, cluster: int = 2) -> Int:
    """Column tile of block `rank` of a job that shares a token tile."""
    local = job - row_pair_jobs(tiles_m, tiles_n, cluster)
    if cluster == 2:
        return 2 * local + rank
    return cluster * (local // ((tiles_m - 1) % cluster + 1)) + rank


def first_row(indptr: Int, tile: Int, tile_m: int) -> Int:
    """Row of the padded token matrix where the expert's row tile `tile` starts."""
    return indptr + tile * tile_m


# --- copy boxes -------------------------------------------------------------------------------------------------------
# One TMA copy moves a box of 128 columns of K. Box (i, k) of the tokens (M, K) holds rows i * tile_m and on, box (i, k,
# e) of the weights (N, K, E) rows i * tile_n and on of expert e; both start at column 128 k.


def token_box(row: Int, k_block: Int, tile_m: int) -> tuple[Int, Int]:
    """Box of the tokens that holds the tile starting at `row`, a multiple of tile_m."""
    return row // tile_m, k_block


def weight_box(tile_n: Int, k_block: Int, expert: Int) -> tuple[Int, Int, Int]:
    """Box of the weights that a column tile multiplies."""
    return tile_n, k_block, expert


# --- scales -----------------------------------------------------------------------------------------------------------


def token_scale_index(k_block: Int, row: Int, m_pad: Int) -> Int:
    """Flat index into the token scales (K/128, M_pad)."""
    return k_block * m_pad + row


def weight_scale_index(expert: Int, n_block: Int, k_block: Int, n_blocks: Int, k_blocks: Int) -> Int:
    """Flat index into the weight scales (E, N/128, K/128)."""
    return (expert * n_blocks + n_block) * k_blocks + k_block


def copy_start(index: Int) -> Int:
    """First element of the 16-byte group that holds float `index`: bulk copies move 16 bytes at least."""
    return index - index % 4


def copy_offset(index: Int) -> Int:
    """Place of float `index` in its 16-byte group."""
    return index % 4


def output_scale_index(n_block: Int, row: Int, m_pad: Int) -> Int:
    """Flat index into the output scales (N/128, M_pad)."""
    return n_block * m_pad + row


# --- results ----------------------------------------------------------------------------------------------------------


def output_index(row: Int, column: Int, columns: Int) -> Int:
    """Flat index into the output (M, N = columns)."""
    return row * columns + column


def first_column(tile_n: Int, width: int) -> Int:
    """First output column of a column tile of `width` columns."""
    return tile_n * width


def column_block(tile_n: Int, n_blocks: int, j: Int) -> Int:
    """The tile's j-th block of 128 output columns, counted over the whole row."""
    return tile_n * n_blocks + j


# --- Hopper accumulators ----------------------------------------------------------------------------------------------
# wgmma m64nNk32, 128 threads: register i of thread t. Two warpgroups stack two such blocks along X.


def wgmma_row(thread: Int, i: Int) -> Int:
    """X row (0..127) of register i; `thread` is 0..255 over both warpgroups."""
    return thread // 32 * 16 + thread % 32 // 4 + 8 * wgmma_half(i)


def wgmma_column(thread: Int, i: Int) -> Int:
    """Y row (0..N-1) of register i."""
    return 8 * (i // 4) + 2 * (thread % 4) + i % 2


def wgmma_half(i: Int) -> Int:
    """Row half of register i: rows r (0) and r + 8 (1)."""
    return i // 2 % 2


def wgmma_scale(i: Int) -> Int:
    """Place of register i's column among the thread's own columns, two for each 8-column block."""
    return 2 * (i // 4) + i % 2


def wgmma_register(half: Int, column_pair: Int, j: Int) -> Int:
    """Register of row half `half` (rows r, r + 8), 8-column block `column_pair` and column j (0, 1) of the pair."""
    return 4 * column_pair + 2 * half + j


# The plain epilogue packs two columns in a 32-bit word per 8-column block; four lanes of a quad then transpose four
# words so that each lane owns 16 consecutive bytes of a row. Word w of group g is block 4 g + w (bfloat16), or blocks
# 8 g + 2 w and 8 g + 2 w + 1 (e4m3). After the transposition lane q owns word q of every lane of its quad.


LOW_HALVES, HIGH_HALVES = 0x5410, 0x7632  # byte selectors of PTX prmt: the low (high) halves of two words in one


def quad_transpose(
    words: list[Int], lane: Int, exchange: Callable[[Int, int], Int], choose: Callable[..., Int]
) -> list[Int]:
    """Transpose a 4 x 4 matrix whose column q is the four words of lane q of a quad.

    Args:
        words: this lane's words.
        lane: lane number, of which the lowest two bits matter.
        exchange: (word, bit) -> the word that lane ^ bit passes.
        choose: (condition, yes, no) -> one of both.
    """
    w = list(words)
    for bit in (1, 2):
        odd = lane // bit % 2 == 1
        for i in range(4):
            if i & bit:
                continue
            j = i | bit
            received = exchange(choose(odd, w[i], w[j]), bit)
            w[i], w[j] = choose(odd, received, w[i]), choose(odd, w[j], received)
    return w


def bf16_word_block(group: Int, word: Int) -> Int:
    """8-column block that is packed in `word` of `group` before the transposition."""
    return 4 * group + word


def bf16_chunk_column(group: Int, quad_lane: Int) -> Int:
    """First of the 8 columns that a lane stores."""
    return 32 * group + 8 * quad_lane


def fp8_word_block(group: Int, word: Int) -> Int:
    """First of the two 8-column blocks that are packed in `word` of `group` before the transposition."""
    return 8 * group + 2 * word


def fp8_chunk_column(group: Int, quad_lane: Int) -> Int:
    """First of the 16 columns that a lane stores."""
    return 64 * group + 16 * quad_lane


# The swapped epilogue goes through shared memory: float32, one padded row per token.


def staging_index(token: Int, column: Int) -> Int:
    """Flat float index of (token in the tile, output column in the tile) in the staging buffer."""
    return token * STAGING_ROW + column


def staged_column(lane: Int) -> Int:
    """First of the 4 columns of a staged row that a lane writes."""
    return 4 * lane


# --- Blackwell accumulators -------------------------------------------------------------------------------------------
# tcgen05 with M = 128: lane r of tensor memory holds X row r, column c of the accumulator holds Y row c.
TMEM_COLUMNS = 512  # 32-bit columns of a multiprocessor's tensor memory
TMEM_LOAD = 16  # columns that one load instruction moves to registers


def accumulator_stages(form: Form) -> int:
    """Accumulators in flight: what tensor memory holds, at most 4."""
    return min(4, TMEM_COLUMNS // form.tile_y)


def tmem_columns(form: Form) -> int:
    """Columns to allocate: a power of two, at least 32."""
    return max(32, accumulator_stages(form) * form.tile_y)


def tmem_address(base: Int, lane: Int, column: Int) -> Int:
    """Address of (lane, column): lanes count in the upper half, columns in the lower."""
    return base + lane * 65536 + column


def tmem_row(thread: Int) -> Int:
    """X row that a result thread owns: warp w of a warpgroup reaches lanes 32 w to 32 w + 31 only."""
    return thread % 128


def tmem_block(thread: Int) -> Int:
    """The tile's block of 128 columns that a result thread of the plain form owns: one for each warpgroup."""
    return thread // 128


def tmem_column(thread: Int, i: Int, accumulator: Int, tile_y: int) -> Int:
    """Tensor-memory column of the thread's i-th sum; each warpgroup of result threads owns 128 columns."""
    return accumulator * tile_y + tmem_block(thread) * BLOCK + i
