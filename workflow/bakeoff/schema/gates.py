"""What the correctness gates say about an output, and gate_power.json: how much they catch.

A figure of the gates is a field of `Numerics`, which core/gates.py computes and every document carries. `Rounding` is
what the strict gate's emulation repeats.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from bakeoff.schema.base import Part

Cast = Literal["float32", "bfloat16", "fp8_block128"]
Casts = Annotated[tuple[Cast, ...], Field(min_length=1)]


class Rounding(Part):
    """The casts at three points, in order; float32 in between. fp8_block128 is e4m3 with a scale of amax / 448 per 128
    columns."""

    gemm1_output: Casts
    """What SwiGLU reads."""
    intermediate: Casts
    """What GEMM2 reads."""
    gemm2_output: Casts
    """What the weighted combine reads."""


EXACT = Rounding(gemm1_output=("float32",), intermediate=("float32",), gemm2_output=("float32",))

# Share of the wrong outputs that differ from the right one which the strict gate has to reject.
REQUIRED_KILLS = 0.95


class GateCheck(Part):
    """One condition of a gate."""

    value: float | int | None
    """What was measured; null if it is not a finite number, or not defined on this output."""
    bound: float | int | tuple[float, float] | None
    """The bound, or [low, high]; null where there is no number to pass."""
    passed: bool
    """Whether the value respects the bound."""


class Gate(Part):
    """The answer of one correctness gate."""

    passed: bool
    """Whether all its conditions hold."""
    checks: dict[str, GateCheck] = Field(default_factory=dict)
    """By name of the condition."""


class Numerics(Part):
    """How far an output is from the float32 reference. Null where a value is not a finite number, or nothing is
    active."""

    matched_ratio: float | None = None
    """Share of all elements within rtol or atol of the published gate."""
    matched_ratio_active: float | None = None
    """The same on rows that have a local expert."""
    relative_l2: float | None = None
    """Relative L2 error of the active rows together."""
    worst_row_l2: float | None = None
    """Largest relative L2 error of a single active row."""
    cosine: float | None = None
    """Cosine similarity over the active rows."""
    calc_diff: float | None = None
    """1 - 2<x,y>/(<x,x>+<y,y>) over the active rows."""
    scale: float | None = None
    """Best-fit scale of the output against the reference, <x,y>/<y,y>, over the active rows."""
    max_abs: float | None = None
    """Largest |x - y| over all rows."""
    max_rel: float | None = None
    """Largest |x - y|/(|y| + 1e-8) over all rows."""
    emulation_l2: float | None = None
    """Relative L2 distance of the active rows from the emulation of the declared roundings; null without one."""
    emulation_worst_row: float | None = None
    """The same of the worst single active row."""
    nonzero_inactive: int | None = None
    """Elements that are not exactly zero in rows without a local expert."""
    non_finite: int | None = None
    """Elements that are infinite or not a number."""
    active_rows: int | None = None
    """Rows that have a local expert."""
    ambiguous_rows: int | None = None
    """Rows whose routing has more than one admissible answer."""


@dataclass(frozen=True)
class Judgement:
    """What both gates say about one output."""

    published: Gate
    """FlashInfer-Bench's gate."""
    strict: Gate
    """The strict gate over rows with local experts."""
    numerics: Numerics
    """The figures that both judge."""


@dataclass(frozen=True, kw_only=True)
class MutantPower:
    """One mutant over all workloads and families."""

    name: str
    """Name of the mutant."""
    must_die: bool
    """False if it is only measured."""
    mistake: str | None = None
    """What is wrong with it."""
    cells: int
    """(workload, value family) cells on which it was made."""
    excluded: int
    """Of these, output equal to the honest one bit for bit: not counted."""
    killed_published: int
    """Rejected by the published gate."""
    killed_strict: int
    """Rejected by the strict gate."""


class GatePower(Part):
    """gate_power.json: how much the correctness gates catch."""

    schema_: Literal["bakeoff/gate-power/1"] = Field("bakeoff/gate-power/1", alias="schema")
    definition: str
    """At which width it was measured."""
    families: list[str]
    """Value families of the mutants."""
    seed: int | None = None
    """Seed of the values."""
    rows: int | None = None
    """Rows sampled from each workload; null if all."""
    rounding: Rounding | None = None
    """Roundings of the honest solution that the mutants derive from."""
    mutants: list[MutantPower]
    """Every mutant."""
    counted: int
    """Mutant cells that must die and differ from the honest output."""
    excluded: int
    """Mutant cells that must die, but do not differ from it."""
    killed_published: int
    """Of the counted, rejected by the published gate."""
    killed_strict: int
    """Of the counted, rejected by the strict gate."""
    survivors: list[dict[str, str]] = Field(default_factory=list)
    """Counted cells that the strict gate passed: mutant, workload, family."""
    honest_cells: int
    """Cells of the honest solution that the mutants derive from."""
    honest_rejected_published: int
    """Of these, rejected by the published gate."""
    honest_rejected_strict: int
    """Of these, rejected by the strict gate; more than none makes the gate useless."""

    @model_validator(mode="before")
    @classmethod
    def _mistakes_of_mutants(cls, document: Any) -> Any:
        """Files of recorded runs name the mistakes in a mapping of their own."""
        if not isinstance(document, dict) or not isinstance(document.get("mistakes"), dict):
            return document
        mistakes, rest = document["mistakes"], {name: part for name, part in document.items() if name != "mistakes"}
        mutants = rest.get("mutants")
        if isinstance(mutants, list) and all(isinstance(mutant, dict) for mutant in mutants):
            rest["mutants"] = [{"mistake": mistakes.get(mutant.get("name")), **mutant} for mutant in mutants]
        return rest

    @property
    def sufficient(self) -> bool:
        """Whether the strict gate kills its share and rejects no honest output."""
        return self.killed_strict >= REQUIRED_KILLS * self.counted and not self.honest_rejected_strict
