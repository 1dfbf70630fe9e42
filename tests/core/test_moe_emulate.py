"""Emulated roundings against an independent float64 implementation, and what the Emulator shares."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bakeoff.core.moe import reference, routing
from bakeoff.core.moe.emulate import DequantizedWeights, Emulator, cast, emulate
from bakeoff.core.moe.inputs import make_inputs
from bakeoff.schema.gates import EXACT, Rounding
from pydantic import ValidationError
from support.moe_cases import NARROW, TINY, SmallCase

FP8, BF16 = ("fp8_block128",), ("bfloat16",)
ROUNDINGS = {
    "v3": Rounding(gemm1_output=BF16 + FP8, intermediate=FP8, gemm2_output=BF16),
    "v3_2": Rounding(gemm1_output=FP8, intermediate=FP8, gemm2_output=BF16),
    "triton": Rounding(gemm1_output=BF16, intermediate=FP8, gemm2_output=BF16),
}


def e4m3_values() -> np.ndarray:
    """All finite non-negative e4m3 numbers, from their definition."""
    subnormal = [m * 2.0**-9 for m in range(8)]
    normal = [(1 + m / 8) * 2.0 ** (e - 7) for e in range(1, 16) for m in range(8)]
    return np.array(subnormal + normal[:-1])  # the last code is not a number


def to_e4m3(x: np.ndarray) -> np.ndarray:
    """Round to nearest e4m3, ties to the even code, by distance."""
    values = e4m3_values()
    distance = np.abs(np.abs(x)[..., None] - values)
    nearest = distance == distance.min(axis=-1, keepdims=True)
    even = nearest & (np.arange(len(values)) % 2 == 0)
    pick = np.where(even.any(axis=-1), even.argmax(axis=-1), nearest.argmax(axis=-1))
    return np.sign(x) * values[pick]


def test_fp8_cast_is_that_of_the_number_format():
    x = torch.randn(6, 256, generator=torch.Generator().manual_seed(1)) * 10
    blocks = x.double().numpy().reshape(6, 2, 128)
    scale = np.abs(blocks).max(axis=2, keepdims=True) / 448
    expected = (to_e4m3(blocks / scale) * scale).reshape(6, 256)
    np.testing.assert_allclose(cast(x, FP8).numpy(), expected, rtol=1e-6)


def test_fp8_cast_keeps_zero_blocks_and_the_largest_value():
    x = torch.zeros(1, 256)
    x[0, 200] = -3.0
    assert torch.equal(cast(x, FP8)[0, :128], torch.zeros(128))
    assert float(cast(x, FP8)[0, 200]) == pytest.approx(-3.0)


def test_casts_apply_in_order():
    x = torch.randn(3, 128, generator=torch.Generator().manual_seed(2))
    assert torch.equal(cast(x, BF16 + FP8), cast(cast(x, BF16), FP8))
    assert torch.equal(cast(x, ("float32",)), x)


@pytest.mark.parametrize("family", ["fib", "realistic"])
@pytest.mark.parametrize(("tokens", "offset"), [(1, 32), (7, 192), (129, 0), (901, 96)])
def test_without_roundings_it_is_the_reference(family, tokens, offset):
    inputs = make_inputs(TINY, SmallCase(tokens, offset), family, 0)
    exact, expected = emulate(TINY, inputs, EXACT).float(), reference.run(**inputs).float()
    assert torch.allclose(exact, expected, rtol=2**-7, atol=1e-5 * float(expected.abs().max()))
    assert torch.equal(exact.any(dim=1), expected.any(dim=1))


@pytest.mark.parametrize(
    ("name", "error", "matched"), [("v3", 0.043, 0.866), ("v3_2", 0.043, 0.866), ("triton", 0.023, 0.927)]
)
def test_roundings_cost_what_is_known_of_them(name, error, matched):
    inputs = make_inputs(NARROW, SmallCase(901, 96), "fib", 0)
    y, x = reference.run(**inputs).float(), emulate(NARROW, inputs, ROUNDINGS[name]).float()
    active = y.any(dim=1)
    x, y = x[active], y[active]
    assert float((x - y).norm() / y.norm()) == pytest.approx(error, abs=0.003)
    missed = ((x - y).abs() > 0.2 * y.abs()) & ((x - y).abs() > 0.1)
    assert 1 - float(missed.float().mean()) == pytest.approx(matched, abs=0.01)


def test_shared_steps_give_what_a_fresh_run_gives():
    inputs = make_inputs(TINY, SmallCase(130, 64), "fib", 0)
    weights = DequantizedWeights(inputs)
    emulator = Emulator(TINY, inputs, weights)
    for rounding in (*ROUNDINGS.values(), *ROUNDINGS.values()):
        assert torch.equal(emulator.run(rounding), emulate(TINY, inputs, rounding))
    other = make_inputs(TINY, SmallCase(9, 96), "fib", 0)
    assert torch.equal(Emulator(TINY, other, weights).run(EXACT), emulate(TINY, other, EXACT))


def test_weights_that_are_not_kept_are_the_same():
    inputs = make_inputs(TINY, SmallCase(5, 64), "fib", 0)
    kept, dropped = DequantizedWeights(inputs, keep=True), DequantizedWeights(inputs, keep=False)
    assert torch.equal(kept.gemm1(3), dropped.gemm1(3)) and torch.equal(kept.gemm2(3), dropped.gemm2(3))
    assert kept.gemm1(3) is kept.gemm1(3) and dropped.gemm1(3) is not dropped.gemm1(3)


def test_no_local_token_gives_exact_zeros():
    inputs = make_inputs(TINY, SmallCase(2, 0), "fib", 0)
    empty = routing.Pairs(*(torch.empty(0, dtype=d) for d in (torch.int64, torch.int64, torch.float32)))
    output = Emulator(TINY, inputs, pairs=empty).run(ROUNDINGS["v3"])
    assert output.shape == (2, TINY.hidden) and not output.view(torch.int16).any()


@pytest.mark.parametrize("wrong", [{"gemm1_output": []}, {"intermediate": ["fp4"]}, {"more": ["float32"]}])
def test_unknown_roundings_are_refused(wrong):
    with pytest.raises(ValidationError):
        Rounding.model_validate(EXACT.model_dump() | wrong)
