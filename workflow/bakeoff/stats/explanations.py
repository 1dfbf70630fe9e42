"""The explanations of a published report (explanations.yaml beside its claims), tested on the profile of a run.

Entry point: `explanations_of`. The answer is CONFIRMED or CONTRADICTED for the GPU and the sources that were
profiled, or NOT TESTABLE with what would test it: a solution that the run lacks, a cell or a counter that its profile
lacks, a design that only another chip runs.

The language is that of `stats.expressions`. Names: `seq_len` and `local_pairs` of the workloads; figures computed
before; and `SHORT.COLUMN` of a solution. A column is a number of each profiled cell (`busy_us`, `floor_share`: the
schema of the profile lists them), one of a stage behind the stage's name (`gemm1_us`, `combine_dram_share`), or
`speedup` over the reference. `GROUP.COLUMN` has a row per profiled solution of a group. Functions beside those of
`stats.expressions`: `sum`, `first`, `part(a, b)` (a over b where b is positive, else 0), `least(G)` (least of a group),
`at_least(G, H)` (H of the solution that has the least G).
"""

import ast
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bakeoff.errors import InputError
from bakeoff.files import read_yaml
from bakeoff.schema.analysis_outside import ClaimResult, ClaimVerdict
from bakeoff.schema.claims import Claim, Claims
from bakeoff.schema.explanations import ExplanationRule, Explanations
from bakeoff.schema.profile import CellProfile, ProfileSection
from bakeoff.stats.expressions import ExpressionError, PublishedTable, Scope, evaluate

SPEEDUP = "speedup"
Speedups = Mapping[tuple[str, str], float]
Sizes = Mapping[str, Mapping[str, int]]


class Lacking(Exception):
    """The run has not what a test needs; the text says what would give it."""


def explanations_of(
    section: ProfileSection, sizes: Sizes, solutions: Sequence[str], speedups: Speedups, folder: Path
) -> list[ClaimResult]:
    """All explanations of a published folder, in the report's order; none where it has none.

    sizes: seq_len and local_pairs of the run's workloads, in its order. solutions: all of the run, profiled or not.
    speedups: (solution, workload) -> over the reference. A test that does not fit the profile's columns or the language
    is an InputError.
    """
    path = folder / "explanations.yaml"
    if not path.is_file():
        return []
    rules = read_yaml(path, Explanations)
    claims = {claim.id: claim for claim in read_yaml(folder / "claims.yaml", Claims).claims}
    evidence = Evidence(section, sizes, frozenset(solutions), rules, frame(section, speedups))
    return [_tested(rule, claims.get(rule.id), evidence, path) for rule in rules.explanations]


def frame(section: ProfileSection, speedups: Speedups) -> pd.DataFrame:
    """One row per profiled cell, by (solution, workload): its numbers, those of its stages, and its speedup."""
    rows = {
        (cell.solution, cell.workload): {
            **_numbers(cell),
            **{f"{one.stage}_{name}": value for one in cell.stages for name, value in _numbers(one).items()},
            SPEEDUP: speedups.get((cell.solution, cell.workload), math.nan),
        }
        for cell in section.cells
    }
    return pd.DataFrame.from_dict(rows, orient="index").astype(float)


def _numbers(part: Any) -> dict[str, float]:
    """The numeric fields of a model; null is NaN."""
    values = {name: getattr(part, name) for name in type(part).model_fields}
    return {
        name: math.nan if value is None else value
        for name, value in values.items()
        if value is None or isinstance(value, int | float)
    }


def _tested(rule: ExplanationRule, claim: Claim | None, evidence: "Evidence", path: Path) -> ClaimResult:
    place, text = rule.place or (claim and claim.place), rule.text or (claim and claim.text)
    if place is None or text is None:
        raise _flaw(path, rule, "no place and text of its own, and no claim of this id")
    numbers: dict[str, float] = {}
    verdict, needs = ClaimVerdict.NOT_TESTABLE, None
    try:
        holds, numbers = _run(rule, evidence)
        verdict = ClaimVerdict.CONFIRMED if holds else ClaimVerdict.CONTRADICTED
    except Lacking as lacking:
        needs = str(lacking)
    except (ExpressionError, KeyError) as error:
        raise _flaw(path, rule, str(error)) from error
    return ClaimResult(
        id=rule.id,
        place=place,
        kind="explanation",
        text=text,
        expression=rule.test,
        verdict=verdict,
        numbers=numbers,
        needs=needs,
    )


def _run(rule: ExplanationRule, evidence: "Evidence") -> tuple[bool, dict[str, float]]:
    """Whether it holds, and the numbers that this rests on."""
    backend = evidence.section.backend
    if rule.holds is None or rule.backend not in (None, backend):
        raise Lacking(evidence.named(rule.needs or ""))
    found: dict[str, Any] = {}
    numbers: dict[str, float] = {}
    for figure in rule.figures:
        if figure.backend in (None, backend):
            workloads = evidence.workloads(figure.over)
            value = evidence.value(figure.value, workloads, found)
            found[figure.as_] = value
            if figure.name:
                numbers |= evidence.printed(figure.name, value, workloads)
    holds = evidence.value(rule.holds, evidence.workloads(None), found)
    if not isinstance(holds, bool):
        raise ExpressionError(f"`holds` is true or false, not {holds!r}")
    return holds, numbers


