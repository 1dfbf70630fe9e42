"""What a run's side documents say about where and with what it was made, as facts for the analysis.

Entry points: `facts`, `plan_facts`, `hardware`, `axes`, `floor`, `read_gate_power`, `published_tolerances`.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from bakeoff import config as configuration
from bakeoff.errors import InputError
from bakeoff.files import read_json
from bakeoff.schema.analysis_run import Fact
from bakeoff.schema.gates import GatePower
from bakeoff.schema.host import Gpu, Host
from bakeoff.schema.plan import Plan, PlannedWorkload
from bakeoff.traces.models import Definition
from bakeoff.traces.store import TraceRoot

_UNITS = {"memory_mib": "MiB", "power_limit_w": "W", "max_sm_mhz": "MHz", "max_memory_mhz": "MHz"}


def facts(host: Host) -> list[Fact]:
    """What host.json records: the machine, its GPUs, its packages. A GPU's serial identity is left to the
    fingerprint."""
    machine = {key: getattr(host, key) for key in ("cpu", "cores", "architecture", "system", "kernel", "python")}
    drivers = {"driver": host.driver, "newest CUDA of the driver": host.cuda_driver} if host.gpus else {}
    return [
        *(Fact(group="host", key=key, value=value) for key, value in machine.items()),
        *(Fact(group="gpu", key=key, value=value) for key, value in drivers.items()),
        *(
            fact
            for number, gpu in enumerate(host.gpus)
            for fact in _gpu_facts(gpu, f"GPU {number} " if len(host.gpus) > 1 else "")
        ),
        *(Fact(group="software", key=key, value=version) for key, version in sorted(host.packages.items())),
    ]


def _gpu_facts(gpu: Gpu, prefix: str) -> list[Fact]:
    known = gpu.model_dump(exclude={"uuid"})
    return [
        Fact(
            group="gpu",
            key=prefix + key.removesuffix("_" + _UNITS.get(key, "").lower()),
            value=value,
            unit=_UNITS.get(key),
        )
        for key, value in known.items()
    ]


def plan_facts(plan: Plan) -> list[Fact]:
    """Digests and settings that decide what the run's results depend on."""
    settings = {
        **({"commit": plan.commit} if plan.commit else {}),
        "harness sha256": plan.harness,
        "host fingerprint": plan.host_fingerprint,
        "image": plan.image,
        "threads": plan.threads,
        "gpus": plan.gpus,
        "locked SM clock": plan.lock_clocks_mhz,
        **({"mix": ", ".join(f"{what} {weight:g}" for what, weight in plan.mix.items())} if plan.mix else {}),
    }
    units = {"locked SM clock": "MHz"}
    return [Fact(group="run", key=key, value=value, unit=units.get(key)) for key, value in settings.items()]


def hardware(host: Host, backend: str) -> str | None:
    """Model of what the kernels ran on: the GPU, or the CPU on the cpu backend."""
    if backend == "cpu":
        return host.cpu
    return host.gpus[0].name if host.gpus else None


def definition(plan: Plan) -> Definition | None:
    """The run's definition; none where it is not among the traces any more."""
    try:
        return TraceRoot(configuration.under_root(plan.traces_root)).definition(plan.definition)
    except InputError:
        return None


def axes(found: Definition | None) -> dict[str, int]:
    """Constant axes of a definition; empty where it is not known."""
    return {name: axis.value for name, axis in found.axes.items() if axis.value is not None} if found else {}


def published_tolerances() -> dict[str, float]:
    """Tolerances of the published gate, which every run is judged by as well."""
    from bakeoff.core.bounds import bounds

    return asdict(bounds().published)


def floor(found: Definition | None, workload: PlannedWorkload, gpu: str | None) -> dict[str, Any]:
    """The least that a workload can cost, as fields of an `AnalysedWorkload`, with the time at this GPU's peaks if they
    are listed; none for another kind of definition."""
    from bakeoff.core.moe import floors
    from bakeoff.core.moe.geometry import OP, Geometry

    if found is None or not found.name.startswith(OP):
        return {}
    least = floors.floor(Geometry.of(found), workload.seq_len, workload.stats)
    peak = floors.PEAKS.get(gpu or "")
    if peak is None:
        return {"floor_bytes": least.bytes, "floor_flops": least.flops}
    at_peak = {"floor_us": least.us(peak), "floor_bound": "memory" if least.at_memory(peak) else "compute"}
    return {"floor_bytes": least.bytes, "floor_flops": least.flops, **at_peak}


def read_gate_power(path: Path) -> GatePower | None:
    """gate_power.json; none if the mutants were not run."""
    return read_json(path, GatePower) if path.is_file() else None
