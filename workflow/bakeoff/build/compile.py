"""Building solutions for one architecture, without a GPU.

`build_all` packs solutions and, each in a process of its own, imports them, checks their entry points and compiles
their kernels; for each it writes

    DIR/solution.json       the packed solution
    DIR/build.json          status, and per kernel what it uses (record.py)
    DIR/<kernel>.cubin, .ptx

Successful builds are kept in a cache folder under a key made of everything that decides the outcome: the packed
solution, the architecture, the versions of the compilers and this package's code. An unchanged solution is copied from
there. `build_solution` is `build_all` of one.
"""

import importlib.metadata
import os
import platform
import re
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bakeoff.build.child import Compiled
from bakeoff.build.forks import Forks
from bakeoff.build.pack import Flaw, pack_or_flaw
from bakeoff.build.resources import inspect_cubin
from bakeoff.build.spec import SolutionSpec
from bakeoff.core.loader import digest
from bakeoff.errors import CheckFailed, InputError
from bakeoff.files import (
    PROJECT_ROOT,
    canonical_json,
    model_json,
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
IMPORT_S = 60  # where nothing is compiled
# The distributions that decide what comes out of a compilation, as far as they are installed.
COMPILERS = ("torch", "triton", "nvidia-cutlass-dsl", "nvidia-cutlass-dsl-libs-base", "apache-tvm-ffi")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


Built = tuple[BuildRecord, bool]
"""What was built, and whether it came from the cache."""


def build_solution(
    spec: SolutionSpec,
    arch: str,
    definition: Path,
    into: Path,
    cache: Path = DEFAULT_CACHE,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> Built:
    """Build one solution into the folder `into`."""
    return build_all([(spec, into)], arch, definition, cache, timeout_s)[0]


def build_all(
    wanted: Sequence[tuple[SolutionSpec, Path]],
    arch: str,
    definition: Path,
    cache: Path = DEFAULT_CACHE,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    at_once: int | None = None,
    keep_going: bool = False,
) -> list[Built]:
    """Build solutions for `arch` (cpu, sm_90a, sm_100a), each into its folder.

    definition: file of the definition to pack for; timeout_s: longest build of one; at_once: how many are built at a
    time, as many as there are cores if None. What is wrong with a solution is in its record, not raised, and the others
    go on; one that cannot be packed is an InputError when the others are built, and with keep_going a record, too.
    """
    versions = toolchain()
    here = Path(__file__).parent
    common = {
        "package": sha256_tree(here, here.glob("*.py")),
        "definition_content": sha256_bytes(read_bytes(definition)),
    }
    jobs = [_job(spec, arch, definition, into, cache, versions, common) for spec, into in wanted]
    due = [job for job in jobs if job.record is None and not (job.kept / "build.json").is_file()]
    cached = {job.into for job in jobs if job.record is None and job not in due}
    failed = _build(due, definition, timeout_s, at_once or len(os.sched_getaffinity(0))) if due else {}
    records = []
    for job in jobs:
        record = job.record or failed.get(job.into) or _copied(job.kept, job.into)
        write_atomic(job.into / "build.json", model_json(record))
        records.append((record, job.into in cached))
    for job in jobs:
        if job.flaw and not keep_going:
            raise job.flaw.error
    return records


@dataclass(frozen=True)
class _Job:
    """One solution on its way. flaw: why it cannot be packed, if so; content: solution.json; base: what its record
    begins with; kept: its place in the cache; record: where nothing is to be built."""

    flaw: Flaw | None
    content: bytes
    into: Path
    base: dict[str, Any]
    compiles: str | None
    kept: Path
    record: BuildRecord | None


def _job(
    spec: SolutionSpec,
    arch: str,
    definition: Path,
    into: Path,
    cache: Path,
    versions: dict[str, str],
    common: dict[str, str],
) -> _Job:
    """Pack a solution, and write it, or why it cannot be packed."""
    made = pack_or_flaw(spec, definition.stem)
    flaw = made if isinstance(made, Flaw) else None
    content, found = (document(made), digest(made)) if isinstance(made, Solution) else (made.document(), made.digest)
    _remove_earlier(into)
    write_atomic(into / "solution.json", content)
    base: dict[str, Any] = {"solution": spec.name, "arch": arch, "definition": definition.stem, "digest": found}
    absent = None
    if flaw:
        absent = BuildRecord(**base, status="failed", message=flaw.why)
    elif arch not in spec.backends:
        reason = f"{spec.name} has no backend {arch}; it has {', '.join(spec.backends)}"
        absent = BuildRecord(**base, status="unsupported", message=reason)
    compiles = spec.backends[arch].compile if arch != "cpu" and not absent else None  # type: ignore[index]
    key = sha256_bytes(canonical_json({**base, "compile": compiles, "toolchain": versions, **common}))
    base["toolchain"] = versions if compiles else {}
    return _Job(flaw, content, into, base, compiles, cache / key, absent)


def _build(jobs: list[_Job], definition: Path, timeout_s: float, at_once: int) -> dict[Path, BuildRecord]:
    """Fill the cache; returns the records of those that failed, by the folder that they were for."""

    def build(job: _Job) -> BuildRecord | None:
        try:
            _fill(job, definition, forks)
        except CheckFailed as error:
            return BuildRecord(**{**job.base, "toolchain": {}}, status="failed", message=str(error))
        return None

    with Forks(timeout_s) as forks, ThreadPoolExecutor(at_once) as pool:
        try:
            made = list(pool.map(build, jobs))
        except BaseException:
            forks.give_up()
            pool.shutdown(cancel_futures=True)
            raise
    return {job.into: record for job, record in zip(jobs, made, strict=True) if record}


def toolchain() -> dict[str, str]:
    """Versions of Python and of the installed compilers."""
    found = {"python": platform.python_version()}
    for name in COMPILERS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _fill(job: _Job, definition: Path, forks: Forks) -> None:
    """Build into a temporary folder, and rename it to the job's place in the cache when all is there."""
    try:
        job.kept.parent.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=".build-", dir=job.kept.parent))
        work, done = place / "child", place / "done"  # the child writes to its own only
        work.mkdir()
    except OSError as error:
        raise unwritable(job.kept, error) from error
    try:
        (work / "solution.json").write_bytes(job.content)
        made = forks.run(work, definition, job.base["arch"], job.compiles)
        done.mkdir()
        try:
            kernels = _kernel_records(work, done, made)
        except OSError as error:
            raise CheckFailed(f"the build did not leave the files that it names: {error}") from error
        record = BuildRecord(**job.base, status="ok", kernels=kernels)
        write_atomic(done / "build.json", model_json(record))
        try:
            done.rename(job.kept)
        except OSError:
            if not job.kept.is_dir():  # else another process has just built the same
                raise
    finally:
        remove_tree(place)


