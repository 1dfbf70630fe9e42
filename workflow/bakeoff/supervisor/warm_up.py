"""Before anything is timed: every participant imports and compiles what it needs, outside the device's lock.

Entry point: `warm_up`. All workers of a block start at once and run once on every workload that they are due on; each
is then stopped until its turn comes, so that under the lock nothing is imported, compiled or loaded. A participant that
fails here is not judged: the block meets the failure again, in a worker of its own, and records it cell by cell.
"""

import secrets
import time

from bakeoff.core.messages import ChannelError, Done, Message, Ready
from bakeoff.supervisor.settings import Task
from bakeoff.supervisor.workers import Session, Workers


def warm_up(workers: Workers, tasks: list[Task]) -> None:
    """Warm workers, one for each task that gets so far, all of them stopped; none where times do not count."""
    settings = workers.settings
    if settings.overlaps or not tasks:
        return
    names = ", ".join(task.participant.name for task in tasks)
    settings.tell(f"measure  preparing {len(tasks)} workers, untimed: {names}")
    listener = _WarmUp(workers, tasks)
    while listener.due:
        workers.wait(listener)


class _WarmUp:
    """Listens to workers that warm up. `due`: the workloads that each has still to see."""

    def __init__(self, workers: Workers, tasks: list[Task]) -> None:
        self.workers = workers
        self.due: dict[Session, list[str]] = {}
        for task in tasks:
            session = workers.start(task)
            session.deadline, session.warming = time.monotonic() + workers.settings.timeout_s, True
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
                "last": not workloads,
            }
        )

    def garbled(self, session: Session, error: ChannelError) -> None:
        self._give_up(session)

    def gone(self, session: Session) -> None:
        self._give_up(session)

    def late(self, session: Session) -> None:
        self._give_up(session)

    def filled(self, session: Session) -> None:
        self._give_up(session)

    def _give_up(self, session: Session) -> None:
        self.due.pop(session, None)
        session.task.starts = 0
        self.workers.retire(session)
