"""Workers are prepared before anything is timed: all at the same time, on every due workload, failures left to the
block."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from bakeoff.processes.children import descendants
from bakeoff.runs.block_run import settings_of
from bakeoff.supervisor.settings import BlockSettings, Task
from bakeoff.supervisor.warm_up import warm_up
from bakeoff.supervisor.workers import Session, Workers
from support.measure_runs import make_run, plan_of

pytestmark = pytest.mark.timeout(900)

# Leaves a mark per workload where a compiler would leave a kernel.
COMPILES = (
    "import os\nfrom pathlib import Path\n"
    "def run_with(honest, *arguments):\n"
    "    honest(*arguments)\n"
    "    (Path(os.environ['XDG_CACHE_HOME']) / f'kernel-{arguments[-1].shape[0]}').write_text('')\n"
)


def prepared(folder: Path) -> tuple[BlockSettings, list[Task], list[str]]:
    run = make_run(folder, {"compiles": COMPILES, "crashes": "import os\ndef run_with(*arguments):\n    os._exit(1)\n"})
    plan, told = plan_of(run), []
    tasks = []
    for who in plan.participants:
        cells = deque(cell for cell in plan.cells if cell.participant == who.name)
        tasks.append(Task(who, run / who.build if who.build else None, cells))
    return replace(settings_of(plan, run, 0), overlaps=False, tell=told.append), tasks, told


@pytest.fixture
def ended() -> Iterator[list[Session]]:
    """Sessions that a test adds are ended after it."""
    sessions: list[Session] = []
    yield sessions
    for session in sessions:
        session.child.end()
        session.close()


def test_workers_are_kept_warm_and_stopped_and_one_that_fails_is_left_to_the_block(
    tmp_path: Path, ended: list[Session]
) -> None:
    setting, tasks, told = prepared(tmp_path)
    before = set(descendants(os.getpid()))
    workers = Workers(setting, None)
    warm_up(workers, tasks)
    ended += workers.sessions
    assert sorted(session.task.participant.name for session in ended) == ["compiles", "reference"]
    cache = setting.folder / "cache"
    assert sorted(path.name for path in (cache / "compiles").glob("kernel-*")) == ["kernel-1", "kernel-7"]
    assert set(descendants(os.getpid())) - before == {session.child.pid for session in ended}
    assert all(session.ready and not session.warming and session.frozen and session.clock is None for session in ended)
    assert all(_stopped(session) for session in ended)
    assert len(told) == 1 and "compiles" in told[0] and "crashes" in told[0]
    assert {task.participant.name: task.starts for task in tasks} == {"compiles": 1, "crashes": 0, "reference": 1}
    assert all(len(task.cells) == 2 for task in tasks)


def test_nothing_is_prepared_where_times_do_not_count_or_nothing_is_due(tmp_path: Path) -> None:
    setting, tasks, told = prepared(tmp_path)
    for workers, due in ((Workers(replace(setting, overlaps=True), None), tasks), (Workers(setting, None), [])):
        warm_up(workers, due)
        assert workers.sessions == []
    assert told == []


def _stopped(session: Session) -> bool:
    """Whether a signal has stopped the worker; it takes effect when the worker is next scheduled."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if Path(f"/proc/{session.child.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
            return True
        time.sleep(0.01)
    return False
