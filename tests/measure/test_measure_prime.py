"""Compilers run before anything is timed: once per content, all solutions at the same time, failures left to the block."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import replace
from pathlib import Path

import pytest
from bakeoff.measure.block import setting_of
from bakeoff.measure.children import descendants
from bakeoff.measure.prime import prime
from bakeoff.measure.sessions import Setting, Task
from measure_runs import make_run, plan_of

pytestmark = pytest.mark.timeout(900)

# Leaves a mark per workload where a compiler would leave a kernel.
COMPILES = (
    "import os\nfrom pathlib import Path\n"
    "def run_with(honest, *arguments):\n"
    "    honest(*arguments)\n"
    "    (Path(os.environ['XDG_CACHE_HOME']) / f'kernel-{arguments[-1].shape[0]}').write_text('')\n"
)


def prepared(folder: Path) -> tuple[Setting, list[Task], list[str]]:
    run = make_run(folder, {"compiles": COMPILES, "crashes": "import os\ndef run_with(*arguments):\n    os._exit(1)\n"})
    plan, told = plan_of(run), []
    tasks = []
    for who in plan.participants:
        cells = deque(cell for cell in plan.cells if cell.participant == who.name)
        tasks.append(Task(who, run / who.build if who.build else None, cells))
    return replace(setting_of(plan, run, 0), gpu="GPU-of-a-test", tell=told.append), tasks, told


def test_every_solution_compiles_once_for_every_workload_and_no_worker_is_left(tmp_path: Path) -> None:
    setting, tasks, told = prepared(tmp_path)
    before = set(descendants(os.getpid()))
    prime(setting, tasks)
    assert set(descendants(os.getpid())) <= before
    cache = setting.folder / "cache"
    assert sorted(path.name for path in (cache / "compiles").glob("kernel-*")) == ["kernel-1", "kernel-7"]
    assert list((cache / "compiles").glob(".primed-*")) and not list((cache / "crashes").glob(".primed-*"))
    assert len(told) == 1 and "compiles" in told[0] and "crashes" in told[0] and "reference" not in told[0]
    assert all(task.starts == 0 and len(task.cells) == 2 for task in tasks)
    prime(setting, tasks)
    assert len(told) == 2 and "compiles" not in told[1] and "crashes" in told[1]


def test_nothing_is_primed_without_a_gpu_or_without_anything_to_time(tmp_path: Path) -> None:
    setting, tasks, told = prepared(tmp_path)
    prime(replace(setting, gpu=None), tasks)
    for task in tasks:
        task.cells = deque(cell.model_copy(update={"kind": "verify"}) for cell in task.cells)
    prime(setting, tasks)
    assert told == []
