"""Loads bounds.yaml, the one place where the gates' bounds stand."""

from __future__ import annotations

import functools
from pathlib import Path

import yaml

from bakeoff.files import read_bytes, validate
from bakeoff.schema.base import Part

FILE = Path(__file__).with_name("bounds.yaml")


class PublishedGate(Part):
    """FlashInfer-Bench's gate."""

    rtol: float
    atol: float
    required_matched_ratio: float


class StrictFull(Part):
    """Strict gate at the full width."""

    relative_l2: float
    worst_row_l2: float
    calc_diff: float
    matched_ratio_active: float
    scale: tuple[float, float]


class StrictNarrow(Part):
    """Strict gate at a narrow width."""

    emulation_l2: float
    emulation_worst_row: float
    reference_l2: float
    reference_rows: int


class StrictGate(Part):
    """Strict gate, by width."""

    full_width_from: int
    full: StrictFull
    narrow: StrictNarrow


class Bounds(Part):
    """bounds.yaml."""

    published: PublishedGate
    strict: StrictGate


@functools.cache
def bounds() -> Bounds:
    """The gates' bounds; a malformed file is an InputError."""
    return validate(yaml.safe_load(read_bytes(FILE)), Bounds, FILE)