def _kernel_records(work: Path, done: Path, made: list[Compiled]) -> list[KernelRecord]:
    def record(item: tuple[int, Compiled]) -> KernelRecord:
        number, kernel = item
        if not _PLAIN_NAME.fullmatch(kernel.name):
            raise CheckFailed(
                f"kernel name {kernel.name!r}; expected letters, digits, dot, dash and underscore, at most 100"
            )
        for suffix in ("cubin", "ptx"):
            (work / f"{number}.{suffix}").rename(done / f"{kernel.name}.{suffix}")
        try:
            return _kernel_record(done, kernel)
        except (InputError, TypeError, ValueError) as error:  # of the solution's own words
            raise CheckFailed(f"kernel {kernel.name}: {error}") from error

    with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
        return list(pool.map(record, enumerate(made)))


def _kernel_record(folder: Path, kernel: Compiled) -> KernelRecord:
    name, meta = kernel.name, kernel.meta
    used = inspect_cubin(folder / f"{name}.cubin", (folder / f"{name}.ptx").read_text())
    expected, dynamic = meta.get("mma"), meta.get("dynamic_shared_bytes")
    _check_mma(name, expected, used["mma"])
    if used["tmem_columns"] is None:
        used["tmem_columns"] = meta.get("tmem_columns")
    fields = used | {"name": name, "stage": kernel.stage, "meta": meta}
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
