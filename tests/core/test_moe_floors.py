"""Floors: the known ones of uniform routing, and one counted by hand."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from bakeoff.core.moe.floors import PEAKS, floor
from bakeoff.core.moe.geometry import Geometry
from bakeoff.errors import InputError
from bakeoff.files import PROJECT_ROOT
from bakeoff.traces.store import TraceRoot

FULL = Geometry(7168, 2048)
B200, H200, H100 = "NVIDIA B200", "NVIDIA H200", "NVIDIA H100 80GB HBM3"
# Microseconds under uniform routing.
KNOWN = {
    1: (5.5, 9.2, 13.2),
    16: (70, 117, 168),
    80: (163, 271, 388),
    901: (179, 298, 427),
    11948: (234, 532, 532),
    14107: (276, 628, 628),
}


@dataclass
class Expected:
    """Expected work of one rank of eight when each token picks one expert of each rank's 32 on average."""

    local_pairs: float
    active_tokens: float
    active_experts: float

    @classmethod
    def uniform(cls, tokens: int) -> Expected:
        return cls(tokens, tokens / 2, 32 * (1 - (31 / 32) ** tokens))


@pytest.mark.parametrize("tokens", KNOWN)
def test_floors_of_uniform_routing_are_the_known_ones(tokens):
    least = floor(FULL, tokens, Expected.uniform(tokens))
    for name, known in zip((B200, H200, H100), KNOWN[tokens], strict=True):
        assert least.us(PEAKS[name]) == pytest.approx(known, rel=0.03)


def test_three_tokens_of_which_one_has_two_local_experts_counted_by_hand():
    least = floor(FULL, 3, Expected(2, 1, 2))
    weights = 2 * (4096 * 7168 + 7168 * 2048 + 4 * (32 * 56 + 56 * 16))
    assert least.parts == {
        "weights": weights,
        "activations": 7168 + 4 * 56,
        "routing": 3 * 1024 + 512,
        "output": 3 * 14336,
    }
    assert least.bytes == sum(least.parts.values())
    assert least.flops == 2 * 2 * (4096 * 7168 + 7168 * 2048)


def test_the_larger_of_memory_and_arithmetic_counts():
    memory, arithmetic = floor(FULL, 901, Expected.uniform(901)), floor(FULL, 14107, Expected.uniform(14107))
    peak = PEAKS[H100]
    assert memory.us(peak) == pytest.approx(memory.bytes / 3.35e6)
    assert arithmetic.us(peak) == pytest.approx(arithmetic.flops / 1979e6)


def test_every_workload_has_a_floor_from_its_own_routing():
    for case in TraceRoot(PROJECT_ROOT / "traces").workloads(FULL.name):
        least = floor(FULL, case.seq_len, case.stats)
        assert least.flops == 2 * 3 * 7168 * 2048 * case.stats.local_pairs
        assert least.bytes > case.stats.active_experts * 3 * 7168 * 2048


def test_geometry_reads_the_definitions_axes():
    root = TraceRoot(PROJECT_ROOT / "traces")
    assert Geometry.of(root.definition(FULL.name)) == FULL
    narrow = Geometry(512, 256)
    assert Geometry.of(root.definition(narrow.name)) == narrow


@pytest.mark.parametrize(
    ("axis", "value", "message"),
    [
        ("hidden_size", None, "no constant axis"),
        ("intermediate_size", 200, "whole blocks"),
        ("num_local_experts", 512, "more than 256"),
    ],
)
def test_a_definition_that_does_not_fit_is_refused(axis, value, message):
    definition = TraceRoot(PROJECT_ROOT / "traces").definition(FULL.name).model_copy(deep=True)
    if value is None:
        del definition.axes[axis]
    else:
        definition.axes[axis].value = value
    with pytest.raises(InputError, match=message):
        Geometry.of(definition)
