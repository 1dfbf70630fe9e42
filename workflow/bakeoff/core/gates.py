"""Two correctness gates side by side: the published one, and a strict one over the rows that have local experts.

Entry point: `judge`, whose answer is a `schema.gates.Judgement`. Works on any device and in slices of rows, so that the
full width needs little extra memory.
Known limit: the strict gate accepts any output within rounding noise of the reference, however it was made.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch

from bakeoff.core.bounds import PublishedGate, bounds
from bakeoff.core.moe.geometry import Geometry
from bakeoff.schema.gates import Gate, GateCheck, Judgement, Numerics

# Elements compared at once: what a CPU's caches hold, and 128 MB per temporary on a GPU.
SLICE = {"cpu": 1 << 17, "cuda": 1 << 25}
EPSILON = 1e-8  # FlashInfer-Bench adds it to |reference| before it divides


class Alternatives(Protocol):
    """Ambiguous tokens (bakeoff.core.moe.ambiguity.Ambiguity is one)."""

    flags: torch.Tensor  # (T,) bool

    def rows(self, token: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The token's admissible reference rows and their emulations, each (n, H)."""
        ...


def judge(
    output: torch.Tensor,
    reference: torch.Tensor,
    active: torch.Tensor,
    *,
    geometry: Geometry,
    ambiguous: Alternatives | None = None,
    emulation: torch.Tensor | None = None,
) -> Judgement:
    """output, reference, emulation: (T, H); active: (T,) bool, the rows that have a local expert; all on one device.

    emulation: what the solution's declared roundings give; needed below the full width. An ambiguous row is held
    against the admissible row that is nearest to it. Raises ValueError for shapes that differ or a missing emulation.
    """
    narrow = geometry.hidden < bounds().strict.full_width_from
    _check_arguments(output, reference, active, emulation, narrow)
    if ambiguous is not None:
        reference, emulation, active = _settle(output, reference, emulation, active, ambiguous)
    rows = compare(output, reference, bounds().published)
    numerics = _numerics(rows, active.cpu(), geometry.hidden, 0 if ambiguous is None else int(ambiguous.flags.sum()))
    if emulation is not None:
        distance = rows if emulation is reference else compare(output, emulation, bounds().published)
        whole, worst = _relative_l2(distance, active.cpu())
        numerics = numerics.model_copy(update={"emulation_l2": whole, "emulation_worst_row": worst})
    return Judgement(
        published=_published(numerics),
        strict=_strict_narrow(numerics) if narrow else _strict_full(numerics),
        numerics=numerics,
    )


@dataclass(frozen=True)
class RowSums:
    """Sums over the columns of each row, (T,) float64 on the CPU; x is the output, y what it is compared with."""

    missed: torch.Tensor  # elements beyond both tolerances
    non_finite: torch.Tensor
    nonzero: torch.Tensor
    max_abs: torch.Tensor
    max_rel: torch.Tensor
    dd: torch.Tensor  # <x - y, x - y>
    xx: torch.Tensor
    yy: torch.Tensor
    xy: torch.Tensor


