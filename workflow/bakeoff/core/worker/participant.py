"""From a packed solution, or the definition's reference, to something to call.

Entry point: `load`. Side effect: a solution's sources are written to the worker's scratch folder and imported from
there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bakeoff.core.loader import load_entry, stage
from bakeoff.core.worker.sandbox import AuditHook
from bakeoff.files import read_json
from bakeoff.traces.models import Definition, Solution

Call = Callable[..., None]


def load(job: dict[str, Any], audit: AuditHook) -> Call:
    """The participant as a function of the ten inputs and the output; whatever its import raises is passed on."""
    if job["solution"] is None:
        return _reference(read_json(Path(job["definition_path"]), Definition))
    solution = read_json(Path(job["solution"]), Solution)
    package = stage(solution, Path(job["scratch"]) / "package")
    with audit:
        return load_entry(package, solution)


def _reference(definition: Definition) -> Call:
    """The definition's own source, with its returned value written to the output: allocation and copy are part of its
    time."""
    names: dict[str, Any] = {}
    exec(compile(definition.reference, f"{definition.name}: reference", "exec"), names)
    run = names["run"]

    def call(*arguments: Any) -> None:
        *inputs, output = arguments
        output.copy_(run(*inputs))

    return call
