"""A/A: a solution that runs a second time under another name must not be told apart from itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from bakeoff.config import Config, resolve
from bakeoff.errors import InputError
from bakeoff.plan import make_plan
from bakeoff.profile import due
from bakeoff.schema.analysis import Analysis
from bakeoff.schema.analysis_run import Check
from bakeoff.stats.analyse import analyse
from bakeoff.stats.runs import load_run
from support.make import FOUR, Made, write

TWIN = "cutedsl_moe_fp8_v3.twin"


def document(folder: Any, **changes: Any) -> Analysis:
    """The analysis of a run in which the first solution is there twice."""
    made = Made(speed={**FOUR, TWIN: FOUR["cutedsl_moe_fp8_v3"]}, peers=[TWIN], **changes)
    data = load_run(write(made, folder))
    participants = [
        who.model_copy(update={"twin_of": "cutedsl_moe_fp8_v3"}) if who.name == TWIN else who
        for who in data.participants
    ]
    return analyse(data.__class__(**{**data.__dict__, "participants": participants}))


def check(folder: Any, **changes: Any) -> Check | None:
    made = document(folder, **changes)
    return next((found for found in made.validity if found.code == "twins_same"), None)


def test_noise_alone_tells_no_twins_apart(tmp_path: Any) -> None:
    found = check(tmp_path, seed=3)
    assert found and (found.status, found.found, found.of, found.items) == ("ok", 0, 19, [])


def test_a_harness_that_favours_one_of_the_two_is_remarked_on(tmp_path: Any) -> None:
    found = check(tmp_path, factor={(TWIN, 901): 1.05, (TWIN, 80): 0.95})
    assert found and (found.status, found.found) == ("warning", 2)
    assert found.items == ["cutedsl_moe_fp8_v3/T80_o96", "cutedsl_moe_fp8_v3/T901_o96"]


def test_a_twin_meets_its_original_alone_and_takes_no_first_place_from_it(tmp_path: Any) -> None:
    made = document(tmp_path, seed=3)
    pairs = {(pair.a, pair.b) for pair in made.pairs}
    assert {pair for pair in pairs if TWIN in pair} == {("cutedsl_moe_fp8_v3", TWIN)} and len(pairs) == 6 + 1
    curves = {curve.solution: dict(zip(curve.factors, curve.shares, strict=True)) for curve in made.profile}
    assert set(curves) == set(FOUR) and sum(curve.get(1.0, 0) for curve in curves.values()) == pytest.approx(1)


def plan(twins: Sequence[str]) -> Any:
    return make_plan(resolve(Config.model_validate({"backend": "cpu", "twins": list(twins)})), "0" * 64)


def test_a_twin_is_the_same_packed_solution_with_cells_of_its_own() -> None:
    made = plan(["cutedsl_moe_fp8_v3"])
    by_name = {who.name: who for who in made.participants}
    original, twin = by_name["cutedsl_moe_fp8_v3"], by_name[TWIN]
    assert twin.twin_of == original.name and twin.build == original.build and twin.role == "peer"
    keys = [cell.key for cell in made.cells]
    assert len(keys) == len(set(keys))
    assert sum(cell.participant == TWIN for cell in made.cells) == sum(
        cell.participant == original.name for cell in made.cells
    )
    assert [cell.key for cell in made.cells if cell.participant == original.name] == [
        cell.key for cell in plan([]).cells if cell.participant == original.name
    ]


def test_an_unknown_twin_is_named() -> None:
    with pytest.raises(InputError, match="config: twins"):
        plan(["no_such_solution"])


def test_twins_are_not_profiled() -> None:
    made = plan(["cutedsl_moe_fp8_v3"])
    names = {who.name for who in due.solutions(made)}
    assert "cutedsl_moe_fp8_v3" in names and TWIN not in names
