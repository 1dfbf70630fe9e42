"""Building a solution for one architecture, without a GPU.

`build_solution` packs a solution and, in a child process, imports it, checks its entry point and compiles its kernels;
it writes

    DIR/solution.json       the packed solution
    DIR/build.json          status, and per kernel what it uses (record.py)
    DIR/<kernel>.cubin, .ptx

Successful builds are kept in a cache folder under a key made of everything that decides the outcome: the packed
solution, the architecture, the versions of the compilers and this package's code. An unchanged solution is copied from
there.
"""

import importlib.metadata
import os
import platform
import re
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bakeoff.build.child import RESULT, Result
from bakeoff.build.ended import started
from bakeoff.build.pack import pack
from bakeoff.build.resources import inspect_cubin
from bakeoff.build.spec import SolutionSpec
from bakeoff.core.environment import environment
from bakeoff.core.loader import digest
from bakeoff.errors import CheckFailed, InputError
from bakeoff.files import (
    PROJECT_ROOT,
    canonical_json,
    json_document,
    pretty_json,
    read_bytes,
    read_json,
    remove_tree,
    sha256_bytes,
    sha256_tree,
    unwritable,
    validate,
    write_atomic,
)
from bakeoff.schema.build import BuildRecord, KernelRecord
from bakeoff.traces.models import Solution, document

DEFAULT_CACHE = PROJECT_ROOT / ".cache" / "build"
DEFAULT_TIMEOUT_S = 900
# The distributions that decide what comes out of a compilation, as far as they are installed.
COMPILERS = ("torch", "triton", "nvidia-cutlass-dsl", "nvidia-cutlass-dsl-libs-base", "apache-tvm-ffi")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def build_solution(
    spec: SolutionSpec,
    arch: str,
    definition: Path,
    into: Path,
    cache: Path = DEFAULT_CACHE,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> tuple[BuildRecord, bool]:
    """Build for `arch` (cpu, sm_90a, sm_100a) into the folder `into`; definition: file of the definition to pack for.

    Returns the record and whether it came from the cache. What is wrong with the solution is in the record, not raised.
    """
    solution = pack(spec, definition.stem)
    _remove_earlier(into)
    write_atomic(into / "solution.json", document(solution))
    record, cached = _record(spec, solution, arch, definition, into, cache, timeout_s)
    write_atomic(into / "build.json", pretty_json(record.model_dump(mode="json", by_alias=True)))
    return record, cached


def _record(
    spec: SolutionSpec, solution: Solution, arch: str, definition: Path, into: Path, cache: Path, timeout_s: float
) -> tuple[BuildRecord, bool]:
    base: dict[str, Any] = {
        "solution": spec.name,
        "arch": arch,
        "definition": definition.stem,
        "digest": digest(solution),
    }
    if arch not in spec.backends:
        reason = f"{spec.name} has no backend {arch}; it has {', '.join(spec.backends)}"
        return BuildRecord(**base, status="unsupported", message=reason), False
    compiles = spec.backends[arch].compile if arch != "cpu" else None  # type: ignore[index]
    versions = toolchain()
    kept = cache / _key(base, compiles, versions, definition)
    cached = (kept / "build.json").is_file()
    try:
        if not cached:
            _fill(kept, {**base, "toolchain": versions if compiles else {}}, solution, compiles, definition, timeout_s)
        return _copied(kept, into), cached
    except CheckFailed as error:
        return BuildRecord(**base, status="failed", message=str(error)), False


def toolchain() -> dict[str, str]:
    """Versions of Python and of the installed compilers."""
    found = {"python": platform.python_version()}
    for name in COMPILERS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _key(base: dict[str, Any], compiles: str | None, versions: dict[str, str], definition: Path) -> str:
    here = Path(__file__).parent
    content = {**base, "compile": compiles, "toolchain": versions, "package": sha256_tree(here, here.glob("*.py"))}
    return sha256_bytes(canonical_json({**content, "definition_content": sha256_bytes(read_bytes(definition))}))


def _fill(
    kept: Path, base: dict[str, Any], solution: Solution, compiles: str | None, definition: Path, timeout_s: float
) -> None:
    """Build into a temporary folder, and rename it to `kept` when all is there."""
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=".build-", dir=kept.parent))
        work, done = place / "child", place / "done"  # the child writes to its own only
        work.mkdir()
    except OSError as error:
        raise unwritable(kept, error) from error
    try:
        (work / "solution.json").write_bytes(document(solution))
        request = {
            "solution": str(work / "solution.json"),
            "definition": str(definition),
            "arch": base["arch"],
            "compile": compiles,
        }
        made = _run_child(work, request, timeout_s)
        done.mkdir()
        try:
            kernels = _kernel_records(work, done, made)
        except OSError as error:
            raise CheckFailed(f"the build did not leave the files that it names: {error}") from error
        record = BuildRecord(**base, status="ok", kernels=kernels)
        write_atomic(done / "build.json", pretty_json(record.model_dump(mode="json", by_alias=True)))
        try:
            done.rename(kept)
        except OSError:
            if not kept.is_dir():  # else another process has just built the same
                raise
    finally:
        remove_tree(place)


