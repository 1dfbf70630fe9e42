"""When a worker's memory is given back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from bakeoff.measure.outcomes import Outcome
from bakeoff.measure.supervisor import Block


def test_several_verdicts_at_once_release_a_retired_worker_exactly_once() -> None:
    """A descriptor that is closed twice may by then belong to another worker."""
    closed: list[str] = []
    session = SimpleNamespace(judging=2, retired=True, close=lambda: closed.append("closed"))
    verdict = {"outcome": Outcome.PASSED.value, "reason": None, "detail": None}
    judge = SimpleNamespace(child=SimpleNamespace(output=-1), verdicts=lambda: [(session, None, verdict)] * 2)
    block: Any = object.__new__(Block)
    block._judge = judge
    block._finish = lambda *result: None
    block._hear_referee(0)
    assert session.judging == 0
    assert closed == ["closed"]
