"""What solutions choose by the size of a batch: tiles, tunings, expected rows."""

from __future__ import annotations

from typing import Any

import pytest
from support.solution_support import module_of


def test_deepgemm_is_told_few_different_expected_row_counts():
    expected = module_of("deepgemm_moe", "cuda").expected_rows
    assert {t: expected(t) for t in (1, 80, 901, 14107)} == {1: 1, 80: 2, 901: 32, 14107: 512}


def tuning(rows: int, columns: int = 256) -> dict[str, Any]:
    return {"block_shape": (rows, columns, 128), "warp_shape": (rows, 32, 128), "use_stream_k": True, "other": rows}


def test_the_tunings_of_humming_are_those_of_the_batch_without_cuts_along_k():
    pick = module_of("humming_moe", "forms").pick_tunings
    first = [(0, 4, tuning(8)), (4, 100, tuning(16)), (100, 1 << 30, tuning(64))]
    second = [(0, 50, tuning(8)), (50, 200, tuning(64)), (200, 1 << 30, tuning(32))]
    free = [[one["other"] for one in pick((first, second), t, same_tile=False)] for t in (1, 4, 5, 60, 101, 5000)]
    assert free == [[8, 8], [8, 8], [16, 8], [16, 64], [64, 64], [64, 32]]
    for tokens in (1, 4, 5, 60, 101, 5000):
        one, other = pick((first, second), tokens, same_tile=True)
        assert one["block_shape"][0] == other["block_shape"][0] == other["warp_shape"][0], tokens
        assert not one["use_stream_k"] and not other["use_stream_k"]
    assert pick((first, second), 5000, same_tile=True)[1]["other"] == 64, "the nearest interval with that tile"
    assert first[0][2]["use_stream_k"], "the library's table is left alone"


def test_the_forms_cover_all_batches_and_their_tiles_fit_the_scales():
    gemm = module_of("triton_grouped_moe", "common.triton_gemm")
    limits = [row[0] for row in gemm.FORMS]
    assert limits == sorted(set(limits)) and limits[-1] > 1 << 20
    for _, *forms in gemm.FORMS:
        assert all(128 % form.columns == 0 for form in forms), "one scale of the weights for a tile"
        assert all((form.columns if form.swap else form.rows) % 64 == 0 for form in forms), "rows of wgmma"


@pytest.mark.parametrize("tokens", [1, 5, 80, 901])
def test_no_routing_needs_more_tiles_than_the_programs_are_chosen_for(tokens):
    gemm = module_of("triton_grouped_moe", "common.triton_gemm")
    for form in {form for _, *forms in gemm.FORMS for form in forms}:
        worst = 0
        for busy in range(1, 33):  # experts with rows: one tile that is not full in all of them but one
            counts = [1] * (busy - 1) if busy <= 8 * tokens else []
            counts.append(8 * tokens - sum(counts))
            worst = max(worst, sum(-(-count // form.rows) for count in counts))
        assert gemm._most_tiles(tokens, form, 512) >= worst * (512 // form.columns)
