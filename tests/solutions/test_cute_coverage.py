"""The index maps put together: every workload, every tile, every thread; what is read and what is written, element by
element.

`test_cute_maps` takes each map by itself; here schedule, boxes and results follow each other as in the kernels.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest
from support.cute_support import ARCHES, EDGES, module, row_counts, schedule, starts, workloads

maps = module("cute_maps")
gemm = module("cute_gemm")

N, K_BLOCKS = 512, 2  # columns: several tiles of every form
CASES = [(f"T{case.seq_len}", case.seq_len, (case.seq_len, case.offset)) for case in workloads()]
CASES += [(f"{name}, T{tokens}", tokens, counts) for name, counts in EDGES.items() for tokens in (16, 901, 3000, 8000)]


def counts_of(what):
    return what if isinstance(what, list) else row_counts(*what)


@functools.cache
def writes(arch, form, tile_n):
    """(rows of the tile, output columns) that the threads of a block write, one entry for each store of an element."""
    if form.swapped:
        column = maps.first_column(tile_n, 128) + maps.staged_column(np.arange(32))
        return grid(np.arange(form.tile_m), column, 4)
    if arch == "sm_100a":
        thread = np.arange(256)
        block = maps.column_block(tile_n, form.n_blocks, maps.tmem_block(thread))
        return pairs(maps.tmem_row(thread), maps.first_column(block, 128), 128)
    thread, half = np.meshgrid(np.arange(256), (0, 1), indexing="ij")
    row, first = maps.wgmma_row(thread, 2 * half).ravel(), maps.first_column(tile_n, form.tile_n)
    quad, found = (thread % 4).ravel(), []
    if form.fp8_out:
        for block in range(form.n_blocks):
            for g in range(2):
                found.append(pairs(row, first + 128 * block + maps.fp8_chunk_column(g, quad), 16))
    else:
        for g in range(form.tile_n // 32):
            found.append(pairs(row, first + maps.bf16_chunk_column(g, quad), 8))
    return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))


@functools.cache
def scale_writes(arch, form, tile_n):
    """(rows of the tile, 128-column blocks) whose scale a block writes."""
    if form.swapped:
        return np.arange(form.tile_m), np.full(form.tile_m, maps.column_block(tile_n, 1, 0))
    if arch == "sm_100a":
        thread = np.arange(256)
        return maps.tmem_row(thread), maps.column_block(tile_n, form.n_blocks, maps.tmem_block(thread))
    thread, half, block = (axis.ravel() for axis in np.meshgrid(np.arange(0, 256, 4), (0, 1), range(form.n_blocks)))
    return maps.wgmma_row(thread, 2 * half), maps.column_block(tile_n, form.n_blocks, block)


def grid(row, first, width):
    """Every row with every run of `width` columns."""
    row, first = (axis.ravel() for axis in np.meshgrid(row, first, indexing="ij"))
    return pairs(row, first, width)


def pairs(row, first, width):
    """Each row with its own run of `width` columns."""
    return np.repeat(row, width), (first[:, None] + np.arange(width)).ravel()


def true_rows(counts):
    first = starts(counts)
    rows = np.zeros(first[-1], dtype=bool)
    for start, count in zip(first, counts, strict=False):
        rows[start : start + count] = True
    return rows


@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize("fp8_out", [False, True])
@pytest.mark.parametrize(("tokens", "what"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_each_true_element_and_scale_is_written_once_and_no_padding(tokens, what, fp8_out, arch):
    counts, form = counts_of(what), gemm.pick_form(arch, fp8_out, tokens)
    first, true = starts(counts), true_rows(counts)
    elements, scales = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    for e, tile_m, tile_n in schedule(counts, N, form, ARCHES[arch]):
        row = maps.first_row(first[e], tile_m, form.tile_m)
        left = counts[e] - tile_m * form.tile_m
        r, column = writes(arch, form, tile_n)
        elements.append(maps.output_index(row + r, column, N)[r < left])
        r, block = scale_writes(arch, form, tile_n)
        scales.append(maps.output_scale_index(block, row + r, first[-1])[r < left])
    hits = np.bincount(np.concatenate(elements), minlength=first[-1] * N).reshape(-1, N)
    assert (hits == true[:, None]).all()
    hits = np.bincount(np.concatenate(scales), minlength=first[-1] * N // 128).reshape(N // 128, -1)
    assert (hits == true[None, :]).all()


@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize(("tokens", "what"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_boxes_hold_what_the_tile_multiplies_and_nothing_past_the_padding(tokens, what, arch):
    counts, form = counts_of(what), gemm.pick_form(arch, False, tokens)
    first = starts(counts)
    multiplied = {(e, tile_n): 0 for e, count in enumerate(counts) if count for tile_n in range(N // form.tile_n)}
    for e, tile_m, tile_n in schedule(counts, N, form, ARCHES[arch]):
        row = maps.first_row(first[e], tile_m, form.tile_m)
        for k in range(K_BLOCKS):
            box, k_box = maps.token_box(row, k, form.tile_m)
            assert (box * form.tile_m, k_box) == (row, k)
            assert first[e] <= box * form.tile_m and (box + 1) * form.tile_m <= first[e + 1]
            box, k_box, expert = maps.weight_box(tile_n, k, e)
            assert (expert, k_box) == (e, k) and box * form.tile_n >= 0 and (box + 1) * form.tile_n <= N
            assert box * form.tile_n == maps.first_column(tile_n, form.tile_n), "weight rows are output columns"
        multiplied[e, tile_n] += form.tile_m
    assert all(counts[e] <= rows < counts[e] + form.tile_m for (e, _), rows in multiplied.items())
