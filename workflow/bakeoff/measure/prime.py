"""Before anything is timed: every participant imports and compiles what it needs, outside the device's lock.

Entry point: `prime`. All workers of a block start at once and run once on every workload that they are due on; each is then stopped
until its turn comes, so that under the lock nothing is imported, compiled or loaded. A participant that fails here is not judged: the
block meets the failure again, in a worker of its own, and records it cell by cell.
"""

from __future__ import annotations

import secrets
import selectors
import time

from bakeoff.measure.children import ProtocolError
from bakeoff.measure.messages import Done, Ready, understand
from bakeoff.measure.sessions import Session, Setting, Task
from bakeoff.measure.variants import Variant


def prime(setting: Setting, tasks: list[Task]) -> list[Session]:
    """Warm workers, one for each task that got so far, all of them stopped; none where times do not count."""
    if setting.overlaps or not tasks:
        return []
    setting.tell(
        f"measure  preparing {len(tasks)} workers, untimed: {', '.join(task.participant.name for task in tasks)}"
    )
    warm: list[Session] = []
    with selectors.DefaultSelector() as selector:
        open_: dict[Session, list[str]] = {}
        for task in tasks:
            session = Session(task, setting)
            open_[session] = list(dict.fromkeys(cell.workload for cell in task.cells))
            for descriptor in (session.child.results, session.child.output):
                selector.register(descriptor, selectors.EVENT_READ, session)
        deadline = time.monotonic() + setting.timeout_s
        while open_ and time.monotonic() < deadline:
            for key, _ in selector.select(max(0.0, deadline - time.monotonic())):
                session = key.data
                if session not in open_:
                    continue
                if key.fd == session.child.output:
                    if session.child.drain():
                        selector.unregister(key.fd)
                elif not _advance(session, open_[session]):
                    _give_up(session)
                    del open_[session]
                elif session.warm:
                    session.rest()
                    warm.append(session)
                    del open_[session]
        for session in open_:
            _give_up(session)
    return warm


def _advance(session: Session, workloads: list[str]) -> bool:
    """Answer what a worker said with its next workload; returns whether it goes on."""
    try:
        messages, closed = session.child.messages()
        understood = [understand(message) for message in messages]
    except ProtocolError:
        return False
    for message in understood:
        if isinstance(message, Ready) and not session.ready:
            session.take_ready(message)
        elif not isinstance(message, Done):
            return False
        if not workloads:
            session.warm = True
            break
        cell = session.task.cells[0]
        session.child.send({
            "do": "warm", "id": len(workloads), "token": secrets.token_hex(8), "workload": workloads.pop(), "family": cell.family,
            "seed": cell.seed, "variants": [Variant(cell.seed).document()], "last": not workloads,
        })  # fmt: skip
    return not closed


def _give_up(session: Session) -> None:
    session.task.starts = 0
    session.child.end()
    session.close()
