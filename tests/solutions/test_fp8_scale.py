"""One definition of the FP8 scale in three languages: amax / 448, 1 for a block of zeros; values x / scale."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from support.cute_support import module
from support.solution_support import module_of

maps = module("cute_maps")
cpu = module_of("deepgemm_moe", "common.cpu_stages")
LARGEST = [0.0, 1e-44, 1e-38, 9.9e-31, 1e-30, 1.2e-30, 3e-7, 1.0, 447.9, 3e38]


def one_block(largest: float) -> torch.Tensor:
    row = torch.linspace(-1, 1, 128) * largest
    row[-1] = largest
    return row[None]


@pytest.mark.parametrize("largest", LARGEST)
def test_a_block_however_small_gets_a_finite_scale_and_finite_values(largest):
    rows = cpu.quantize(one_block(largest))
    scale = float(rows.scale)
    product = np.float32(largest) * np.float32(1 / 448)  # as the device kernels compute it
    assert scale == (1.0 if largest < 1e-30 else pytest.approx(float(product), rel=2.0**-22))
    assert np.isfinite(1 / np.float32(scale))
    assert rows.data.float().isfinite().all()
    if largest < 1e-30:
        assert not rows.data.float().any(), "counts as zeros"


def test_the_three_definitions_have_the_same_numbers():
    triton = module_of("deepgemm_moe", "common.triton_kernels")
    assert triton.FP8_ZERO.value == maps.FP8_ZERO == cpu.FP8_ZERO
    assert triton.FP8_INVERSE_MAX.value == 1 / maps.FP8_MAX == 1 / cpu.FP8_MAX


def test_the_cutedsl_kernels_compare_with_the_bound():
    pytest.importorskip("cutlass", reason="needs nvidia-cutlass-dsl: make setup")
    gemm = module("cute_gemm")
    ptx = gemm.compile_gemm("gemm1", "sm_90a", gemm.pick_form("sm_90a", True, 16)).__ptx__
    bound = f"0f{np.float32(maps.FP8_ZERO).view('u4'):08X}"
    inverse = f"0f{np.float32(1 / maps.FP8_MAX).view('u4'):08X}"
    assert re.search(rf"setp\.\w+\.f32[^;]*{bound}", ptx)
    assert re.search(rf"mul\.f32[^;]*{inverse}", ptx)
