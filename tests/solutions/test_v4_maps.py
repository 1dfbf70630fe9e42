"""cutedsl_moe_fp8_v4's own maps by brute force, and its barriers in the model."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest
from support.cute_barriers import Fault
from support.cute_support import module
from support.gather_barriers import GatherProtocol, replay
from support.solution_support import module_of

geometry = module_of("cutedsl_moe_fp8_v4", "geometry")
maps, gemm = module("cute_maps"), module("cute_gemm")
FORM = replace(list(gemm.forms("sm_90a", False).values())[-1], stages=geometry.STAGES)


# --- schedule ---------------------------------------------------------------------------------------------------------


def choose(condition, yes, no):
    return yes if condition else no


def tiles_of(counts, n_tiles, k_blocks, clusters, together):
    """(expert, row tile, column tile, first K block, one past the last, number, parts) by cluster and rank, as the
    kernel's schedule deals them out."""
    jobs = [maps.jobs(maps.row_tiles(count, geometry.BLOCK), n_tiles, geometry.CLUSTER) for count in counts]
    ends = list(itertools.accumulate(jobs))
    before, many = geometry.last_round(ends[-1], clusters, k_blocks, max(counts), choose, together)
    total = before + (ends[-1] - before) * many
    for cluster in range(clusters):
        for job in range(cluster, total, clusters):
            whole, part, parts = geometry.split_job(job, before, many, choose)
            expert = sum(end <= whole for end in ends)
            local = whole - (ends[expert - 1] if expert else 0)
            tiles_m = maps.row_tiles(counts[expert], geometry.BLOCK)
            for rank in range(geometry.CLUSTER):
                piece, side = part, rank
                if together:
                    piece, side, *_ = geometry.pair_parts(part, parts, rank, choose)
                tile = tiles_m - 1, maps.lone_column_tile(local, tiles_m, n_tiles, side)
                if local < maps.row_pair_jobs(tiles_m, n_tiles):
                    tile = maps.paired_row_tile(local, tiles_m, side), maps.paired_column_tile(local, tiles_m)
                span = [geometry.part_start(p, parts, k_blocks) for p in (piece, piece + 1)]
                number = (whole - before) * geometry.CLUSTER + side
                yield cluster, (expert, *tile), span, number, piece, parts


def routings():
    draw = random.Random(7)
    yield [1] + [0] * 31
    yield [0] * 31 + [128]
    yield [129] * 32
    for most in (2, 16, 17, 300):
        for active in (1, 2, 6, 9, 12, 26, 32):
            counts = [draw.randint(1, most) for _ in range(active)] + [0] * (32 - active)
            draw.shuffle(counts)
            yield counts


@pytest.mark.parametrize("together", [False, True], ids=["apart", "together"])
@pytest.mark.parametrize("clusters", [2, 3, 66, 74])
@pytest.mark.parametrize(("n_tiles", "k_blocks"), [(16, 56), (28, 16), (2, 4), (2, 2)])
def test_every_tile_and_k_block_is_dealt_out_once(n_tiles, k_blocks, clusters, together):
    for counts in routings():
        seen, split, busy = set(), {}, {}
        for cluster, tile, span, number, part, parts in tiles_of(counts, n_tiles, k_blocks, clusters, together):
            blocks = {(*tile, k) for k in range(*span)}
            assert blocks and not blocks & seen
            seen |= blocks
            if parts > 1:
                assert max(counts) <= geometry.PATHS[0].rows
                assert (number + 1) * parts <= geometry.PARTIAL_BLOCKS
                assert 4 * (number + 1) <= geometry.HEAD_BYTES - geometry.TICKETS
                split.setdefault(number, []).append((tile, part))
                busy[cluster] = busy.get(cluster, 0) + 1
        wanted = {
            (expert, row, column, k)
            for expert, count in enumerate(counts)
            for row in range(-(-count // geometry.BLOCK))
            for column in range(n_tiles)
            for k in range(k_blocks)
        }
        assert seen == wanted
        assert set(busy.values()) <= {geometry.CLUSTER}, "a cluster got two parts"
        for found in split.values():
            assert len({tile for tile, _ in found}) == 1, "two tiles share a ticket"
            assert sorted(part for _, part in found) == list(range(len(found)))


def test_parts_of_rows_have_places_of_their_own_within_the_scratch():
    for active, parts in itertools.product((1, 2, 4), (2, 3, 4)):
        rows = [expert * geometry.BLOCK + row for expert in range(active) for row in range(geometry.PATHS[0].rows)]
        places = [geometry.part_row(row, part, parts) for row in rows for part in range(parts)]
        assert sorted(places) == list(range(len(places)))


# --- gather -----------------------------------------------------------------------------------------------------------


def test_gathering_threads_write_each_piece_of_a_slot_once_where_the_tensor_core_looks_for_it():
    loads = module_of("cutedsl_moe_fp8_v4", "loads")
    written = {}
    for thread, i in itertools.product(range(loads.GATHERERS), range(loads.ROUNDS)):
        row, piece = geometry.gathered_row(thread, i, loads.GATHERERS), geometry.gathered_piece(thread)
        if row < geometry.BLOCK:
            place = geometry.piece_place(row, piece)
            assert place not in written
            written[place] = (row, piece)
    assert len(written) == geometry.BLOCK * 8
    for place, (row, piece) in written.items():
        address = row * geometry.BLOCK + piece * 16
        # CuTe's Swizzle<3, 4, 3> of bytes: bits 7 to 9 of the address onto bits 4 to 6.
        assert place == address ^ (address >> 3 & 0x70)


# --- barriers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chip", ["hopper", "blackwell"])
@pytest.mark.parametrize("gathered", [True, False], ids=["gemm1", "gemm2"])
@pytest.mark.parametrize("k_blocks", [1, 3, 4, 5, 14, 16])
def test_the_barriers_run_through_in_many_orders(chip, gathered, k_blocks):
    for seed in range(4):
        replay(GatherProtocol(FORM, chip, k_blocks, jobs=3, gathered=gathered), seed)


WRONG = {
    "rows that count before they are there": {"arrive_at_once": True},
    "a gathering warp that is not counted": {"counted": 64},
    "a gathering warp too many": {"counted": 128},
    "the loader's parity one round off": {"empty_parity": lambda i, stages: i // stages % 2},
    "a parity that never turns": {"full_parity": lambda i, stages: 0},
}


@pytest.mark.parametrize("name", WRONG)
def test_the_model_objects_to_a_wrong_protocol(name):
    with pytest.raises(Fault):
        for seed in range(20):
            replay(GatherProtocol(FORM, "hopper", k_blocks=8, jobs=3, **WRONG[name]), seed)
