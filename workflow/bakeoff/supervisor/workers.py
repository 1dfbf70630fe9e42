"""The worker processes of a block: started, listened to, ended, and nothing of theirs left behind.

Entry point: `Workers`. Its `wait` is the one place where the supervisor waits; what a worker said goes to whoever
listens at that moment: the warm-up or the block.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import time
from collections.abc import Callable
from typing import Protocol

import psutil

from bakeoff.core.channel import ChannelError
from bakeoff.core.messages import Message, understand
from bakeoff.supervisor.children import Child, Tree, descendants, end_orphans, process_tree
from bakeoff.supervisor.fork_server import ForkServer
from bakeoff.supervisor.session import Session
from bakeoff.supervisor.settings import BlockSettings, Task


class Listener(Protocol):
    """What can happen to a worker that is waited for."""

    def hear(self, session: Session, message: Message) -> None:
        """It said something; ChannelError if that is no answer to what it was asked."""

    def garbled(self, session: Session, error: ChannelError) -> None:
        """It said something that is no message of the harness."""

    def gone(self, session: Session) -> None:
        """Its end of the channel has closed."""

    def late(self, session: Session) -> None:
        """It has not answered in time."""


class Workers:
    """All workers of a block, and the trusted children beside them."""

    def __init__(self, settings: BlockSettings, forks: ForkServer | None) -> None:
        self.settings, self._forks = settings, forks
        self.sessions: list[Session] = []
        # Every process of the block so far: NVML may list one for a moment after it has ended.
        self.pids: set[int] = set()
        self._selector = selectors.DefaultSelector()
        self._own = set(descendants(os.getpid()))  # there before the block, or trusted

    def start(self, task: Task) -> Session:
        """A new worker for a participant."""
        session = Session.start(task, self.settings, self._forks)
        self.sessions.append(session)
        self.pids.add(session.child.pid)
        for descriptor in (session.child.results, session.child.output):
            self._selector.register(descriptor, selectors.EVENT_READ, session)
        return session

    def of(self, task: Task) -> Session | None:
        return next((session for session in self.sessions if session.task is task), None)

    def trust(self, child: Child, heard: Callable[[], None]) -> None:
        """Listen to a child that is no worker: `heard` is called when it has said something."""
        self.pids.add(child.pid)
        self._own.add(child.pid)
        self._selector.register(child.results, selectors.EVENT_READ, heard)
        self._selector.register(child.output, selectors.EVENT_READ, child)

    def wait(self, listener: Listener) -> None:
        """Wait for the next message, death or deadline, and tell the listener."""
        clocks = [session.clock for session in self.sessions if session.clock is not None]
        timeout = max(0.0, min(clocks) - time.monotonic()) if clocks else None
        for key, _ in self._selector.select(timeout):
            if isinstance(key.data, Child):
                self._drain(key.data)
            elif not isinstance(key.data, Session):
                key.data()
            elif key.data in self.sessions:  # an event before this one may have ended it
                self._listen(key.data, key.fd, listener)
        for session in list(self.sessions):
            if session.clock is not None and time.monotonic() >= session.clock:
                listener.late(session)

    def _listen(self, session: Session, descriptor: int, listener: Listener) -> None:
        if descriptor == session.child.output:
            self._drain(session.child)
            return
        try:
            messages, closed = session.child.messages()
            for message in messages:
                if not session.retired:
                    listener.hear(session, understand(message))
        except ChannelError as error:
            listener.garbled(session, error)
            return
        if closed and not session.retired:
            listener.gone(session)

    def _drain(self, child: Child) -> None:
        if child.drain():
            self._selector.unregister(child.output)

    def retire(self, session: Session) -> None:
        """End a worker; outputs that wait for the referee stay readable until they are judged."""
        session.child.end()
        for descriptor in (session.child.results, session.child.output):
            with contextlib.suppress(KeyError):
                self._selector.unregister(descriptor)
        self.sessions.remove(session)
        session.retired = True
        session.release()
        self._end_strangers(process_tree())

    def left_processes(self, session: Session) -> str:
        """Names of processes that a worker started and that are still there, after ending them."""
        tree = process_tree()
        left = descendants(session.child.pid, tree)
        names = [_name_of(process) for process in left]
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        return ", ".join([*names, *(f"{process} (left its group)" for process in self._end_strangers(tree))])

    def _end_strangers(self, tree: Tree) -> list[int]:
        return end_orphans({session.child.pid for session in self.sessions} | self._own, tree)

    def close(self) -> None:
        """End all workers; trusted children are ended by who started them."""
        for session in self.sessions:
            session.child.end()
            session.close()
        self._selector.close()


def _name_of(process: int) -> str:
    """The process with the name that it gave itself; bytes of it that are no text are made visible."""
    try:
        name = psutil.Process(process).name()
    except psutil.Error:
        return str(process)
    return f"{process} ({os.fsencode(name).decode(errors='backslashreplace')})"
