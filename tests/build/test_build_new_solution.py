"""`bakeoff new-solution` makes a folder that runs at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from bakeoff.build.compile import build_solution
from bakeoff.build.pack import pack
from bakeoff.build.spec import discover, new_solution
from bakeoff.core.loader import load_entry, stage
from bakeoff.core.moe.emulate import emulate
from bakeoff.core.moe.geometry import Geometry
from bakeoff.core.moe.inputs import make_inputs
from bakeoff.errors import InputError
from bakeoff.files import PROJECT_ROOT
from bakeoff.traces.store import TraceRoot
from support.build_solutions import NARROW, NARROW_FILE, project_copy


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return project_copy(tmp_path / "solutions")


def test_a_new_solution_builds_for_the_cpu_at_once(root: Path, tmp_path: Path) -> None:
    spec = new_solution(root, "my_moe2", "peer", "someone")
    record, _ = build_solution(spec, "cpu", NARROW_FILE, tmp_path / "out", tmp_path / "cache")
    assert (record.status, record.message) == ("ok", None)
    assert [one.name for one in discover(root)] == ["my_moe2"]


@pytest.mark.parametrize("workload", ["T1_o32", "T14_o0", "T80_o96"])
def test_a_new_solution_is_correct(root: Path, tmp_path: Path, workload: str) -> None:
    """It computes what it declares: within the narrow width's bound of the emulation of its roundings."""
    spec = new_solution(root, "my_moe", "peer", "someone")
    packed = pack(spec, NARROW)
    traces = TraceRoot(PROJECT_ROOT / "traces")
    geometry = Geometry.of(traces.definition(NARROW))
    case = next(case for case in traces.workloads(NARROW) if case.id == workload)
    inputs = make_inputs(geometry, case, "realistic", 0)
    output = torch.full((case.seq_len, geometry.hidden), float("nan"), dtype=torch.bfloat16)
    load_entry(stage(packed, tmp_path), packed)(*inputs.values(), output)
    expected = emulate(geometry, inputs, spec.backends["cpu"].rounding).float()
    assert torch.linalg.norm(output.float() - expected) <= 0.01 * torch.linalg.norm(expected)
    assert torch.equal(output.count_nonzero(1) > 0, expected.count_nonzero(1) > 0)


@pytest.mark.parametrize("author", ["someone", "A. U. Thor", 'quote " colon: hash # ü', "{}", "true"])
def test_role_and_author_are_taken_over_whatever_they_contain(root: Path, author: str) -> None:
    spec = new_solution(root, "my_moe", "contestant", author)
    assert (spec.name, spec.role, spec.author) == ("my_moe", "contestant", author)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "My",
        "9lives",
        "a-b",
        "a b",
        "../up",
        "a/b",
        "_hidden",
        ".hidden",
        "common",
        "reference",
        "ü",
        "class",
        "a" * 65,
    ],
)
def test_a_name_that_cannot_be_one_is_refused(root: Path, name: str) -> None:
    before = sorted(root.rglob("*"))
    with pytest.raises(InputError) as caught:
        new_solution(root, name, "peer", "someone")
    assert caught.value.where == "NAME"
    assert sorted(root.rglob("*")) == before


def test_an_existing_folder_is_left_alone(root: Path) -> None:
    (root / "mine").mkdir()
    (root / "mine/notes").write_text("keep")
    with pytest.raises(InputError, match="it exists"):
        new_solution(root, "mine", "peer", "someone")
    assert [path.name for path in (root / "mine").iterdir()] == ["notes"]


def test_a_root_without_a_template_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no template"):
        new_solution(tmp_path, "my_moe", "peer", "someone")
    assert list(tmp_path.iterdir()) == []


def test_what_an_interrupted_copy_left_is_no_solution_and_does_not_hinder(root: Path) -> None:
    (root / ".my_moe.partial").mkdir()
    (root / ".my_moe.partial/rubbish").write_text("x")
    spec = new_solution(root, "my_moe", "peer", "someone")
    assert [path.name for path in spec.own_files()] == ["cpu.py", "solution.py"]
    assert not (root / ".my_moe.partial").exists()
