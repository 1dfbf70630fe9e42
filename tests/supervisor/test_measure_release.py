"""The end of a worker: what it is called, and when its memory is given back."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from bakeoff.core import policy
from bakeoff.schema.outcomes import Outcome, Reason
from bakeoff.schema.plan import PlannedCell
from bakeoff.supervisor.events import Events
from bakeoff.supervisor.settings import Task
from bakeoff.supervisor.workers import Session


def test_several_verdicts_at_once_release_a_retired_worker_exactly_once() -> None:
    """A descriptor that is closed twice may by then belong to another worker."""
    closed: list[str] = []
    child: Any = SimpleNamespace(close=lambda: closed.append("channel"))
    slots: Any = SimpleNamespace(close=lambda: closed.append("memory"), free=[])
    session = Session(MagicMock(), child, slots, Path("scratch"), Path("cache"), 0.0)
    session.judging, session.retired = 2, True
    verdict = {"outcome": Outcome.CRASHED.value, "reason": None, "detail": None}
    referee = SimpleNamespace(verdicts=lambda: [(session, MagicMock(slots=[]), verdict)] * 2, child=None)
    heard: list[Any] = []
    workers = SimpleNamespace(trust=lambda child, hear: heard.append(hear))
    Events(MagicMock(), workers, referee, MagicMock(), MagicMock(tampered=lambda: None))  # type: ignore[arg-type]
    heard[0]()
    assert session.judging == 0
    assert closed == ["channel", "memory"]


@pytest.mark.parametrize(
    ("status", "oom_kills", "expected"),
    [
        (-9, True, (Outcome.OUT_OF_MEMORY, Reason.OOM_KILLER)),
        (-9, False, (Outcome.CRASHED, Reason.SIGNAL)),
        (-11, True, (Outcome.CRASHED, Reason.SIGNAL)),
        (3, False, (Outcome.CRASHED, Reason.EXITED)),
    ],
)
def test_a_worker_that_is_gone_is_typed_by_how_it_went(
    status: int, oom_kills: bool, expected: tuple[Outcome, Reason]
) -> None:
    """The kernel's out-of-memory killer sends the same signal as an operator; its own counter tells."""
    cell = PlannedCell(participant="p", workload="w", kind="measure", protocol="robust", family="fib", seed=0, key="k")
    task = Task(MagicMock(), None, deque([cell]), starts=policy.STARTS)
    child: Any = SimpleNamespace(end=lambda: status, printed=lambda: "last words")
    session = Session(task, child, MagicMock(free=[]), Path("scratch"), Path("cache"), 0.0)
    session.oom_kills_rose = lambda: oom_kills  # type: ignore[method-assign]
    sink = MagicMock(tampered=lambda: None)
    settings: Any = SimpleNamespace(
        block=3, clock=lambda: "now", timeout_s=1.0, timed=lambda cell: False, overlaps=False
    )
    Events(settings, MagicMock(), MagicMock(), MagicMock(), sink).gone(session)
    ((record,), _) = sink.add.call_args
    assert (record.outcome, record.reason) == expected and "last words" in record.detail
    assert record.key == "k" and record.block == 3 and not task.cells
