"""The CuTeDSL kernels' index maps against brute force: the device code calls the same functions."""

from __future__ import annotations

import numpy as np
import pytest
from support.cute_support import ARCHES, EDGES, SHAPES, module, row_counts, schedule, starts, tile_of, workloads

maps = module("cute_maps")
gemm = module("cute_gemm")

LANES = np.arange(32)


def all_forms():
    return [form for fp8 in (False, True) for form in gemm.forms("sm_90a", fp8).values()]


(PLAIN4,) = (form for form in gemm.all_forms(False, "sm_100a") if form.cluster == 4)


def form_id(form):
    return f"{form.name}-{'e4m3' if form.fp8_out else 'bf16'}"


def check_schedule(counts, n, form, processors):
    first, m_pad = starts(counts), starts(counts)[-1]
    seen = set()
    for e, tile_m, tile_n in schedule(counts, n, form, processors):
        row = maps.first_row(first[e], tile_m, form.tile_m)
        assert row % form.tile_m == 0, "a TMA box starts at a multiple of its rows"
        assert first[e] <= row < first[e] + counts[e], "a tile has at least one true row"
        assert row + form.tile_m <= first[e + 1] <= m_pad, "nothing is read past the expert's padding"
        assert tile_n * form.tile_n >= 0 and (tile_n + 1) * form.tile_n <= n
        assert (e, tile_m, tile_n) not in seen
        seen.add((e, tile_m, tile_n))
    assert len(seen) == sum(-(-c // form.tile_m) for c in counts) * (n // form.tile_n)


@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize("case", workloads(), ids=lambda case: f"T{case.seq_len}")
def test_every_tile_of_a_workload_belongs_to_one_block(case, arch):
    counts = row_counts(case.seq_len, case.offset)
    form = gemm.pick_form(arch, False, case.seq_len)
    for n, _ in SHAPES[:2]:
        check_schedule(counts, n, form, ARCHES[arch])


@pytest.mark.parametrize("form", all_forms()[:4], ids=form_id)
@pytest.mark.parametrize("counts", EDGES.values(), ids=EDGES)
def test_every_tile_belongs_to_one_block_at_the_boundaries(counts, form):
    for n, _ in SHAPES:
        check_schedule(counts, n, form, 132)


@pytest.mark.parametrize("counts", [*EDGES.values(), [513, 0, 129] + [0] * 29], ids=[*EDGES, "more than a cluster"])
def test_every_tile_belongs_to_one_block_of_a_cluster_of_four(counts):
    for n, _ in SHAPES[:2]:
        check_schedule(counts, n, PLAIN4, ARCHES["sm_100a"])


def test_four_blocks_share_a_weight_tile_or_a_token_tile():
    for tiles_m in range(1, 10):
        for local in range(maps.jobs(tiles_m, 16, 4)):
            rows, columns = zip(*(tile_of(local, tiles_m, 16, rank, PLAIN4) for rank in range(4)), strict=True)
            shared, parted = (columns, rows) if local < maps.row_pair_jobs(tiles_m, 16, 4) else (rows, columns)
            assert len(set(shared)) == 1 and list(parted) == list(range(parted[0], parted[0] + 4))


def test_a_chip_takes_clusters_of_four_where_its_table_says_so(monkeypatch):
    monkeypatch.setattr(module("cute_forms"), "PLAIN_CLUSTER", {"a chip": 4})
    plain = [list(gemm.forms(arch, False, chip).values())[-1].name for arch in ARCHES for chip in ("", "a chip")]
    assert plain == ["plain", "plain", "plain", "plain4"], "and only on an architecture that has them"


def test_blocks_that_run_together_share_a_weight_tile_or_a_token_tile():
    form = gemm.pick_form("sm_90a", False, 14107)
    for tiles_m in range(1, 8):
        for local in range(maps.jobs(tiles_m, 16, 2)):
            (m0, n0), (m1, n1) = (tile_of(local, tiles_m, 16, rank, form) for rank in (0, 1))
            shares_weights = local < maps.row_pair_jobs(tiles_m, 16)
            assert (n0 == n1 and m1 == m0 + 1) if shares_weights else (m0 == m1 and n1 == n0 + 1)


def test_forms_cover_every_number_of_tokens_and_change_once_at_each_limit():
    picked = [gemm.pick_form("sm_90a", False, t).name for t in (1, 192, 193, 1100, 1101, 3400, 3401, 10**6)]
    assert picked == [
        "swapped16",
        "swapped16",
        "swapped64",
        "swapped64",
        "swapped128",
        "swapped128",
        "plain",
        "plain",
    ]


@pytest.mark.parametrize("form", [*all_forms(), PLAIN4], ids=form_id)
def test_a_form_fits_the_chip(form):
    room = maps.SMEM_BYTES - (gemm.ROOM if form.overlap else 0)
    assert maps.shared_bytes(form) <= room < maps.shared_bytes(form) + form.stage_bytes + 16
    assert form.stages >= 2, "a consumer waits for the next K block before it frees this one"
    assert form.stage_bytes < 2**20, "an mbarrier counts 2^20 - 1 bytes"
    assert form.stage_bytes == 128 * 128 + form.tile_y * 128 + 4 * form.tile_m + 16 * (form.tile_n // 128)
    assert maps.tmem_columns(form) in (32, 64, 128, 256, 512)


# --- scales -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "k"), SHAPES)
def test_scale_indices_are_those_of_the_arrays(n, k):
    n_blocks, k_blocks, m_pad = n // 128, k // 128, 1280
    e, b, kb = np.meshgrid(np.arange(32), np.arange(n_blocks), np.arange(k_blocks), indexing="ij")
    index = maps.weight_scale_index(e, b, kb, n_blocks, k_blocks)
    assert (index.ravel() == np.arange(32 * n_blocks * k_blocks)).all()
    start = maps.copy_start(index)
    assert (start % 4 == 0).all() and (start + 4 <= index.size).all(), "16 bytes, aligned, inside the array"
    assert (start + maps.copy_offset(index) == index).all()
    kb, row = np.meshgrid(np.arange(k_blocks), np.arange(m_pad), indexing="ij")
    assert (maps.token_scale_index(kb, row, m_pad).ravel() == np.arange(k_blocks * m_pad)).all()
    assert (maps.output_scale_index(kb, row, m_pad).ravel() == np.arange(k_blocks * m_pad)).all()


# --- Hopper results ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [16, 64, 128])
def test_wgmma_registers_cover_the_tile_once(columns):
    thread, i = np.meshgrid(np.arange(256), np.arange(columns // 2), indexing="ij")
    flat = maps.wgmma_row(thread, i) * columns + maps.wgmma_column(thread, i)
    assert (np.sort(flat.ravel()) == np.arange(128 * columns)).all()
    # The instruction's own layout (PTX ISA, wgmma accumulator fragment), written out a second time.
    warp, lane = thread // 32, thread % 32
    assert (maps.wgmma_row(thread, i) == 16 * warp + lane // 4 + np.where(i % 4 >= 2, 8, 0)).all()
    assert (maps.wgmma_column(thread, i) == i // 4 * 8 + lane % 4 * 2 + i % 2).all()


def test_scale_places_follow_the_registers():
    for i in range(64):
        half, pair, j = maps.wgmma_half(i), i // 4, i % 2
        assert maps.wgmma_register(half, pair, j) == i
        n = maps.wgmma_scale(i)
        assert maps.wgmma_column(5, 2 * n - n % 2) == maps.wgmma_column(5, i), "the n-th own column is register i's"
    assert [int(maps.wgmma_row(40, 2 * half)) for half in (0, 1)] == [maps.wgmma_row(40, i) for i in (1, 3)]


def transpose(words):
    return maps.quad_transpose(words, LANES, lambda word, bit: word[LANES ^ bit], np.where)


def test_quads_transpose():
    words = [1000 * LANES + w for w in range(4)]
    for p, word in enumerate(transpose(words)):
        assert (word == 1000 * (LANES // 4 * 4 + p) + LANES % 4).all(), "lane q gets word q of lane p"


def prmt(a, b, selector):
    data = [(source >> (8 * i)) & 255 for source in (a, b) for i in range(4)]
    return sum(data[(selector >> (4 * i)) & 7] << (8 * i) for i in range(4))


def test_bfloat16_stores_write_every_column_once():
    quad_lane, seen = LANES % 4, set()
    for g in range(256 // 32):
        # A word's content is the number of its first column.
        words = [8 * maps.bf16_word_block(g, w) + 2 * quad_lane for w in range(4)]
        first = maps.bf16_chunk_column(g, quad_lane)
        for p, word in enumerate(transpose(words)):
            assert (word == first + 2 * p).all()
            seen |= {int(c) for c in word[:4]} | {int(c) + 1 for c in word[:4]}
    assert seen == set(range(256))


def test_fp8_stores_write_every_column_once():
    quad_lane, seen = LANES % 4, set()
    for g in range(2):
        # A byte's content is its column: each word packs two columns of a block and two of the next.
        columns = [
            [8 * (maps.fp8_word_block(g, w) + d) + 2 * quad_lane + j for d in (0, 1) for j in (0, 1)] for w in range(4)
        ]
        words = transpose([sum(c << (8 * i) for i, c in enumerate(four)) for four in columns])
        halves = (maps.LOW_HALVES, maps.HIGH_HALVES)
        chunk = [prmt(words[p], words[p + 1], selector) for selector in halves for p in (0, 2)]
        first = maps.fp8_chunk_column(g, quad_lane)
        for i in range(16):
            column = (chunk[i // 4] >> (8 * (i % 4))) & 255
            assert (column == first + i).all()
            seen |= {int(c) for c in column[:4]}
    assert seen == set(range(128))


@pytest.mark.parametrize("tokens", [16, 64, 128])
def test_staging_turns_the_tile_without_bank_conflicts(tokens):
    column, token = np.meshgrid(np.arange(128), np.arange(tokens), indexing="ij")
    index = maps.staging_index(token, column)
    assert len(np.unique(index)) == index.size and index.max() < maps.STAGING_ROW * tokens
    for i in range(tokens // 2):
        written = maps.staging_index(maps.wgmma_column(LANES, i), maps.wgmma_row(LANES, i))
        assert len(set(written % 32)) == 32
    assert (maps.staging_index(3, 4 * LANES) % 4 == 0).all(), "rows are read 16 bytes at a time"


# --- Blackwell results ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", all_forms()[:4], ids=form_id)
def test_result_threads_read_each_accumulator_element_once(form):
    sums, stages = min(form.tile_y, 128), maps.accumulator_stages(form)
    threads = 128 * (form.tile_y // sums)
    seen = set()
    for accumulator in range(stages):
        thread, i = np.meshgrid(np.arange(threads), np.arange(sums), indexing="ij")
        lane, column = maps.tmem_row(thread), maps.tmem_column(thread, i, accumulator, form.tile_y)
        assert (lane // 32 == thread // 32 % 4).all(), "a warp reaches the lanes of its own quarter only"
        assert column.max() < maps.tmem_columns(form) <= maps.TMEM_COLUMNS
        # Column c of accumulator s is Y row c: the layout of the C fragment, ((128, tile_y), stages):((65536, 1),
        # tile_y).
        assert (column - accumulator * form.tile_y == thread // 128 * 128 + i).all()
        seen |= set(maps.tmem_address(0, lane, column).ravel().tolist())
    assert len(seen) == stages * 128 * form.tile_y


def test_one_load_instruction_covers_consecutive_columns():
    for form in all_forms()[:4]:
        count = min(form.tile_y, maps.TMEM_LOAD)
        columns = maps.tmem_column(0, np.arange(count), 1, form.tile_y)
        assert (np.diff(columns) == 1).all() and min(form.tile_y, 128) % count == 0
