"""Small run folders that think they are on a Hopper GPU, profilers that are scripts, and a CUPTI that is a module."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from bakeoff.build.pack import pack
from bakeoff.build.spec import discover
from bakeoff.config import DEFINITIONS, Config
from bakeoff.files import PROJECT_ROOT, pretty_json
from bakeoff.plan import make_plan
from bakeoff.profile import capture, process
from bakeoff.profile.child import ProfiledCall
from bakeoff.profile.process import Piece
from bakeoff.profile.tiers import Facts
from bakeoff.schema.plan import Plan, ProfileConfig
from bakeoff.schema.profile import Ceilings
from bakeoff.schema.solution import StageRule
from bakeoff.traces.models import document
from support import fake_device
from support.profile_captures import RULES

SOLUTION = "triton_fused_moe_v2"
WORKLOADS = ["T1_o32", "T7_o192", "T901_o96"]
GPU = "NVIDIA H100 80GB HBM3"
CEILINGS = Ceilings(copy_gbs=3000.0, fp8_tflops=1500.0, launch_us=2.0)
# Runs in place of nsys and ncu. It finds the job in its command line, says that all workloads are done, and "exports" a
# constructed capture. `denied`, `dead` and `short` in its name make it fail as the real tools do.
TOOL = """#!{python}
import json, sys
from pathlib import Path
sys.path[:0] = {paths!r}
words, name = sys.argv[1:], Path(sys.argv[0]).name
reads = words[0] == "export" or words[0].startswith("--import")
if "--version" in words:
    print("constructed tool\\n1.2.3")
elif words[-1] == "true":  # the trial
    Path(next(word.split("=", 1)[1] for word in words if word.startswith("--output=")) + ".nsys-rep").touch()
elif reads or "--query-metrics" in words:
    from bakeoff.profile.ncu import wanted
    metrics = wanted("sm_90a")
    if not reads:
        for metric in metrics.values():
            print(metric.split(".")[0], "Counter")
        sys.exit()
    from support.profile_captures import CALL, timeline, write_ncu, write_nsys
    output = next((word.split("=", 1)[1] for word in words if word.startswith("--output=")), "counters.csv")
    job = json.loads((Path.cwd() / "job.json").read_text())
    if words[0] == "export":
        write_nsys(Path(output), timeline(tuple(job["workloads"]), calls=job["calls"]))
    else:
        values = {{ours: "1000" for ours in metrics if ours not in ("dram_share", "tensor_share", "occupancy")}}
        values |= {{"dram_share": "70", "tensor_share": "10", "occupancy": "50"}}
        kernels = [
            (work, kernel, values)
            for work in job["workloads"]
            for kernel, _, _ in CALL
            if not kernel.startswith("[")
        ]
        if "short" in name:
            kernels = [one for one in kernels if one[1] != "stray_kernel"]
        print("==PROF== Importing")
        print(write_ncu(Path("made.csv"), metrics, kernels).read_text(), end="")
elif "dead" in name:
    print("Segmentation fault (core dumped)")
elif "denied" in name:
    print("==ERROR== ERR_NVGPUCTRPERM - The user does not have permission to access "
          "NVIDIA GPU Performance Counters on the target device 0.")
else:
    job = json.loads(Path(words[-1]).read_text())
    lines = "".join(json.dumps({{"workload": work, "failed": None}}) + "\\n" for work in [*job["workloads"], None])
    Path(job["progress"]).write_text(lines)
"""
# A module cupti.cupti for the profiled process: one launch and one kernel between the two time stamps of a mark.
CUPTI = """
class cuptiError(Exception): ...
class ActivityKind: CONCURRENT_KERNEL, MEMCPY, MEMSET, RUNTIME, DRIVER = range(5)
class CallbackDomain: RUNTIME_API, DRIVER_API = range(2)
class Record:
    def __init__(self, **values): self.__dict__.update(values)
state = {"now": 0, "asked": 0, "pending": []}
def get_timestamp():
    state["now"] += 10_000
    state["asked"] += 1
    now = state["now"]
    if state["asked"] % 2 == 0:
        call = dict(cbid=1, correlation_id=now, start=now - 5_000, end=now - 4_000)
        kernel = dict(correlation_id=now, start=now - 4_000, end=now + 1_000, name="route_tokens",
            stream_id=7, grid_x=1, grid_y=1, grid_z=1,
            block_x=32, block_y=1, block_z=1, registers_per_thread=16, static_shared_memory=0,
            dynamic_shared_memory=0, local_memory_per_thread=0)
        state["pending"] += [Record(kind=4, **call), Record(kind=0, **kernel)]
    return now
