"""A packed solution is whole: FlashInfer-Bench builds and runs it, and nothing outside it is needed."""

from __future__ import annotations

import importlib
import json
import os
import re
import time
from pathlib import Path

import pytest
import torch
from bakeoff.build.pack import Flaw, check_signature, pack, pack_or_flaw
from bakeoff.build.spec import SolutionSpec, discover, read_spec
from bakeoff.core.loader import digest, load_entry, package_name, stage
from bakeoff.core.moe.geometry import Geometry
from bakeoff.core.moe.inputs import make_inputs
from bakeoff.errors import CheckFailed, InputError
from bakeoff.files import PROJECT_ROOT
from bakeoff.traces.models import Solution, document
from bakeoff.traces.store import TraceRoot
from support import build_solutions as small
from support.build_solutions import NARROW, SOLUTIONS

ROOT = TraceRoot(PROJECT_ROOT / "traces")
OWN = {spec.name: spec for spec in discover(SOLUTIONS)}


def test_packing_takes_sources_and_shared_files_and_leaves_the_rest(tmp_path: Path) -> None:
    small.with_common(tmp_path, checks="X = 1\n", unused="Y = 2\n")
    spec = small.spec(tmp_path, empty="\n", kernels="from .common.checks import X\n")
    (spec.folder / "README.md").write_text("text")
    packed = pack(spec, NARROW)
    assert [source.path for source in packed.sources] == ["common/checks.py", "kernels.py", "solution.py"]
    assert packed.definition == NARROW and packed.spec.destination_passing_style
    assert packed.model_extra and packed.model_extra["bakeoff"]["backends"]["cpu"]["rounding"] == small.ROUNDING


@pytest.mark.parametrize(("languages", "language"), [(["triton", "cuda"], "triton"), (["cutedsl", "triton"], "python")])
def test_the_main_language_chooses_the_builder(tmp_path: Path, languages: list[str], language: str) -> None:
    assert pack(small.spec(tmp_path, small.description() | {"languages": languages}), NARROW).spec.language == language


def test_the_document_survives_a_round_trip_with_its_digest(tmp_path: Path) -> None:
    packed = pack(small.spec(tmp_path), NARROW)
    again = Solution.model_validate_json(document(packed))
    assert again == packed and digest(again) == digest(packed)


def _digest(root: Path, given: dict[str, object] | None = None, definition: str = NARROW, **files: str) -> str:
    return digest(pack(small.spec(root, given, **files), definition))


def test_the_digest_follows_what_decides_results_and_nothing_else(tmp_path: Path) -> None:
    base = _digest(tmp_path / "0")
    assert _digest(tmp_path / "1", small.description() | {"author": "another", "description": "Other words."}) == base
    assert _digest(tmp_path / "2", small.description() | {"stages": [{"kernel": "x", "stage": "gemm1"}]}) == base
    rounding = {"cpu": {"design": "zeros", "rounding": small.ROUNDING | {"gemm1_output": ["float32"]}}}
    different = {
        base,
        _digest(tmp_path / "3", solution=small.ENTRY + "\n# a comment\n"),
        _digest(tmp_path / "4", more="X = 1\n"),
        _digest(tmp_path / "5", definition="another"),
        _digest(tmp_path / "6", small.description("other")),
        _digest(tmp_path / "7", small.description() | {"dependencies": ["triton"]}),
        _digest(tmp_path / "8", small.description() | {"backends": rounding}),
    }
    assert len(different) == 7


def test_a_changed_shared_file_changes_the_digest(tmp_path: Path) -> None:
    small.with_common(tmp_path, checks="X = 1\n")
    uses = "from .common import checks\n"
    before = digest(pack(small.spec(tmp_path, kernels=uses), NARROW))
    small.with_common(tmp_path, checks="X = 2\n")
    assert digest(pack(small.spec(tmp_path, kernels=uses), NARROW)) != before


