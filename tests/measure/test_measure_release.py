"""When a worker's memory is given back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from bakeoff.measure.samples.outcomes import Outcome
from bakeoff.measure.supervisor.block import Block
from bakeoff.measure.supervisor.sessions import Session


def test_several_verdicts_at_once_release_a_retired_worker_exactly_once() -> None:
    """A descriptor that is closed twice may by then belong to another worker."""
    closed: list[str] = []
    session: Any = object.__new__(Session)
    session.judging, session.retired, session.close = 2, True, lambda: closed.append("closed")
    verdict = {"outcome": Outcome.PASSED.value, "reason": None, "detail": None}
    judge = SimpleNamespace(verdicts=lambda: [(session, None, verdict)] * 2)
    block: Any = object.__new__(Block)
    block._judge = judge
    block._finish = lambda *result: None
    block._hear_referee()
    assert session.judging == 0
    assert closed == ["closed"]
