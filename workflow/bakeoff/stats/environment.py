"""What a run's side documents say about where and with what it was made, as facts for the analysis.

Entry points: `read_host`, `facts`, `plan_facts`, `hardware`, `axes`, `floor`, `read_gate_power`, `published_tolerances`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bakeoff import config as configuration
from bakeoff.errors import InputError
from bakeoff.files import read_bytes, validate
from bakeoff.plan import Plan, PlannedWorkload
from bakeoff.stats.model import Fact, Floor, GatePower
from bakeoff.traces.models import AxisConst, Definition
from bakeoff.traces.store import TraceRoot

# Sections of host.json whose facts belong to another group than "host".
_GROUPS = {"gpu": "gpu", "gpus": "gpu", "packages": "software"}
# The machine's name says nothing about its results, and the schema is no fact about the host.
_LEFT_OUT = {"schema", "hostname", "fingerprint"}


def read_host(path: Path) -> dict[str, Any]:
    """host.json as a mapping; anything else is an InputError."""
    try:
        host = json.loads(read_bytes(path))
    except ValueError as error:
        host = error
    if not isinstance(host, dict):
        raise InputError(
            path, found=f"{host!r}"[:120], expected="a JSON object as `bakeoff probe` writes it",
            hint="run `bakeoff probe` again",
        )  # fmt: skip
    return host


def facts(host: dict[str, Any]) -> list[Fact]:
    """All recorded facts about the host, in the file's order of sections, sorted by key within."""
    return [Fact(group=group, key=key, value=value) for group, key, value in _flat(host, "host", "")]


def _flat(value: Any, group: str, prefix: str) -> Iterator[tuple[str, str, Any]]:
    if isinstance(value, dict):
        for key in sorted(value):
            if key not in _LEFT_OUT:
                section = not prefix and key in _GROUPS
                name = "" if section else f"{prefix}.{key}" if prefix else key
                yield from _flat(value[key], _GROUPS[key] if section else group, name)
    elif isinstance(value, list):
        if value and all(isinstance(item, dict) for item in value):
            for number, item in enumerate(value):
                yield from _flat(item, group, f"{prefix}{number}" if len(value) > 1 else prefix)
        else:
            yield group, prefix, ", ".join(map(str, value))
    else:
        yield group, prefix, value


def plan_facts(plan: Plan) -> list[Fact]:
    """Digests and settings that decide what the run's results depend on."""
    settings = {
        "harness sha256": plan.harness, "host fingerprint": plan.host_fingerprint, "image": plan.image,
        "threads": plan.threads, "gpus": plan.gpus, "locked SM clock": plan.lock_clocks_mhz,
    }  # fmt: skip
    units = {"locked SM clock": "MHz"}
    return [Fact(group="run", key=key, value=value, unit=units.get(key)) for key, value in settings.items()]


def hardware(host: dict[str, Any], backend: str) -> str | None:
    """Model of what the kernels ran on: the GPU, or the CPU on the cpu backend."""
    found = host.get("cpu") if backend == "cpu" else host.get("gpus") or host.get("gpu")
    if isinstance(found, list):
        found = found[0] if found else None
    if isinstance(found, dict):
        found = found.get("name") or found.get("model")
    return found if isinstance(found, str) else None


def definition(plan: Plan) -> Definition | None:
    """The run's definition; none where it is not among the traces any more."""
    try:
        return TraceRoot(configuration.under_root(plan.traces_root)).definition(plan.definition)
    except InputError:
        return None


def axes(plan: Plan) -> dict[str, int]:
    """Constant axes of the run's definition; empty where that is not known."""
    found = definition(plan)
    return {name: axis.value for name, axis in found.axes.items() if isinstance(axis, AxisConst)} if found else {}


def published_tolerances() -> dict[str, float]:
    """Tolerances of the published gate, which every run is judged by as well."""
    from bakeoff.verify.bounds import bounds

    return bounds().published.model_dump()


def floor(plan: Plan, workload: PlannedWorkload, host: dict[str, Any]) -> Floor | None:
    """The least that a workload can cost, with the time at this GPU's peaks if they are listed; none for another kind of definition."""
    from bakeoff.moe import floors
    from bakeoff.moe.geometry import OP, Geometry

    found = definition(plan)
    if found is None or not found.name.startswith(OP):
        return None
    least = floors.floor(Geometry.of(found), workload.seq_len, workload.stats)
    peak = floors.PEAKS.get(hardware(host, plan.backend) or "")
    return Floor(bytes=least.bytes, flops=least.flops, us=floors.floor_us(least, peak) if peak else None)


def read_gate_power(path: Path) -> GatePower | None:
    """gate_power.json; none if the mutants were not run."""
    if not path.is_file():
        return None
    try:
        document = json.loads(read_bytes(path))
        known = {name: document[name] for name in GatePower.model_fields}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            path, found=f"{type(error).__name__}: {error}", expected="what `bakeoff gate-power` writes",
            hint="run `bakeoff gate-power` again",
        ) from error  # fmt: skip
    return validate(known, GatePower, path)