def activity_register_callbacks(requested, completed): state["completed"] = completed
def activity_enable(kind): ...
def activity_disable(kind): ...
def activity_get_num_dropped_records(context, stream, count): ...
def activity_flush_all(flag):
    state["completed"](state["pending"])
    state["pending"] = []
def get_callback_name(domain, cbid): return "cuLaunchKernelEx"
"""


def make_run(
    folder: Path, tier: str = "auto", root: Path = PROJECT_ROOT / "solutions", workloads: list[str] = WORKLOADS
) -> Path:
    """A run of one real solution at the narrow width, planned as if for sm_90a; its sources run with torch on the
    CPU."""
    run = folder / "run"
    settings = {
        "backend": "cpu",
        "definition": DEFINITIONS["narrow"],
        "solutions": [SOLUTION],
        "workloads": workloads,
        "blocks": 1,
        "threads": 1,
        "solutions_root": str(root),
        "run": "profiled",
    }
    plan = make_plan(Config.model_validate(settings), "0" * 64)
    who = next(spec for spec in discover(root) if spec.name == SOLUTION)
    participants = [
        one
        if one.role == "reference"
        else one.model_copy(update={"stages": RULES, "rounding": who.backends["sm_90a"].rounding})
        for one in plan.participants
    ]
    write_plan(
        run,
        plan.model_copy(
            update={"backend": "sm_90a", "participants": participants, "profile": ProfileConfig(tier=tier)}
        ),
    )  # type: ignore[arg-type]
    built = run / "build" / SOLUTION / "solution.json"
    built.parent.mkdir(parents=True)
    built.write_bytes(document(pack(who, plan.definition)))
    (run / "profile").mkdir()
    (run / "profile" / "ceilings.json").write_bytes(pretty_json(CEILINGS.model_dump()))
    return run


def write_plan(run: Path, plan: Plan) -> None:
    run.mkdir(exist_ok=True)
    (run / "config.json").write_bytes(pretty_json(plan.model_dump(mode="json", by_alias=True)))


def unwatched(run_piece: Any) -> Any:
    """`run_piece`, but a process without a profiler is not started: it says at once that every call took the host 7
    us."""

    def run(piece: Piece, *arguments: Any) -> None:
        if piece.tier.name != "host":
            return run_piece(piece, *arguments)
        piece.folder.mkdir(parents=True)
        lines = [ProfiledCall(workload=name, host_us=[7.0] * piece.job.calls) for name in piece.job.workloads]
        piece.capture.write_text(
            "".join(f"{line.model_dump_json()}\n" for line in [*lines, ProfiledCall(workload=None)])
        )

    return run


def install(monkeypatch: pytest.MonkeyPatch, folder: Path, host: bool = False, **facts: Any) -> None:
    """Give this host a GPU, tools that are scripts (nsys=..., ncu=... their names), and a CUPTI module. host: run the
    processes
    without a profiler as well, which takes seconds each."""
    if not host:
        monkeypatch.setattr(capture, "run_piece", unwatched(process.run_piece))
    known: dict[str, Any] = {
        "gpu": GPU,
        "gpu_uuid": f"test-{folder.name}",
        "cupti_version": "13.0.1",
        "privileged": True,
    }
    tools = folder / "tools"
    tools.mkdir(exist_ok=True)
    for kind in ("nsys", "ncu"):
        name = facts.pop(kind, None)
        if name:
            path = tools / name
            path.write_text(
                TOOL.format(
                    python=sys.executable, paths=[str(Path(__file__).parent.parent), str(PROJECT_ROOT / "workflow")]
                )
            )
            path.chmod(0o755)
            known |= {kind: str(path), f"{kind}_version": "1.2.3"}
    monkeypatch.setattr(capture, "gather", lambda trial=True: Facts(**{**known, **facts}))
    package = tools / "site" / "cupti"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").write_text("")
    (package / "cupti.py").write_text(CUPTI)
    for name, value in fake_device.variables(folder / "device.json", {}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(tools / "site"))


def rules(*pairs: tuple[str, str]) -> list[StageRule]:
    return [StageRule(kernel=kernel, stage=stage) for kernel, stage in pairs]  # type: ignore[arg-type]
