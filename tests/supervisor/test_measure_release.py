"""The end of a worker: what it is called, and when its memory is given back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from bakeoff.schema.outcomes import Outcome, Reason
from bakeoff.supervisor.block import STARTS, Block
from bakeoff.supervisor.sessions import Session


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
    found: list[tuple[Outcome, Reason]] = []
    session: Any = SimpleNamespace(
        oom_kills_rose=lambda: oom_kills,
        child=SimpleNamespace(end=lambda: status, printed=lambda: ""),
        task=SimpleNamespace(starts=STARTS),
        flight=None,
        ready=False,
    )
    block: Any = object.__new__(Block)
    block._fail = lambda session, outcome, reason, detail: found.append((outcome, reason))
    block.gone(session)
    assert found == [expected]