REFUSED = {
    "import of the harness": ("import bakeoff.core.moe.reference\n", "solution.py:1", "bakeoff"),
    "import from the harness": ("def f():\n    from bakeoff.core.moe import reference\n", "solution.py:2", "bakeoff"),
    "shared module that is not there": (
        "from .common.absent import X\n",
        "solution.py:1",
        "an import of common/absent.py",
    ),
    "shared module by name": ("from .common import absent\n", "solution.py:1", "an import of common/absent.py"),
    "syntax error": ("def f(:\n", "solution.py:1", "Python"),
    "null byte": ("x = '\0'\n", "solution.py:1", "Python"),
    "nesting that the parser gives up on": (f"x = {'-' * 100_000}1\n", "solution.py:1", "Python"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_only_work_in_the_checkout_is_refused(tmp_path: Path, name: str) -> None:
    text, place, word = REFUSED[name]
    small.with_common(tmp_path, checks="X = 1\n")
    with pytest.raises(InputError) as caught:
        pack(small.spec(tmp_path, solution=text + small.ENTRY), NARROW)
    assert place in caught.value.where and word in str(caught.value)


def test_a_shared_file_brings_those_that_it_needs(tmp_path: Path) -> None:
    small.with_common(
        tmp_path, checks="X = 1\n", stages="def f():\n    from .checks import X\n", unused="import stages\n"
    )
    spec = small.spec(tmp_path, kernels="from .common.stages import f\n")
    assert [path.name for path in spec.common_files()] == ["checks.py", "stages.py"]
    assert "common/checks.py" in {source.path for source in pack(spec, NARROW).sources}
    small.with_common(tmp_path, stages="from .absent import X\n")
    with pytest.raises(InputError, match=r"common/stages\.py:1"):
        pack(small.spec(tmp_path, kernels="from .common.stages import f\n"), NARROW)


def test_a_folder_named_like_the_shared_one_is_refused(tmp_path: Path) -> None:
    spec = small.spec(tmp_path)
    (spec.folder / "common").mkdir()
    (spec.folder / "common/own.py").write_text("X = 1\n")
    with pytest.raises(InputError, match="rename the folder"):
        pack(spec, NARROW)


def test_an_empty_entry_point_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"solution\.py\n  found:    an empty file"):
        pack(small.spec(tmp_path, solution="\n"), NARROW)


def test_a_flaw_says_what_packing_says_wherever_the_folder_lies(tmp_path: Path) -> None:
    flaws = [pack_or_flaw(small.spec(tmp_path / place, solution="def f(:\n"), NARROW) for place in "ab"]
    assert flaws[0] != flaws[1] and isinstance(flaws[0], Flaw) and isinstance(flaws[1], Flaw)
    assert (
        flaws[0].why == flaws[1].why == "tiny/solution.py:1: not valid Python: invalid syntax; expected: Python source"
    )
    other = pack_or_flaw(small.spec(tmp_path / "c", solution="\ndef f(:\n"), NARROW)
    assert isinstance(other, Flaw) and len({*(flaw.digest for flaw in flaws), other.digest}) == 2
    assert json.loads(other.document()) == {"name": "tiny", "cannot_be_packed": other.why}
    assert isinstance(pack_or_flaw(small.spec(tmp_path / "d"), NARROW), Solution)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    spec = small.spec(tmp_path)
    (spec.folder / "kernel.cubin").write_bytes(b"\x7fELF\xff\xfe")
    with pytest.raises(InputError, match=r"kernel\.cubin"):
        pack(spec, NARROW)


STRANGE = {
    "a link that leads out": lambda folder: (folder / "notes.txt").symlink_to("/etc/hostname"),
    "2097152 bytes": lambda folder: (folder / "large.txt").write_bytes(bytes(2 << 20)),
    "a name with characters": lambda folder: (folder / "a\x1b[31m.py").write_text("x = 1"),
    "characters that nobody": lambda folder: Path(os.fsdecode(os.fsencode(folder) + b"/\xff.py")).write_text("x = 1"),
}


@pytest.mark.parametrize("found", STRANGE)
def test_a_file_that_is_no_source_of_the_folder_is_refused_and_a_link_inside_is_not(tmp_path: Path, found: str) -> None:
    spec = small.spec(tmp_path)
    (spec.folder / "again.py").symlink_to("solution.py")
    assert "again.py" in {source.path for source in pack(spec, "d").sources}
    STRANGE[found](spec.folder)
    with pytest.raises(InputError, match=re.escape(found)) as told:
        pack(spec, "d")
    assert "\x1b" not in str(told.value)
    # Whoever lists what a solution is made of goes on: packing alone refuses.
    assert [path.name for path in spec.files()] == ["solution.yaml", "again.py", "solution.py"]


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "{a: " * 100_000, "- " * 100_000, f"a: {'9' * 10_000}", "a: 2020-99-99", "a: !!timestamp x"]
)
def test_a_description_that_would_stop_its_reader_is_refused(tmp_path: Path, text: str) -> None:
    spec = small.spec(tmp_path)
    (spec.folder / "solution.yaml").write_text(text)
    begun = time.monotonic()
    with pytest.raises(InputError, match=r"solution\.yaml"):
        read_spec(spec.folder)
    assert time.monotonic() - begun < 2