def _run_child(work: Path, request: dict[str, Any], timeout_s: float) -> list[dict[str, Any]]:
    """The kernels that the child names; CheckFailed with the child's own words if it failed, crashed or took too
    long."""
    (work / "request.json").write_bytes(canonical_json(request))
    variables = environment(len(os.sched_getaffinity(0)), work, work, None)
    variables["TRITON_DISABLE_LINE_INFO"] = "1"  # else the PTX names this machine's folders
    if request["compile"]:
        variables["CUTE_DSL_ARCH"] = request["arch"]  # read when CuTeDSL is imported
    log = work / "log"
    with (
        log.open("wb") as stream,
        started(
            "bakeoff.build.child", str(work / "request.json"), work, variables, stdout=stream, stderr=stream
        ) as child,
    ):
        try:
            child.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            told = f"no result after {timeout_s:g} s (--timeout); the last lines were:\n{_tail(log)}"
            raise CheckFailed(told) from error
    if not (work / RESULT).is_file():
        raise CheckFailed(
            f"the child process died with exit code {child.returncode}; the last lines were:\n{_tail(log)}"
        )
    try:  # written by a process that ran foreign code
        result = validate(json_document(read_bytes(work / RESULT), RESULT), Result, RESULT)
    except InputError as error:
        raise CheckFailed(f"the build left no result that can be read: {error}") from error
    if result.message:
        raise CheckFailed(result.message)
    return result.kernels


def _tail(log: Path, lines: int = 20) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def _kernel_records(work: Path, done: Path, made: list[dict[str, Any]]) -> list[KernelRecord]:
    def record(item: tuple[int, dict[str, Any]]) -> KernelRecord:
        number, kernel = item
        if not _PLAIN_NAME.fullmatch(kernel["name"]):
            raise CheckFailed(
                f"kernel name {kernel['name']!r}; expected letters, digits, dot, dash and underscore, at most 100"
            )
        for suffix in ("cubin", "ptx"):
            (work / f"{number}.{suffix}").rename(done / f"{kernel['name']}.{suffix}")
        return _kernel_record(done, kernel)

    with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
        return list(pool.map(record, enumerate(made)))


def _kernel_record(folder: Path, kernel: dict[str, Any]) -> KernelRecord:
    name, meta = kernel["name"], kernel["meta"]
    used = inspect_cubin(folder / f"{name}.cubin", (folder / f"{name}.ptx").read_text())
    expected, dynamic = meta.get("mma"), meta.get("dynamic_shared_bytes")
    _check_mma(name, expected, used["mma"])
    if used["tmem_columns"] is None:
        used["tmem_columns"] = meta.get("tmem_columns")
    fields = used | {key: kernel[key] for key in ("name", "stage", "meta")}
    shared = None if dynamic is None else dynamic + used["static_shared_bytes"]
    fields |= {"cubin": f"{name}.cubin", "ptx": f"{name}.ptx", "mma_expected": expected}
    return validate(fields | {"dynamic_shared_bytes": dynamic, "shared_bytes": shared}, KernelRecord, f"kernel {name}")


def _check_mma(name: str, expected: str | None, found: dict[str, int]) -> None:
    """A tile that the compiler cannot map to the chip's matrix unit silently becomes mma.sync, at a fraction of the
    rate."""
    if expected is not None and not found.get(expected):
        counted = ", ".join(f"{count} {family}" for family, count in found.items()) or "none at all"
        raise CheckFailed(
            f"kernel {name} is written for {expected}, but its machine code has {counted} of the matrix instructions\n"
            f"  expected: {expected} instructions\n"
            "  to do:    choose a tile that the instruction supports (M of at least 64 for wgmma, 128 for tcgen05: "
            "swap the "
            "operands for small M), or declare what the kernel is for in meta['mma']"
        )


def _remove_earlier(into: Path) -> None:
    """Delete the kernels of the build that `into` holds: one that is gone from the solution must not stay."""
    try:
        earlier = read_json(into / "build.json", BuildRecord).kernels
    except InputError:
        return  # no build yet, or one of another version
    for kernel in earlier:
        for name in (kernel.cubin, kernel.ptx):
            (into / Path(name).name).unlink(missing_ok=True)


def _copied(kept: Path, into: Path) -> BuildRecord:
    record = read_json(kept / "build.json", BuildRecord)
    for kernel in record.kernels:
        for name in (kernel.cubin, kernel.ptx):
            write_atomic(into / name, read_bytes(kept / name))
    return record
