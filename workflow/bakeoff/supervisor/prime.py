"""Before anything is timed: every participant imports and compiles what it needs, outside the device's lock.

Entry point: `prime`. All workers of a block start at once and run once on every workload that they are due on; each is
then stopped until its turn comes, so that under the lock nothing is imported, compiled or loaded. A participant that
fails here is not judged: the block meets the failure again, in a worker of its own, and records it cell by cell.
"""

from __future__ import annotations

import secrets
import time

from bakeoff.core.channel import ProtocolError
from bakeoff.core.messages import Done, Message, Ready
from bakeoff.core.variants import Variant
from bakeoff.supervisor.sessions import Session, Task
from bakeoff.supervisor.workers import Workers


def prime(workers: Workers, tasks: list[Task]) -> None:
    """Warm workers, one for each task that gets so far, all of them stopped; none where times do not count."""
    setting = workers.setting
    if setting.overlaps or not tasks:
        return
    setting.tell(
        f"measure  preparing {len(tasks)} workers, untimed: {', '.join(task.participant.name for task in tasks)}"
    )
    preparation = _Preparation(workers)
    for task in tasks:
        preparation.begin(task, time.monotonic() + setting.timeout_s)
    while preparation.due:
        workers.wait(preparation)


class _Preparation:
    """Listens to workers that are being prepared. `due`: the workloads that each has still to see."""

    def __init__(self, workers: Workers) -> None:
        self.workers = workers
        self.due: dict[Session, list[str]] = {}

    def begin(self, task: Task, deadline: float) -> None:
        session = self.workers.start(task)
        session.deadline, session.warming = deadline, True
        self.due[session] = list(dict.fromkeys(cell.workload for cell in task.cells))

    def hear(self, session: Session, message: Message) -> None:
        """Answer what a worker said with its next workload."""
        if isinstance(message, Ready) and not session.ready:
            session.take_ready(message)
        elif not isinstance(message, Done) or not session.ready:
            self._give_up(session)
            return
        workloads = self.due[session]
        if not workloads:
            session.warming = False
            session.rest()
            del self.due[session]
            return
        cell = session.task.cells[0]
        session.child.send(
            {
                "do": "warm",
                "id": len(workloads),
                "token": secrets.token_hex(8),
                "workload": workloads.pop(),
                "family": cell.family,
                "seed": cell.seed,
                "variants": [Variant(cell.seed).document()],
                "last": not workloads,
            }
        )

    def garbled(self, session: Session, error: ProtocolError) -> None:
        self._give_up(session)

    def gone(self, session: Session) -> None:
        self._give_up(session)

    def late(self, session: Session) -> None:
        self._give_up(session)

    def _give_up(self, session: Session) -> None:
        self.due.pop(session, None)
        session.task.starts = 0
        self.workers.retire(session)
