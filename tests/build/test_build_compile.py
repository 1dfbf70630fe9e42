"""Building without a GPU: compiled in a child process, inspected, kept by content, and refused with a reason."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from bakeoff.build.compile import build_all, build_solution
from bakeoff.build.spec import SolutionSpec
from bakeoff.errors import InputError
from bakeoff.files import read_json
from bakeoff.processes.children import descendants
from bakeoff.processes.fork_server import ForkServer
from bakeoff.schema.build import BuildRecord
from support import build_solutions as small
from support.build_kernels import cuda
from support.build_solutions import ENTRY, NARROW_FILE, description, gpu_description

FAMILY = {"sm_90a": "wgmma", "sm_100a": "tcgen05"}


def build(spec: SolutionSpec, root: Path, arch: str = "cpu", timeout_s: float = 120) -> tuple[BuildRecord, bool]:
    return build_solution(spec, arch, NARROW_FILE, root / "out", root / "cache", timeout_s)


@pytest.mark.parametrize("arch", FAMILY)
def test_kernels_are_compiled_and_their_resources_recorded(tmp_path: Path, arch: str) -> None:
    spec = small.spec(tmp_path, gpu_description(), cuda=cuda())
    record, cached = build(spec, tmp_path, arch)
    assert (record.status, record.message, cached) == ("ok", None, False)
    (kernel,) = record.kernels
    assert (kernel.name, kernel.stage, kernel.mma_expected) == ("gemm1_e4m3", "gemm1", FAMILY[arch])
    # One instruction has K = 32; 128 rows are two of wgmma's 64 and one of tcgen05's 128: 2 x 4 a warpgroup, or 4, per
    # K block.
    assert set(kernel.mma) == {FAMILY[arch]} and kernel.mma[FAMILY[arch]] % 4 == 0
    assert 0 < kernel.registers <= 255 and kernel.spill_bytes == 0 and kernel.stack_bytes == 0
    # Three stages of a 128 x 128 byte tile for each operand.
    assert kernel.shared_bytes and kernel.shared_bytes >= 3 * 2 * 128 * 128
    assert kernel.tmem_columns == (128 if arch == "sm_100a" else 0)
    assert (tmp_path / "out" / kernel.cubin).read_bytes()[:4] == b"\x7fELF"
    assert f".target {arch}" in (tmp_path / "out" / kernel.ptx).read_text()
    assert read_json(tmp_path / "out/build.json", BuildRecord) == record
    assert record.toolchain["triton"] and record.digest


@pytest.mark.parametrize("arch", FAMILY)
def test_a_tile_that_falls_back_to_mma_sync_fails_the_build(tmp_path: Path, arch: str) -> None:
    record, _ = build(small.spec(tmp_path, gpu_description(), cuda=cuda(tile_m=16)), tmp_path, arch)
    assert record.status == "failed" and record.message
    assert f"gemm1_e4m3 is written for {FAMILY[arch]}" in record.message and "mma.sync" in record.message


def test_an_unchanged_solution_comes_from_the_cache_in_less_than_a_second(tmp_path: Path) -> None:
    spec = small.spec(tmp_path, gpu_description(), cuda=cuda())
    first, _ = build(spec, tmp_path, "sm_90a")
    for path in (tmp_path / "out").iterdir():
        path.unlink()
    started = time.monotonic()
    again, cached = build(spec, tmp_path, "sm_90a")
    assert cached and time.monotonic() - started < 1
    assert again == first
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "solution.json",
        "build.json",
        "gemm1_e4m3.cubin",
        "gemm1_e4m3.ptx",
    }


def test_a_changed_source_or_architecture_is_built_anew_and_a_word_in_the_description_is_not(tmp_path: Path) -> None:
    given = gpu_description()
    assert not build(
        small.spec(tmp_path, given, cuda="def compile_kernels(arch):\n    return []\n"), tmp_path, "sm_90a"
    )[1]
    assert not build(
        small.spec(tmp_path, given, cuda="def compile_kernels(arch):\n    return ()\n"), tmp_path, "sm_90a"
    )[1]
    spec = small.spec(tmp_path, given | {"description": "Other words."})
    assert build(spec, tmp_path, "sm_90a")[1]
    assert not build(spec, tmp_path, "sm_100a")[1]


def test_two_builds_of_one_content_have_the_same_files(tmp_path: Path) -> None:
    files = []
    for part in ("a", "b"):
        build(small.spec(tmp_path / part, gpu_description(), cuda=cuda()), tmp_path / part, "sm_90a")
        files.append({path.name: path.read_bytes() for path in (tmp_path / part / "out").iterdir()})
    assert files[0] == files[1]
    assert not any(str(tmp_path).encode() in content for content in files[0].values())


def test_a_kernel_that_is_gone_does_not_stay_in_the_output(tmp_path: Path) -> None:
    build(small.spec(tmp_path, gpu_description(), cuda=cuda()), tmp_path, "sm_90a")
    record, _ = build(
        small.spec(tmp_path, gpu_description(), cuda="def compile_kernels(arch):\n    return []\n"), tmp_path, "sm_90a"
    )
    assert record.status == "ok" and record.kernels == []
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["build.json", "solution.json"]


def test_the_cpu_backend_is_packed_imported_and_its_signature_checked(tmp_path: Path) -> None:
    record, _ = build(small.spec(tmp_path), tmp_path)
    assert (record.status, record.arch, record.kernels, record.toolchain) == ("ok", "cpu", [], {})
    packed = json.loads((tmp_path / "out/solution.json").read_text())
    assert packed["definition"] == small.NARROW and packed["spec"]["entry_point"] == "solution.py::run"


def test_an_architecture_without_a_backend_is_unsupported_and_not_a_failure(tmp_path: Path) -> None:
    record, _ = build(small.spec(tmp_path), tmp_path, "sm_100a")
    assert record.status == "unsupported" and record.message == "tiny has no backend sm_100a; it has cpu"


KERNEL = '{"name": "k", "stage": "gemm1", "cubin": b"x", "ptx": "", "meta": {}}'
FAILING = {
    "raises": ('raise RuntimeError("out of ideas")', ("RuntimeError: out of ideas", "at cuda.py:2 in compile_kernels")),
    "dies": ("import os; os.abort()", ("child process died", "-6")),
    "exits": ("import os; print('last words'); os._exit(3)", ("exit code 3",)),
    "exits politely": ("raise SystemExit(0)", ("child process died",)),
    "yields something else": ("yield 3", ("int", "expected a dict")),
    "leaves out a field": (f"k = {KERNEL}; del k['ptx']; yield k", ("ptx", "expected a dict")),
    "yields the wrong type": (f"k = {KERNEL}; k['cubin'] = 'x'; yield k", ("cubin is a str", "bytes")),
    "yields one name twice": (f"yield {KERNEL}; yield {KERNEL}", ("two kernels k",)),
    "yields no cubin": (f"yield {KERNEL}", ("k.cubin is no cubin",)),
    "names a file outside": (f"k = {KERNEL}; k['name'] = '../../k'; yield k", ("kernel name",)),
}


@pytest.mark.parametrize("name", FAILING)
def test_a_failing_compilation_is_a_status_with_a_reason(tmp_path: Path, name: str) -> None:
    body, words = FAILING[name]
    record, _ = build(
        small.spec(tmp_path, gpu_description(), cuda=f"def compile_kernels(arch):\n    {body}\n"), tmp_path, "sm_90a"
    )
    assert record.status == "failed" and record.message
    for word in words:
        assert word in record.message
    assert "Traceback" not in record.message
    assert read_json(tmp_path / "out/build.json", BuildRecord).status == "failed"
    assert [
        path for path in (tmp_path / "cache").iterdir() if path.name != "triton"
    ] == []  # nothing half-built is kept


def test_an_unknown_stage_is_refused(tmp_path: Path) -> None:
    text = cuda().replace('"stage": "gemm1"', '"stage": "nap"')
    record, _ = build(small.spec(tmp_path, gpu_description(), cuda=text), tmp_path, "sm_90a")
    assert record.status == "failed" and "kernel gemm1_e4m3: field stage" in str(record.message)


def test_a_missing_compile_file_is_refused_before_the_build(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"backends\.sm_90a\.compile(.|\n)*no file cuda\.py"):
        small.spec(tmp_path, gpu_description())


def test_a_compile_file_that_cannot_be_imported_is_named(tmp_path: Path) -> None:
    text = "import no_such_package\ndef compile_kernels(arch):\n    yield {}\n"
    record, _ = build(small.spec(tmp_path, gpu_description(), cuda=text), tmp_path, "sm_90a")
    assert record.status == "failed" and record.message
    assert "cuda.py::compile_kernels cannot be imported: ModuleNotFoundError" in record.message
    assert "no_such_package" in record.message


def test_an_entry_point_with_another_signature_fails_the_build(tmp_path: Path) -> None:
    record, _ = build(small.spec(tmp_path, solution="def run(x, output):\n    pass\n"), tmp_path)
    assert record.status == "failed" and record.message and "takes (x, output)" in record.message


def test_a_compilation_that_hangs_ends_with_its_children_at_the_limit(tmp_path: Path) -> None:
    body = """