@dataclass(frozen=True)
class Evidence:
    """A profile as the tests ask for it; whatever is not there raises Lacking."""

    section: ProfileSection
    sizes: Sizes
    solutions: frozenset[str]
    rules: Explanations
    cells: pd.DataFrame

    @functools.cached_property
    def by_place(self) -> dict[tuple[str, str], CellProfile]:
        return {(one.solution, one.workload): one for one in self.section.cells}

    def workloads(self, condition: str | None) -> list[str]:
        """Ids of the run's workloads that a condition selects, in its order."""
        ids = list(self.sizes)
        if condition is None:
            return ids
        chosen = evaluate(condition, _Scope(self._sizes(ids), {}))
        if not isinstance(chosen, list) or not all(isinstance(one, bool) for one in chosen):
            raise ExpressionError(f"{condition!r} is no condition on the workloads")
        kept = [name for name, keep in zip(ids, chosen, strict=True) if keep]
        if not kept:
            raise Lacking(f"a run with workloads of {condition}")
        return kept

    def value(self, expression: str, workloads: list[str], found: Mapping[str, Any]) -> Any:
        """An expression over some workloads: a truth value, a number, or an array of one per workload."""
        sizes = self._sizes(workloads)
        scope = _Scope(PublishedTable({**sizes.columns, **found}, {}), dict(self._tables(expression, workloads)))
        try:
            value = evaluate(expression, scope)
        except ExpressionError as error:
            if "not a finite number" in str(error):
                raise Lacking(f"a profile in which no divisor of {expression} is 0") from error
            raise
        return np.array(value) if isinstance(value, list) else value

    def printed(self, name: str, value: Any, workloads: list[str]) -> dict[str, float]:
        values = np.atleast_1d(np.asarray(value, dtype=float))
        if len(values) != (len(workloads) if "{workload}" in name else 1):
            raise ExpressionError(f"{len(values)} values of {name!r}")
        shown = workloads if "{workload}" in name else [""]
        return {self.named(name, one): round(float(each), 6) for one, each in zip(shown, values, strict=True)}

    def named(self, text: str, workload: str = "") -> str:
        return text.format(**self.rules.names, workload=workload)

    def _sizes(self, workloads: list[str]) -> PublishedTable:
        names = ("seq_len", "local_pairs")
        return PublishedTable(
            {name: np.array([float(self.sizes[one][name]) for one in workloads]) for name in names}, {}
        )

    def _tables(self, expression: str, workloads: list[str]) -> Iterator[tuple[str, PublishedTable]]:
        """The columns that an expression reads, of each solution and group that it names."""
        used: dict[str, set[str]] = {}
        for node in ast.walk(ast.parse(expression, mode="eval")):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                used.setdefault(node.value.id, set()).add(node.attr)
        for short, columns in used.items():
            if short in self.rules.groups:
                members = [self._solution(one) for one in self.rules.groups[short]]
                profiled = [one for one in members if one in self.cells.index]
                if not profiled:
                    raise Lacking(f"bakeoff profile RUN --solution {members[0]}")
                rows = {name: np.array([self._column(one, name, workloads) for one in profiled]) for name in columns}
            elif short in self.rules.names:
                rows = {name: self._column(self._solution(short), name, workloads) for name in columns}
            else:
                raise ExpressionError(f"no solution or group {short}")
            yield short, PublishedTable(rows, {})

    def _solution(self, short: str) -> str:
        name = self.rules.names[short]
        if name not in self.solutions:
            raise Lacking(f"solution {name} is not in this run")
        return name

    def _column(self, solution: str, name: str, workloads: list[str]) -> Any:
        if not self.cells.empty and name not in self.cells.columns:
            raise ExpressionError(f"no column {name} of a profiled cell")
        there = self.cells.xs(solution) if solution in self.cells.index else self.cells.iloc[:0]
        values = there.reindex(workloads)[name].to_numpy() if len(there) else np.full(len(workloads), math.nan)
        for workload, value in zip(workloads, values, strict=True):
            if math.isnan(value):
                raise Lacking(self._remedy(solution, workload, name))
        return values

    def _remedy(self, solution: str, workload: str, column: str) -> str:
        """What would give a number that is missing."""
        cell = self.by_place.get((solution, workload))
        if cell is None:
            return f"bakeoff profile RUN --solution {solution} --workload {workload}"
        if column == SPEEDUP:
            return f"a measured run: a speedup of {solution} at {workload}"
        if column.endswith(("floor_us", "floor_share")):
            return f"a GPU with listed peaks (workflow/bakeoff/core/moe/floors.py), and a rounding of {solution}"
        return (
            f"bakeoff profile RUN --solution {solution} --tier ncu   ({cell.counters_missing or f'no {column} here'})"
        )


@dataclass(frozen=True)
class _Scope(Scope):
    """The claims' language with what profiles need beside it."""

    def functions(self) -> dict[str, Callable[..., Any]]:
        return {
            **super().functions(),
            "sum": np.sum,
            "first": lambda column: column[0],
            "part": _part_of,
            "least": lambda group: group.min(axis=0),
            "at_least": lambda by, group: np.take_along_axis(group, by.argmin(axis=0)[None], axis=0)[0],
        }


def _part_of(some: Any, whole: Any) -> Any:
    """some / whole where whole is positive, else 0."""
    positive = np.asarray(whole) > 0
    return np.where(positive, some / np.where(positive, whole, 1.0), 0.0)[()]


def _flaw(path: Path, rule: ExplanationRule, found: str) -> InputError:
    return InputError(
        f"{path}: explanation {rule.id}",
        found=found,
        expected="a test over the columns of a profile",
        hint="correct it; the language is described in workflow/bakeoff/stats/explanations.py",
    )
