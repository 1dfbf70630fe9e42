"""Constructed summaries: a plan over all solutions, and profiles with stage times and counters that a test chooses."""

from __future__ import annotations

import functools
from pathlib import Path

from bakeoff.config import DEFINITIONS, Config
from bakeoff.files import pretty_json
from bakeoff.plan import make_plan
from bakeoff.profile.stages import STAGES
from bakeoff.schema.plan import Plan
from bakeoff.schema.profile import NOT_COUNTED, CellProfile, Counters, KernelProfile, SolutionProfile, StageProfile
from support.profile_runs import CEILINGS, GPU

WORKLOADS = ["T1_o32", "T80_o96", "T901_o96", "T11948_o128", "T14107_o32"]
# Microseconds by stage: a solution whose GEMMs take two thirds.
PLAIN = {
    "routing": 5.0,
    "permute": 10.0,
    "gemm1": 60.0,
    "activation_quant": 10.0,
    "gemm2": 30.0,
    "combine": 15.0,
    "other": 0.0,
}


@functools.cache
def plan(backend: str = "sm_90a") -> Plan:
    """All solutions at the full width, as if planned on a GPU."""
    settings = {
        "backend": "cpu",
        "definition": DEFINITIONS["full"],
        "workloads": WORKLOADS,
        "blocks": 1,
        "threads": 1,
        "run": "made",
        "protocols": ["robust"],
        "families": ["fib"],
    }
    made = make_plan(Config.model_validate(settings), "0" * 64)
    return made.model_copy(update={"backend": backend})


def counters(
    dram_bytes: float | None = 1e6, dram_share: float | None = 0.5, tensor_share: float | None = 0.3
) -> Counters:
    return Counters(
        dram_bytes=dram_bytes, dram_share=dram_share, tensor_share=tensor_share, occupancy=0.4, local_accesses=0.0
    )


def stages(
    times: dict[str, float], runs: dict[str, float] | None = None, counted: dict[str, Counters] | None = None
) -> list[StageProfile]:
    """All seven; without running times they run for as long as they are busy."""
    busy, runs, counted = sum(times.values()) or 1.0, runs or times, counted or {}
    return [
        StageProfile(
            stage=stage,
            us=times.get(stage, 0.0),
            run_us=runs.get(stage, 0.0),
            share=times.get(stage, 0.0) / busy,
            launches=int(times.get(stage, 0.0) > 0),
            **counted.get(stage, Counters()).model_dump(),
        )
        for stage in STAGES
    ]


def cell(
    workload: str,
    stages_us: dict[str, float] | None = None,
    gap_us: float = 10.0,
    launches: int = 6,
    counted: dict[str, Counters] | None = None,
    **more: object,
) -> CellProfile:
    times = {**dict.fromkeys(STAGES, 0.0), **(PLAIN if stages_us is None else stages_us)}
    busy = sum(times.values())
    kernels = [
        KernelProfile(name=f"{stage}_kernel", stage=stage, mapped=True, launches=1, us=us)  # type: ignore[arg-type]
        for stage, us in times.items()
        if us
    ]
    total = counters() if counted is not None else Counters()
    values = {
        "solution": "nobody",
        "workload": workload,
        "key": "k",
        "tier": "nsys",
        "calls": 5,
        "busy_us": busy,
        "span_us": busy + gap_us,
        "gap_share": round(gap_us / (busy + gap_us), 6),
        "host_gap_share": 0.0,
        "launches": launches,
        "syncs": 0,
        "host_us": 20.0,
        "mapped_share": 1.0,
        "stages": stages(times, counted=counted),
        "kernels": kernels,
        "counters_missing": None if counted is not None else NOT_COUNTED,
        **total.model_dump(),
        **more,
    }
    return CellProfile.model_validate(values)


def profile(solution: str, cells: list[CellProfile], backend: str = "sm_90a", gpu: str = GPU) -> SolutionProfile:
    digest = next(who.digest for who in plan(backend).participants if who.name == solution)
    return SolutionProfile(
        solution=solution,
        digest=digest,
        backend=backend,
        gpu=gpu,
        tools={"nsys": "1"},
        tiers_missing={},
        ceilings=CEILINGS,
        cells=[one.model_copy(update={"solution": solution}) for one in cells],
        failures={},
    )


def write_run(folder: Path, profiles: list[SolutionProfile], made: Plan | None = None) -> Path:
    """A run folder with these profiles."""
    made = made or plan()
    (folder / "profile").mkdir(parents=True)
    (folder / "config.json").write_bytes(pretty_json(made.model_dump(mode="json", by_alias=True)))
    for one in profiles:
        (folder / "profile" / f"{one.solution}.json").write_bytes(
            pretty_json(one.model_dump(mode="json", by_alias=True))
        )
    return folder


def everyone(**changed: list[CellProfile]) -> list[SolutionProfile]:
    """Plain profiles of all solutions over all workloads, with some replaced."""
    plain = [cell(workload) for workload in WORKLOADS]
    names = [who.name for who in plan().participants if who.role != "reference"]
    return [profile(name, changed.get(name, plain)) for name in names]