def compare(output: torch.Tensor, reference: torch.Tensor, tolerance: PublishedGate) -> RowSums:
    """output, reference: (T, H) on one device. What all numerics are made of."""
    step = max(1, SLICE.get(output.device.type, SLICE["cpu"]) // output.shape[1])
    slices = []
    for start in range(0, len(output), step):
        x, y = output[start : start + step].float(), reference[start : start + step].float()
        difference = x - y
        error = difference.abs()
        relative = error / (y.abs() + EPSILON)
        columns = (
            (~((error <= tolerance.atol) | (relative <= tolerance.rtol))).sum(dim=1),  # not a number: missed
            (~x.isfinite()).sum(dim=1),
            x.count_nonzero(dim=1),
            error.amax(dim=1),
            relative.amax(dim=1),
            (difference * difference).sum(dim=1),
            (x * x).sum(dim=1),
            (y * y).sum(dim=1),
            (x * y).sum(dim=1),
        )
        slices.append(torch.stack([column.double() for column in columns]))
    return RowSums(*torch.cat(slices, dim=1).cpu())


def _numerics(rows: RowSums, active: torch.Tensor, hidden: int, ambiguous_rows: int) -> Numerics:
    active_rows, tokens = int(active.sum()), len(active)
    whole, worst = _relative_l2(rows, active)
    xx, yy, xy = (float(column[active].sum()) for column in (rows.xx, rows.yy, rows.xy))
    return Numerics(
        matched_ratio=1 - float(rows.missed.sum()) / (tokens * hidden),
        matched_ratio_active=_ratio(active_rows * hidden - float(rows.missed[active].sum()), active_rows * hidden),
        relative_l2=whole,
        worst_row_l2=worst,
        cosine=_ratio(xy, math.sqrt(xx * yy)),
        calc_diff=_difference(_ratio(2 * xy, xx + yy)),
        scale=_ratio(xy, yy),
        max_abs=_finite(float(rows.max_abs.max())),
        max_rel=_finite(float(rows.max_rel.max())),
        nonzero_inactive=int(rows.nonzero[~active].sum()),
        non_finite=int(rows.non_finite.sum()),
        active_rows=active_rows,
        ambiguous_rows=ambiguous_rows,
    )


def _relative_l2(rows: RowSums, active: torch.Tensor) -> tuple[float | None, float | None]:
    """Of the active rows together, and of the worst of them."""
    if not bool(active.any()):
        return None, None
    dd, yy = rows.dd[active], rows.yy[active]
    each = torch.where(dd == 0, 0.0, dd / yy)  # a row that equals an all-zero one is right
    whole = _ratio(float(dd.sum()), float(yy.sum())) if float(dd.sum()) else 0.0
    worst = _finite(float(each.max()))
    return None if whole is None else math.sqrt(whole), None if worst is None else math.sqrt(worst)


class _Condition(NamedTuple):
    value: float | int | None
    low: float | None
    high: float | None


def _published(n: Numerics) -> Gate:
    required = bounds().published.required_matched_ratio
    return _gate(
        matched_ratio=_Condition(n.matched_ratio, required, None), non_finite=_Condition(n.non_finite, None, 0)
    )


def _strict_full(n: Numerics) -> Gate:
    limits = bounds().strict.full if n.active_rows else {}
    conditions = {name: _Condition(getattr(n, name), limit.min, limit.max) for name, limit in limits.items()}
    return _gate(**conditions, **_exact(n))


def _strict_narrow(n: Numerics) -> Gate:
    b = bounds().strict.narrow
    conditions = {}
    if n.active_rows:
        conditions = {
            "emulation_l2": _Condition(n.emulation_l2, None, b.emulation_l2),
            "emulation_worst_row": _Condition(n.emulation_worst_row, None, b.emulation_worst_row),
        }
    if (n.active_rows or 0) >= b.reference_rows:
        conditions["relative_l2"] = _Condition(n.relative_l2, None, b.reference_l2)
    return _gate(**conditions, **_exact(n))


def _exact(n: Numerics) -> dict[str, _Condition]:
    return {
        "nonzero_inactive": _Condition(n.nonzero_inactive, None, 0),
        "non_finite": _Condition(n.non_finite, None, 0),
    }


def _gate(**conditions: _Condition) -> Gate:
    checks = {name: _check(condition) for name, condition in conditions.items()}
    return Gate(passed=all(check.passed for check in checks.values()), checks=checks)


def _check(condition: _Condition) -> GateCheck:
    value, low, high = condition
    # A value that is not finite (None) respects no bound.
    passed = value is not None and (low is None or value >= low) and (high is None or value <= high)
    bound = (low, high) if low is not None and high is not None else low if high is None else high
    assert bound is not None
    return GateCheck(value=value, bound=bound, passed=passed)


def _settle(
    output: torch.Tensor,
    reference: torch.Tensor,
    emulation: torch.Tensor | None,
    active: torch.Tensor,
    ambiguous: Alternatives,
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
    """Replace each ambiguous row of what the output is compared with by the admissible row nearest to the output."""
    reference, active = reference.clone(), active.clone()
    emulation = None if emulation is None else emulation.clone()
    for token in ambiguous.flags.nonzero().flatten().tolist():
        exact, rounded = ambiguous.rows(token)
        candidates = (exact if emulation is None else rounded).float()
        distance = (candidates - output[token].float()).square().sum(dim=1)
        nearest = int(distance.nan_to_num(nan=math.inf).argmin())
        reference[token] = exact[nearest]
        if emulation is not None:
            emulation[token] = rounded[nearest]
        active[token] = bool(exact[nearest].any())
    return reference, emulation, active


def _check_arguments(
    output: torch.Tensor,
    reference: torch.Tensor,
    active: torch.Tensor,
    emulation: torch.Tensor | None,
    narrow: bool,
) -> None:
    for name, tensor in (("reference", reference), ("emulation", emulation)):
        if tensor is not None and tensor.shape != output.shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}; expected {tuple(output.shape)}, as the output")
    if active.shape != output.shape[:1] or active.dtype != torch.bool:
        raise ValueError(f"active is {active.dtype} of shape {tuple(active.shape)}; expected bool ({len(output)},)")
    if narrow and emulation is None:
        raise ValueError(
            f"no emulation; below {bounds().strict.full_width_from} columns the strict gate compares with one"
        )


def _ratio(numerator: float, denominator: float) -> float | None:
    """None where the quotient is not a finite number."""
    return _finite(numerator / denominator) if denominator else None


def _difference(similarity: float | None) -> float | None:
    return None if similarity is None else 1 - similarity


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
