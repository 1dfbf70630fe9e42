"""Loads bounds.yaml, the one place where the gates' bounds stand."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import AfterValidator

from bakeoff.files import read_bytes, validate
from bakeoff.schema.base import Part
from bakeoff.schema.gates import Numerics

FILE = Path(__file__).with_name("bounds.yaml")


@dataclass(frozen=True)
class PublishedGate:
    """FlashInfer-Bench's gate."""

    rtol: float
    atol: float
    required_matched_ratio: float


@dataclass(frozen=True)
class Limit:
    """Between which values a figure must lie."""

    min: float | None = None
    max: float | None = None


def _figures(limits: dict[str, Limit]) -> dict[str, Limit]:
    unknown = sorted(limits.keys() - Numerics.model_fields.keys())
    if unknown:
        raise ValueError(f"figures of an output, such as relative_l2; {unknown[0]} is none")
    return limits


@dataclass(frozen=True)
class StrictNarrow:
    """Strict gate at a narrow width."""

    emulation_l2: float
    emulation_worst_row: float
    reference_l2: float
    reference_rows: int


@dataclass(frozen=True)
class StrictGate:
    """Strict gate, by width."""

    full_width_from: int
    full: Annotated[dict[str, Limit], AfterValidator(_figures)]
    """By name of a figure of schema.gates.Numerics; each is a condition of the gate."""
    narrow: StrictNarrow


class Bounds(Part):
    """bounds.yaml."""

    published: PublishedGate
    strict: StrictGate


@functools.cache
def bounds() -> Bounds:
    """The gates' bounds; a malformed file is an InputError."""
    return validate(yaml.safe_load(read_bytes(FILE)), Bounds, FILE)
