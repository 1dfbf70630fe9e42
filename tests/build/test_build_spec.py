"""solution.yaml: what is in it is read, what is wrong in it is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bakeoff.build.spec import discover, read_spec
from bakeoff.candidates import chosen
from bakeoff.config import Config, resolve
from bakeoff.errors import InputError
from support.build_solutions import description, spec, with_common, write


def test_a_minimal_description_is_read(tmp_path: Path) -> None:
    read = spec(tmp_path)
    assert (read.name, read.role, list(read.backends)) == ("tiny", "peer", ["cpu"])
    assert read.backends["cpu"].rounding.intermediate == ("fp8_block128",)
    assert read.folder == tmp_path / "tiny"


def test_the_projects_own_solutions_are_read_sorted_by_name() -> None:
    from support.build_solutions import SOLUTIONS

    names = [one.name for one in discover(SOLUTIONS)]
    assert names == sorted(names)
    assert {"cutedsl_moe_fp8_v3", "cutedsl_moe_fp8_v3_2", "flashinfer_moe", "triton_fused_moe_v2"} <= set(names)
    contestants = [one.name for one in discover(SOLUTIONS) if one.role == "contestant"]
    assert len(contestants) == 5, "the published four, and cutedsl_moe_fp8_v4 beside them"


def test_the_contestants_carry_the_labels_of_the_published_table() -> None:
    import yaml
    from bakeoff.config import Config, resolve
    from bakeoff.files import PROJECT_ROOT
    from bakeoff.plan import make_plan

    meta = yaml.safe_load((PROJECT_ROOT / "results/published/2026-02-26_4way/meta.yaml").read_text())
    plan = make_plan(resolve(Config(backend="cpu", workloads=["T1_o32"])), "")
    labels = {who.name: who.label for who in plan.participants if who.role == "contestant"}
    published = {one["name"]: one["label"] for one in meta["participants"]}
    assert labels == published | {"cutedsl_moe_fp8_v4": "cutedsl_v4"}
    designs = {one.name: one.backends["cpu"].design for one in discover(PROJECT_ROOT / "solutions")}
    assert {who.name: who.design for who in plan.participants if who.role != "reference"} == designs
    peers = {who.name: who.label for who in plan.participants if who.role == "peer"}
    assert peers == {
        name: name for name in ("deepgemm_moe", "flashinfer_alphamoe", "humming_moe", "triton_grouped_moe")
    }


def test_folders_that_are_no_solutions_are_passed_over(tmp_path: Path) -> None:
    with_common(tmp_path, checks="X = 1\n")
    for name in ("_draft", ".hidden"):
        (tmp_path / name).mkdir()
    (tmp_path / "README.md").write_text("text")
    write(tmp_path, description("b"))
    write(tmp_path, description("a"))
    assert [one.name for one in discover(tmp_path)] == ["a", "b"]


def test_files_are_all_that_decide_the_packed_solution(tmp_path: Path) -> None:
    with_common(tmp_path, checks="X = 1\n")
    read = spec(tmp_path, kernels="from .common.checks import X\n")
    (read.folder / "README.md").write_text("not packed")
    (read.folder / ".notes").write_text("not packed")
    (read.folder / "__pycache__").mkdir()
    (read.folder / "__pycache__/solution.pyc").write_bytes(b"\0")
    assert [path.relative_to(tmp_path).as_posix() for path in read.files()] == [
        "tiny/solution.yaml",
        "tiny/kernels.py",
        "tiny/solution.py",
        "common/checks.py",
    ]


def _cpu(given: dict[str, Any]) -> dict[str, Any]:
    return given["backends"]["cpu"]  # type: ignore[no-any-return]


SPOILT: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "unknown key": (lambda given: given.update(colour="blue"), "field colour"),
    "unknown key in a backend": (lambda given: _cpu(given).update(speed=3), "field backends.cpu.speed"),
    "no author": (lambda given: given.pop("author"), "field author"),
    "another name than the folder's": (lambda given: given.update(name="other"), "field name"),
    "a name with capitals": (lambda given: given.update(name="Tiny"), "field name"),
    "unknown role": (lambda given: given.update(role="judge"), "field role"),
    "no language": (lambda given: given.update(languages=[]), "field languages"),
    "languages that are no list": (lambda given: given.update(languages="triton"), "field languages"),
    "entry point without a function": (lambda given: given.update(entry_point="solution.py"), "field entry_point"),
    "entry point in a missing file": (lambda given: given.update(entry_point="main.py::run"), "field entry_point"),
    "entry point outside": (lambda given: given.update(entry_point="../solution.py::run"), "field entry_point"),
    "shared file that is not imported": (lambda given: given.update(common=["nothing.py"]), "field common"),
    "no backend": (lambda given: given.update(backends={}), "field backends"),
    "unknown backend": (lambda given: given["backends"].update(sm_80=_cpu(given)), "field backends.sm_80"),
    "no rounding": (lambda given: _cpu(given).pop("rounding"), "field backends.cpu.rounding"),
    "unknown cast": (
        lambda given: _cpu(given)["rounding"].update(intermediate=["fp4"]),
        "field backends.cpu.rounding.intermediate",
    ),
    "rounding without a point": (
        lambda given: _cpu(given)["rounding"].pop("gemm2_output"),
        "field backends.cpu.rounding.gemm2_output",
    ),
    "compile without a function": (lambda given: _cpu(given).update(compile="cuda.py"), "field backends.cpu.compile"),
    "compile from a file that is not there": (
        lambda given: _cpu(given).update(compile="cud.py::compile_kernels"),
        "field backends.cpu.compile",
    ),
    "unknown stage": (lambda given: given.update(stages=[{"kernel": "x", "stage": "nap"}]), "field stages.0.stage"),
    "a pattern that is no expression": (
        lambda given: given.update(stages=[{"kernel": "(", "stage": "gemm1"}]),
        "field stages.0.kernel",
    ),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_description_is_refused_with_file_and_field(tmp_path: Path, name: str) -> None:
    import copy

    spoil, field = SPOILT[name]
    folder, given = write(tmp_path), copy.deepcopy(description())
    spoil(given)
    import yaml

    (folder / "solution.yaml").write_text(yaml.safe_dump(given))
    with pytest.raises(InputError) as caught:
        discover(tmp_path)
    assert caught.value.where.startswith(f"{folder / 'solution.yaml'}: {field}")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("name: [\n", "not YAML"),
        ("name: tiny\nname: tiny\n", "stands twice"),
        ("- a\n- b\n", "dictionary"),
        ("", "dictionary"),
    ],
)
def test_a_file_that_is_no_yaml_mapping_is_refused(tmp_path: Path, text: str, word: str) -> None:
    folder = write(tmp_path)
    (folder / "solution.yaml").write_text(text)
    with pytest.raises(InputError, match=word) as caught:
        read_spec(folder)
    assert "solution.yaml" in caught.value.where


def test_a_folder_without_a_description_is_refused_and_told_how_to_make_one(tmp_path: Path) -> None:
    (tmp_path / "half_done").mkdir()
    with pytest.raises(InputError, match="new-solution"):
        discover(tmp_path)


@pytest.mark.parametrize("reserved", ["reference", "common"])
def test_a_reserved_name_is_refused(tmp_path: Path, reserved: str) -> None:
    with pytest.raises(InputError, match="field name"):
        spec(tmp_path, description(reserved))


def test_solutions_come_from_several_roots_each_name_once(tmp_path: Path) -> None:
    roots = [tmp_path / "one", tmp_path / "two"]
    for root, name in zip(roots, ("beta", "alpha"), strict=True):
        write(root, description(name))
    assert [(one.name, one.folder.parent) for one in discover(*roots)] == [("alpha", roots[1]), ("beta", roots[0])]
    config = Config(backend="cpu", solutions_root=[str(root) for root in roots], workloads=["T1_o32"])
    assert [one.name for one in chosen(resolve(config))[0]] == ["alpha", "beta"]
    write(roots[1], description("beta"))
    with pytest.raises(InputError, match=r"a second solution beta, beside .*one/beta"):
        discover(*roots)


def test_a_root_without_solutions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no solution"):
        discover(tmp_path)
