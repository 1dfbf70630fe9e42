"""The counter-based generator: pinned bits, no overflow, and numbers that look random."""

from __future__ import annotations

import hashlib

import pytest
import torch
from bakeoff.core.moe import generator
from bakeoff.core.moe.generator import MASK, MIX_1, MIX_2, SPREAD, draw, draw_flat, stream_key, table


def mixed(key: tuple[int, int], counter: int) -> int:
    """The hash in Python's integers, which cannot overflow."""
    h = (counter * SPREAD + key[0]) & MASK
    h = (((h ^ h >> 16) * MIX_1) & MASK) ^ key[1]
    h = ((h ^ h >> 13) * MIX_2) & MASK
    return h ^ h >> 16


@pytest.mark.parametrize("unit", [0, 1, 77, 2**25 - 1])
def test_draws_equal_unbounded_integer_arithmetic(unit):
    key = (MASK, MASK)
    hashes = [mixed(key, unit * 64 + i) for i in range(64)]
    assert draw(key, torch.tensor([unit]))[0].tolist() == [h & 0xFFFF for h in hashes] + [h >> 16 for h in hashes]


def test_drawn_bits_are_pinned():
    numbers = draw_flat(stream_key("pin", 0), 1000, "cpu").to(torch.int32)
    assert hashlib.sha256(numbers.numpy().tobytes()).hexdigest() == (
        "017c546a422de6a95a4539ecb152eff7069336a0c190d8549bdbd706bde21b12"
    )


def test_any_part_of_a_stream_can_be_drawn_alone():
    key = stream_key("part")
    whole = draw(key, torch.arange(40))
    assert torch.equal(draw(key, torch.tensor([7, 33])), whole[[7, 33]])
    assert torch.equal(draw_flat(key, 700, "cpu"), whole.flatten()[:700])


@pytest.mark.parametrize("name", generator.TABLE_DIGESTS)
def test_tables_are_what_every_machine_must_have(name):
    assert len(table(name, "cpu"))


def test_a_table_that_comes_out_otherwise_is_refused(monkeypatch):
    monkeypatch.setitem(generator._BUILDERS, "normal", lambda: torch.zeros(65536))
    table.cache_clear()
    with pytest.raises(RuntimeError, match="table normal: found sha256"):
        table("normal", "cpu")
    table.cache_clear()


def test_numbers_are_uniform_in_both_halves_of_the_hash():
    numbers = draw(stream_key("uniform"), torch.arange(8192))
    for half in (numbers[:, :64], numbers[:, 64:]):
        for bits in (half >> 8, half & 0xFF):
            counts = torch.bincount(bits.flatten(), minlength=256).double()
            expected = bits.numel() / 256
            chi_square = float(((counts - expected) ** 2 / expected).sum())
            assert 150 < chi_square < 380  # 255 degrees of freedom: 255 +- 5.5 standard deviations


def test_neighbouring_numbers_units_and_streams_are_uncorrelated():
    a = draw(stream_key("a"), torch.arange(4096)).double()
    b = draw(stream_key("b"), torch.arange(4096)).double()
    pairs = {
        "next number": (a[:, :-1], a[:, 1:]),
        "next unit": (a[:-1], a[1:]),
        "halves of a hash": (a[:, :64], a[:, 64:]),
        "other stream": (a, b),
    }
    for what, (x, y) in pairs.items():
        x, y = x.flatten() - x.mean(), y.flatten() - y.mean()
        correlation = float((x @ y) / (x.norm() * y.norm()))
        assert abs(correlation) < 5 / x.numel() ** 0.5, what


def test_every_input_bit_changes_half_of_the_output():
    key = stream_key("avalanche")
    for counter in (0, 12345, 2**30):
        for bit in range(31):
            flips = [bin(mixed(key, counter + n) ^ mixed(key, (counter + n) ^ 1 << bit)).count("1") for n in range(64)]
            assert 13.5 < sum(flips) / 64 < 18.5  # 16 +- 7 standard deviations of 64 times 32 fair coins
