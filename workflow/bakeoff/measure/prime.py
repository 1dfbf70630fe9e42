"""Before anything is timed on a GPU: let every solution compile what it compiles, outside the GPU's lock.

Entry point: `prime`. Solutions run once on every workload, all at the same time, in workers that are thrown away; what their compilers
leave in the solution's cache folder serves the block's workers. A marker in the cache folder says that it is done for this content.
Failures are not recorded here: the block meets them again.
"""

from __future__ import annotations

import secrets
import selectors
import time
from pathlib import Path

from bakeoff.measure.children import ProtocolError
from bakeoff.measure.messages import Done, Ready, understand
from bakeoff.measure.sessions import Session, Setting, Task
from bakeoff.measure.variants import Variant


def prime(setting: Setting, tasks: list[Task]) -> None:
    """Fill the compilers' caches of the tasks' solutions; does nothing where nothing is timed on a GPU."""
    timed = [task for task in tasks if task.solution is not None and any(cell.kind == "measure" for cell in task.cells)]
    due = [task for task in timed if not _marker(setting, task).exists()]
    if setting.gpu is None or not due:
        return
    setting.tell(f"measure  compiling on the GPU, untimed: {', '.join(task.participant.name for task in due)}")
    with selectors.DefaultSelector() as selector:
        open_: dict[Session, list[str]] = {}
        for task in due:
            session = Session(task, setting)
            task.starts = 0
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
                elif not _advance(session, open_[session], setting):
                    _end(selector, session)
                    del open_[session]
        for session in open_:
            _end(selector, session)


def _advance(session: Session, workloads: list[str], setting: Setting) -> bool:
    """Answer what a worker said with its next workload; returns whether it goes on."""
    try:
        messages, closed = session.child.messages()
        understood = [understand(message) for message in messages]
    except ProtocolError:
        return False
    for message in understood:
        if not isinstance(message, Ready | Done):
            return False
        if not workloads:
            _marker(setting, session.task).write_text("")
            return False
        cell = session.task.cells[0]
        session.child.send({
            "do": "warm", "id": len(workloads), "token": secrets.token_hex(8), "workload": workloads.pop(), "family": cell.family,
            "seed": cell.seed, "variants": [Variant(cell.seed).document()],
        })  # fmt: skip
    return not closed


def _end(selector: selectors.BaseSelector, session: Session) -> None:
    for descriptor in (session.child.results, session.child.output):
        if descriptor in selector.get_map():
            selector.unregister(descriptor)
    session.child.end()
    session.close()


def _marker(setting: Setting, task: Task) -> Path:
    return setting.folder / "cache" / task.participant.name / f".primed-{task.participant.digest[:16]}"
