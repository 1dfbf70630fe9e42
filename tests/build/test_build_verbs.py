"""The verbs build, export and new-solution on the command line: output, exit codes, messages."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bakeoff.cli import main
from support import build_solutions as small
from support.build_kernels import cuda
from support.build_solutions import gpu_description, project_copy

Capture = pytest.CaptureFixture[str]


def bakeoff(*words: object) -> int:
    return main([str(word) for word in words])


def test_build_prints_one_line_per_kernel_and_where_it_wrote(tmp_path: Path, capsys: Capture) -> None:
    folder = small.write(tmp_path, gpu_description(), cuda=cuda())
    words = ("build", folder, "--arch", "sm_90a", "-o", tmp_path / "out", "--cache", tmp_path / "cache")
    assert bakeoff(*words) == 0
    first = capsys.readouterr()
    assert first.out.startswith("tiny sm_90a: ok\n") and "gemm1_e4m3" in first.out and "wgmma" in first.out
    assert "written" in first.err
    assert bakeoff(*words) == 0
    again = capsys.readouterr()
    assert again.out == first.out and "from the cache" in again.err


def test_build_packs_for_the_narrow_definition_on_the_cpu_and_the_full_one_on_a_gpu(tmp_path: Path) -> None:
    folder = small.write(tmp_path, gpu_description(), cuda="def compile_kernels(arch):\n    return []\n")
    found = {}
    for arch in ("cpu", "sm_100a"):
        assert bakeoff("build", folder, "--arch", arch, "-o", tmp_path / arch, "--cache", tmp_path / "cache") == 0
        found[arch] = json.loads((tmp_path / arch / "build.json").read_text())["definition"]
    assert found["cpu"].endswith("h512_i256") and found["sm_100a"].endswith("h7168_i2048")


def test_a_solution_that_does_not_build_is_exit_code_1_and_says_why(tmp_path: Path, capsys: Capture) -> None:
    folder = small.write(tmp_path, gpu_description(), cuda=cuda(tile_m=16))
    words = ("build", folder, "--arch", "sm_90a", "-o", tmp_path / "out", "--cache", tmp_path / "cache")
    assert bakeoff(*words) == 1
    assert "mma.sync" in capsys.readouterr().err
    assert bakeoff(*words, "--keep-going") == 0
    assert json.loads((tmp_path / "out/build.json").read_text())["status"] == "failed"


def test_a_missing_backend_is_exit_code_0_and_says_so(tmp_path: Path, capsys: Capture) -> None:
    folder = small.write(tmp_path)
    assert bakeoff("build", folder, "--arch", "sm_100a", "-o", tmp_path / "out") == 0
    assert "unsupported (tiny has no backend sm_100a; it has cpu)" in capsys.readouterr().out


def test_several_are_built_by_name_each_into_its_folder(tmp_path: Path, capsys: Capture) -> None:
    for root, name in (("a", "one"), ("b", "two")):
        small.write(tmp_path / root, small.description(name))
    roots = ("--root", tmp_path / "a", "--root", tmp_path / "b")
    rest = (*roots, "--cache", tmp_path / "cache", "--jobs", 1, "-o")
    assert bakeoff("build", "one", "two", *rest, tmp_path / "out") == 2
    assert f"{tmp_path / 'out'} for 2 solutions" in capsys.readouterr().err
    assert bakeoff("build", "one", "two", *rest, tmp_path / "out/{solution}/{arch}") == 0
    said = capsys.readouterr()
    assert said.out == "one cpu: ok\ntwo cpu: ok\n" and "2 built in" in said.err
    assert (tmp_path / "out/one/cpu/build.json").is_file() and (tmp_path / "out/two/cpu/solution.json").is_file()


def test_of_several_each_that_does_not_build_is_named(tmp_path: Path, capsys: Capture) -> None:
    folders = [
        small.write(tmp_path, small.description("bad"), solution="def run():\n    pass\n"),
        small.write(tmp_path, small.description("worse"), solution="raise OSError\n"),
    ]
    words = ("build", *folders, "--cache", tmp_path / "cache", "-o", tmp_path / "out/{solution}")
    assert bakeoff(*words) == 1
    said = capsys.readouterr().err
    assert "bad does not build for cpu: solution.py::run takes ()" in said and "worse does not build for cpu" in said
    assert bakeoff(*words, "--keep-going") == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("build", "triton_fused_moe_v2", "--jobs", "0"), "--jobs"),
        (("build", "no_such_solution"), "triton_fused_moe_v2"),
        (("build", "nowhere/no_such_solution"), "path to a solution's folder"),
        (("build", "triton_fused_moe_v2", "--definition", "wide"), "moe_fp8_block_scale"),
        (("build", "triton_fused_moe_v2", "--traces", "/nowhere"), "/nowhere"),
        (("export", "--fib", "unused", "--workloads", "T2_o0"), "T901_o96"),
        (("export", "--fib", "unused", "--solutions", "nobody"), "triton_fused_moe_v2"),
        (("export", "--fib", "unused", "--seed", "-1"), "--seed"),
        (("export", "--fib", "unused", "--seed", "2147483648"), "2147483647"),
        (("build", "triton_fused_moe_v2", "--timeout", "0"), "--timeout"),
        (("build", "triton_fused_moe_v2", "--timeout", "nan"), "seconds above 0"),
        (("check", "triton_fused_moe_v2", "--timeout", "-3"), "--timeout"),
        (("check", "triton_fused_moe_v2", "--seed", "-1"), "--seed"),
        (("gate-power", "-o", "unused", "--seed", "two"), "--seed"),
        (("gate-power", "-o", "unused", "--workloads", "T2_o0"), "T901_o96"),
        (("gate-power", "-o", "unused", "--rows", "-3"), "--rows"),
        (("gate-power", "-o", "unused", "--device", "tpu"), "--device"),
        (("profile", "unused", "--time-limit", "inf"), "--time-limit"),
        (("new-solution", "No"), "lower-case"),
    ],
)
def test_bad_input_is_exit_code_2_with_the_place_and_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, words: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert bakeoff(*words) == 2
    said = capsys.readouterr().err
    for word in (message, "found:", "expected:", "to do:"):
        assert word in said
    assert list(tmp_path.iterdir()) == []


def test_export_writes_chosen_workloads_and_solutions_and_names_the_next_command(
    tmp_path: Path, capsys: Capture
) -> None:
    words = ("--definition", "narrow", "--workloads", "T7_o192", "T1_o32", "--solutions", "flashinfer_moe")
    assert bakeoff("export", "--fib", tmp_path / "fib", *words) == 0
    said = capsys.readouterr().out
    assert "2 workloads, 1 solutions" in said and f"flashinfer-bench run --local {tmp_path / 'fib'}" in said
    assert len(list((tmp_path / "fib").rglob("*.safetensors"))) == 2
    assert [path.stem for path in (tmp_path / "fib/solutions").rglob("*.json")] == ["flashinfer_moe"]


def test_new_solution_names_the_next_command(tmp_path: Path, capsys: Capture) -> None:
    root = project_copy(tmp_path / "solutions")
    assert bakeoff("new-solution", "my_moe", "--into", root) == 0
    assert "bakeoff build my_moe --arch cpu" in capsys.readouterr().out
    assert bakeoff("new-solution", "my_moe", "--into", root) == 2


@pytest.mark.parametrize("verb", ["build", "export", "new-solution"])
def test_help_is_quick_and_loads_no_heavy_library(verb: str) -> None:
    code = f"import sys; from bakeoff.cli import _arguments; _arguments({verb!r}); print(sorted(sys.modules))"
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert time.monotonic() - started < 2  # torch alone takes longer
    for module in ("torch", "triton", "safetensors", "bakeoff.core.moe.inputs"):
        assert f"'{module}'" not in done.stdout
