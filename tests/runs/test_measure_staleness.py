"""What one change makes stale: the cells that depend on it, and no others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from bakeoff import closure
from bakeoff import plan as planning
from bakeoff.config import Config, resolve
from bakeoff.core.moe.geometry import Geometry
from bakeoff.files import PROJECT_ROOT
from bakeoff.plan import make_plan
from bakeoff.schema.plan import Plan, PlannedCell
from bakeoff.traces.dataset import ROUTING_INPUTS
from safetensors.torch import save_file
from support.measure_runs import write_solution

HOST = "0" * 64
FULL = Geometry(7168, 2048).name


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("solutions")
    for name in ("first", "second"):
        write_solution(folder, name)
    return folder


def planned(root: Path, host: str = HOST, **changes: Any) -> Plan:
    settings = {
        "backend": "cpu",
        "solutions_root": str(root),
        "workloads": ["T1_o32", "T7_o192"],
        "protocols": ["robust", "fib-0.1.2"],
    }
    return make_plan(resolve(Config.model_validate({**settings, **changes})), host)


def place(cell: PlannedCell) -> tuple[Any, ...]:
    return cell.participant, cell.workload, cell.kind, cell.protocol, cell.family, cell.seed


def stale(before: Plan, after: Plan) -> set[tuple[Any, ...]]:
    """Cells that both plans have, whose keys differ."""
    old = {place(cell): cell.key for cell in before.cells}
    return {place(cell) for cell in after.cells if place(cell) in old and old[place(cell)] != cell.key}


def everything(made: Plan) -> set[tuple[Any, ...]]:
    return {place(cell) for cell in made.cells}


def test_the_same_inputs_give_the_same_keys_and_no_two_cells_share_one(root: Path) -> None:
    made = planned(root)
    assert stale(made, planned(root)) == set()
    assert len({cell.key for cell in made.cells}) == len(made.cells)


@pytest.mark.parametrize(
    "changes",
    [{"image": "sha256:" + "1" * 64}, {"lock_clocks_mhz": 1200}, {"host": "1" * 64}],
    ids=lambda changes: next(iter(changes)),
)
def test_image_clock_regime_and_host_make_every_cell_stale(root: Path, changes: dict[str, Any]) -> None:
    before = planned(root)
    assert stale(before, planned(root, **changes)) == everything(before)


@pytest.mark.parametrize(
    "changes",
    [
        {"run": "other"},
        {"blocks": 3},
        {"timeout_s": 7},
        {"compile": []},
        {"profile": {"tier": "none"}},
        {"twins": ["first"]},
        {"solutions": ["second"]},
        {"workloads": ["T7_o192", "T1_o32", "T14_o0"]},
        {"protocols": ["robust"]},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_does_not_enter_a_cells_result_makes_none_stale(root: Path, changes: dict[str, Any]) -> None:
    assert stale(planned(root), planned(root, **changes)) == set()


def test_one_byte_of_a_solution_makes_its_own_cells_stale(root: Path, tmp_path: Path) -> None:
    folder = write_solution(tmp_path / "s", "first").parent
    write_solution(folder, "second")
    before = planned(folder)
    source = folder / "second/cpu.py"
    source.write_text(source.read_text() + "\n")
    found = stale(before, planned(folder))
    assert found == {cell for cell in everything(before) if cell[0] == "second"}


@pytest.mark.parametrize(
    ("module", "attribute"), [(closure, "digest"), (planning, "_definition_digest")], ids=["harness", "definition"]
)
def test_harness_and_definition_make_every_cell_stale(
    root: Path, monkeypatch: pytest.MonkeyPatch, module: Any, attribute: str
) -> None:
    before = planned(root)
    monkeypatch.setattr(module, attribute, lambda *_: "2" * 64)
    assert stale(before, planned(root)) == everything(before)


def test_an_edited_workload_makes_its_own_cells_stale(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = planned(root)
    honest = planning._workload

    def edited(case: Any, *rest: Any) -> Any:
        made = honest(case, *rest)
        return made.model_copy(update={"digest": "4" * 64}) if case.id == "T7_o192" else made

    monkeypatch.setattr(planning, "_workload", edited)
    assert stale(before, planned(root)) == {cell for cell in everything(before) if cell[1] == "T7_o192"}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two workloads as a data set lays them out, under uuids of its own."""
    folder = tmp_path_factory.mktemp("dataset")
    shutil.copytree(PROJECT_ROOT / "traces/definitions", folder / "definitions")
    lines = folder / "workloads/moe" / f"{FULL}.jsonl"
    lines.parent.mkdir(parents=True)
    for line in (PROJECT_ROOT / "traces/workloads/moe" / f"{FULL}.jsonl").read_text().splitlines():
        trace = json.loads(line)
        tokens = trace["workload"]["axes"]["seq_len"]
        trace["workload"]["uuid"] = f"the data set's T{tokens}"
        for name in ROUTING_INPUTS:
            source = {"type": "safetensors", "path": f"./blob/T{tokens}.safetensors", "tensor_key": name}
            trace["workload"]["inputs"][name] = source
        with lines.open("a") as stream:
            stream.write(json.dumps(trace) + "\n")
        write_blob(folder, tokens)
    return folder


def write_blob(folder: Path, tokens: int, change: float = 0.0) -> None:
    logits, bias = torch.linspace(-1, 1, tokens * 256).reshape(tokens, 256), torch.zeros(256, dtype=torch.bfloat16)
    logits[-1, -1] += change
    (folder / "blob").mkdir(exist_ok=True)
    save_file({"routing_logits": logits, "routing_bias": bias}, folder / f"blob/T{tokens}.safetensors")


def test_a_data_set_names_its_workloads_itself(root: Path, checkout: Path) -> None:
    ours, theirs = planned(root), planned(root, dataset=str(checkout))
    assert [what.source for what in ours.workloads] == [None, None] and all(what.seed for what in ours.workloads)
    for what in theirs.workloads:
        assert what.uuid == f"the data set's T{what.seq_len}" and what.source and what.seed is None
        assert what.source.uuid == what.uuid and what.source.inputs["routing_bias"].type == "safetensors"
    assert stale(ours, theirs) == everything(ours)


def test_the_grid_runs_where_it_is_asked_for_and_a_data_set_does_not_change_it(root: Path, checkout: Path) -> None:
    of_all, grid = planned(root, workloads="all"), planned(root, workloads="grid")
    assert len(of_all.workloads) == 19 and [what.id for what in grid.workloads if "_even" not in what.id] == [
        "T80_o96_local8",
        "T192_o96_local8",
        "T901_o96_local8",
        "T4096_o96_local8",
    ]
    assert len(grid.workloads) == 12
    mixed = ["T7_o192", "T128_o96_even"]
    ours, theirs = planned(root, workloads=mixed), planned(root, workloads=mixed, dataset=str(checkout))
    assert stale(ours, theirs) == {at for at in everything(ours) if at[1] == "T7_o192"}


def test_a_moved_data_set_makes_nothing_stale_and_another_revision_the_changed_workload(
    root: Path, checkout: Path, tmp_path: Path
) -> None:
    before, moved = planned(root, dataset=str(checkout)), tmp_path / "moved"
    shutil.copytree(checkout, moved)
    assert stale(before, planned(root, dataset=str(moved))) == set()
    write_blob(moved, 7, change=1e-6)  # decides nothing: the routing's figures stay the same
    after = planned(root, dataset=str(moved))
    assert [what.stats for what in after.workloads] == [what.stats for what in before.workloads]
    assert stale(before, after) == {at for at in everything(before) if at[1] == "T7_o192"}