def test_staged_packages_of_two_contents_do_not_meet(tmp_path: Path) -> None:
    """Both are imported into one process, and each sees its own helper."""
    results = []
    for value in (1, 2):
        text = small.ENTRY.replace("output.zero_()", "output.append(helper.VALUE)")
        spec = small.spec(tmp_path / str(value), solution="from . import helper\n" + text, helper=f"VALUE = {value}\n")
        packed = pack(spec, NARROW)
        entry, seen = load_entry(stage(packed, tmp_path / "staged"), packed), []
        entry(*[None] * 10, seen)
        results += seen
    assert results == [1, 2]


def test_an_entry_point_that_cannot_be_imported_is_named_with_the_reason(tmp_path: Path) -> None:
    packed = pack(small.spec(tmp_path, solution="import no_such_package\n" + small.ENTRY), NARROW)
    with pytest.raises(
        CheckFailed, match=r"solution\.py::run cannot be imported: ModuleNotFoundError.*no_such_package"
    ):
        load_entry(stage(packed, tmp_path), packed)


@pytest.mark.parametrize("text", ["run = 3\n", "walk = 3\n"])
def test_an_entry_point_that_is_no_function_is_refused(tmp_path: Path, text: str) -> None:
    packed = pack(small.spec(tmp_path, solution=text), NARROW)
    with pytest.raises(CheckFailed, match=r"solution\.py::run"):
        load_entry(stage(packed, tmp_path), packed)


@pytest.mark.parametrize(
    "parameters",
    [
        small.PARAMETERS.replace(", output", ""),
        small.PARAMETERS + ", workspace",
        small.PARAMETERS.replace("gemm1_weights, gemm1_weights_scale", "gemm1_weights_scale, gemm1_weights"),
        "*args",
    ],
)
def test_a_signature_that_is_not_the_definitions_is_refused(tmp_path: Path, parameters: str) -> None:
    packed = pack(small.spec(tmp_path, solution=f"def run({parameters}):\n    pass\n"), NARROW)
    entry = load_entry(stage(packed, tmp_path), packed)
    with pytest.raises(CheckFailed, match=r"solution\.py::run takes"):
        check_signature(entry, ROOT.definition(NARROW), "solution.py::run")


@pytest.mark.parametrize("name", OWN)
def test_flashinfer_bench_builds_and_runs_the_packed_solution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """On the cpu backend, to the same bits as the harness's own loader."""
    monkeypatch.setenv("FIB_CACHE_PATH", str(tmp_path / "cache"))
    import flashinfer_bench.data as fib

    packed = pack(OWN[name], NARROW)
    builder = _builder(packed.spec.language)
    theirs = fib.Solution.model_validate_json(document(packed))
    definition = fib.Definition.model_validate_json((ROOT.definition_path(NARROW)).read_bytes())
    inputs = _inputs("T7_o192")
    outputs = [torch.full((7, 512), float("nan"), dtype=torch.bfloat16) for _ in range(2)]
    builder.build(definition, theirs)(*inputs, outputs[0])
    entry = load_entry(stage(packed, tmp_path / "staged"), packed)
    check_signature(entry, ROOT.definition(NARROW), packed.spec.entry_point)
    entry(*inputs, outputs[1])
    assert torch.equal(*outputs) and torch.count_nonzero(outputs[0])


def _builder(language: str):  # type: ignore[no-untyped-def]
    module = importlib.import_module(f"flashinfer_bench.compile.builders.{language}_builder")
    return getattr(module, f"{language.capitalize()}Builder")()


def _inputs(workload: str) -> list[object]:
    case = next(case for case in ROOT.workloads(NARROW) if case.id == workload)
    return list(make_inputs(Geometry.of(ROOT.definition(NARROW)), case, "realistic", 0).values())


@pytest.mark.parametrize("spec", OWN.values(), ids=OWN)
def test_the_projects_solutions_carry_no_path_of_the_checkout(spec: SolutionSpec) -> None:
    text = json.dumps(json.loads(document(pack(spec, NARROW))))
    assert str(PROJECT_ROOT) not in text
    assert package_name(pack(spec, NARROW)).isidentifier()