import subprocess, time
def compile_kernels(arch):
    for apart in (False, True):
        print("started", subprocess.Popen(["sleep", "300"], start_new_session=apart).pid, flush=True)
    time.sleep(300)
"""
    started = time.monotonic()
    record, _ = build(small.spec(tmp_path, gpu_description(), cuda=body), tmp_path, "sm_90a", timeout_s=6)
    assert record.status == "failed" and record.message and "no result after 6 s" in record.message
    assert time.monotonic() - started < 30
    started_by_it = [line.split()[1] for line in record.message.splitlines() if line.startswith("started ")]
    assert len(started_by_it) == 2
    for process in started_by_it:
        state = Path(f"/proc/{process}/stat")
        assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize(
    "attempt",
    [
        "open(OUTSIDE, 'w')",
        "os.chmod(OUTSIDE, 0o666)",
        "os.kill(os.getppid(), 0)",
        "open(os.path.join(os.path.dirname(os.getcwd()), 'done'), 'w')",
        "import resource; resource.prlimit(os.getppid(), resource.RLIMIT_FSIZE, (0, 0))",
    ],
)
def test_a_build_reaches_nothing_but_its_own_folder(tmp_path: Path, attempt: str) -> None:
    (tmp_path / "neighbour.json").write_text("{}")
    body = f"import os\nOUTSIDE = {str(tmp_path / 'neighbour.json')!r}\nopen('own', 'w').close()\n{attempt}\n"
    record, _ = build(small.spec(tmp_path, solution=body), tmp_path)
    assert record.status == "failed" and record.message and "PermissionError" in record.message, record
    assert (tmp_path / "neighbour.json").read_text() == "{}"


HOSTILE = {
    "hangs": ("import time\ntime.sleep(600)\n", "no result after 12 s"),
    "dies": ("import os\nos.abort()\n", "child process died"),
    "leaves_one": (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    open('pid', 'w').write(str(os.getpid()))\n"
        f"    time.sleep(600)\n{ENTRY}",
        None,
    ),
    "stops_parent": ("import os, signal\nos.kill(os.getppid(), signal.SIGSTOP)\n", "PermissionError"),
    "forges": ("import os\nopen('result.json', 'w').write('{}')\nos._exit(0)\n", "no result that can be read"),
}


def test_solutions_are_built_together_and_a_hostile_or_hanging_one_costs_itself_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = {**{name: body for name, (body, _) in HOSTILE.items()}, "good": ENTRY, "also_good": ENTRY}
    wanted = [
        (small.spec(tmp_path, description(name), solution=body), tmp_path / "out" / name)
        for name, body in bodies.items()
    ]
    started, start = [], ForkServer.start
    monkeypatch.setattr(ForkServer, "start", lambda *words: started.append(start(*words)) or started[-1])
    began = time.monotonic()
    built = build_all(wanted, "cpu", NARROW_FILE, tmp_path / "cache", 12, at_once=2)
    assert time.monotonic() - began < 2 * 12 + 15, "others are built beside the one that hangs"
    assert len(started) == 1, "torch is imported once for all"
    for (record, cached), (spec, into) in zip(built, wanted, strict=True):
        told = HOSTILE.get(spec.name, ("", None))[1]
        assert (record.status, cached) == ("failed" if told else "ok", False), record
        assert told is None or told in str(record.message)
        assert read_json(into / "build.json", BuildRecord) == record and (into / "solution.json").is_file()
    assert descendants(os.getpid()) == [], "no process is left behind"
    # Once more, from the cache: nothing is started but what failed.
    again = build_all([pair for pair in wanted if "good" in pair[0].name], "cpu", NARROW_FILE, tmp_path / "cache")
    assert len(started) == 1 and [cached for _, cached in again] == [True, True]


def test_one_that_cannot_be_packed_is_refused_when_the_others_are_built(tmp_path: Path) -> None:
    wanted = [
        (small.spec(tmp_path, description(name), solution=body), tmp_path / "out" / name)
        for name, body in {"broken": "def run(:\n", "whole": ENTRY}.items()
    ]
    with pytest.raises(InputError, match=r"broken/solution\.py:1"):
        build_all(wanted, "cpu", NARROW_FILE, tmp_path / "cache")
    assert read_json(tmp_path / "out/whole/build.json", BuildRecord).status == "ok"
    (broken, _), (whole, _) = build_all(wanted, "cpu", NARROW_FILE, tmp_path / "cache", keep_going=True)
    assert (broken.status, whole.status) == ("failed", "ok") and "broken/solution.py:1" in str(broken.message)
    assert read_json(tmp_path / "out/broken/build.json", BuildRecord) == broken
    assert "cannot_be_packed" in (tmp_path / "out/broken/solution.json").read_text()


def test_a_result_that_is_none_fails_the_build_alone(tmp_path: Path) -> None:
    for left in ("'[' * 100000", "'{}'", '\'{"message": null, "kernels": [1]}\''):
        body = f"import os\nopen('result.json', 'w').write({left})\nos._exit(0)\n"
        record, _ = build(small.spec(tmp_path, solution=body), tmp_path)
        assert record.status == "failed" and record.message and "no result that can be read" in record.message


def test_the_child_sees_the_architecture_before_any_import(tmp_path: Path) -> None:
    text = (
        "import os\nARCH = os.environ['CUTE_DSL_ARCH']\ndef compile_kernels(arch):\n    raise "
        "RuntimeError(f'{ARCH} {arch}')\n"
    )
    record, _ = build(small.spec(tmp_path, gpu_description(), cuda=text), tmp_path, "sm_100a")
    assert record.message and "RuntimeError: sm_100a sm_100a" in record.message


def test_a_place_that_cannot_be_written_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file in the way")
    with pytest.raises(InputError, match="cannot write"):
        build(small.spec(tmp_path), tmp_path)
    (tmp_path / "cache").write_text("a file in the way")
    (tmp_path / "out").unlink()
    with pytest.raises(InputError, match="cannot write"):
        build(small.spec(tmp_path), tmp_path)
