"""The child process of a build: imports a staged solution, checks its entry point, compiles its kernels.

Entry point: `main`, in a process that `build.forks` has forked. A process of its own, because the solution's code is
foreign, CuTeDSL reads its target from the environment at import, and packages of two solutions must not meet. Writes
<n>.cubin and <n>.ptx into its folder, and last result.json; its exit code says nothing, a missing result.json is a
crash.
"""

import os
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bakeoff.build.pack import check_signature
from bakeoff.core.confine import adopt_orphans, confine, prefer_for_oom_killer
from bakeoff.core.loader import load_entry, load_function, stage
from bakeoff.core.messages import Channel, tie_to_parent
from bakeoff.errors import BakeoffError, CheckFailed
from bakeoff.files import canonical_json, read_json, write_atomic
from bakeoff.schema.base import Part, Said
from bakeoff.traces.models import Definition, Solution

RESULT = "result.json"
KEYS = {"name": str, "stage": str, "cubin": bytes, "ptx": str, "meta": dict}


@dataclass(frozen=True)
class Compiled:
    """A kernel whose code lies in the child's folder, under its number."""

    name: Said
    stage: Said
    meta: dict[str, Any]


class Result(Part):
    """What the child leaves; a message is what is wrong with the solution."""

    message: Said | None
    kernels: list[Compiled]


def main(arguments: list[str]) -> None:
    """Answer one request about the solution in the current folder; every failure of the solution becomes a message in
    result.json. arguments: id of the parent, descriptors of the channel from and to it."""
    parent, commands, results = map(int, arguments)
    tie_to_parent(parent)
    prefer_for_oom_killer()
    adopt_orphans()
    request, folder = Channel(commands, results).receive(), Path.cwd()
    if request is None:
        return
    for descriptor in (commands, results):
        os.close(descriptor)
    confine([folder])  # before foreign code comes: a build must not touch what it does not make
    try:
        result: dict[str, Any] = {"message": None, "kernels": _build(request, folder)}
    except BakeoffError as error:
        result = {"message": "\n".join([str(error), *_frames(error.__cause__, folder)]), "kernels": []}
    except Exception as error:  # noqa: BLE001  (foreign code may raise anything)
        text = f"{request['compile']} raised {type(error).__name__}: {error}"
        result = {"message": "\n".join([text, *_frames(error, folder)]), "kernels": []}
    write_atomic(folder / RESULT, canonical_json(result))


def _build(request: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    solution = read_json(folder / "solution.json", Solution)
    definition = read_json(Path(request["definition"]), Definition)
    package = stage(solution, folder / "package")
    check_signature(load_entry(package, solution), definition, solution.spec.entry_point)
    if request["compile"] is None:
        return []
    return _compile(load_function(package, request["compile"]), request, folder)


def _compile(compile_kernels: Any, request: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    kernels: list[dict[str, Any]] = []
    for kernel in compile_kernels(request["arch"]):
        _check_kernel(kernel, request["compile"])
        if kernel["name"] in [known["name"] for known in kernels]:
            raise CheckFailed(f"{request['compile']} yields two kernels {kernel['name']}; expected unique names")
        print(f"compiled {kernel['name']}", file=sys.stderr, flush=True)
        (folder / f"{len(kernels)}.cubin").write_bytes(kernel["cubin"])
        (folder / f"{len(kernels)}.ptx").write_text(kernel["ptx"])
        kernels.append({key: kernel[key] for key in ("name", "stage", "meta")})
    return kernels


def _frames(error: BaseException | None, folder: Path) -> list[str]:
    """Where in the solution's own files it happened, outermost first."""
    frames = traceback.extract_tb(error.__traceback__) if error else []
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(folder)]
    # <folder>/package/<package name>/<file in the solution>
    paths = ["/".join(Path(frame.filename).relative_to(folder).parts[2:]) for frame in own]
    return [f"  at {path}:{frame.lineno} in {frame.name}: {frame.line}" for path, frame in zip(paths, own, strict=True)]


def _check_kernel(kernel: Any, where: str) -> None:
    if not isinstance(kernel, dict) or kernel.keys() != KEYS.keys():
        found = sorted(kernel) if isinstance(kernel, dict) else type(kernel).__name__
        raise CheckFailed(f"{where} yields {found}; expected a dict with {sorted(KEYS)}")
    for key, kind in KEYS.items():
        if not isinstance(kernel[key], kind):
            raise CheckFailed(f"{where}: {key} is a {type(kernel[key]).__name__}; expected {kind.__name__}")
