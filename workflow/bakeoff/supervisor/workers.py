"""The worker processes of a block: started, listened to, ended, and nothing of theirs left behind.

Entry points: `Session`, one worker with the shared memory that its outputs go to, and `Workers`, whose `wait` is the
one place where the supervisor waits; what a worker said goes to whoever listens at that moment: the warm-up or the
block. Side effects: for each worker a scratch folder, made anew, and a cache folder that outlives it.
"""

import contextlib
import os
import selectors
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from bakeoff.core import policy
from bakeoff.core.environment import environment, shared_caches
from bakeoff.core.messages import ChannelError, Confined, Message, Ready, understand
from bakeoff.files import remove_tree
from bakeoff.processes.children import Child, Slots, children_of, descendants, end_below
from bakeoff.processes.fork_server import ForkServer
from bakeoff.supervisor.attempt import Attempt, Passed
from bakeoff.supervisor.disk import Disk
from bakeoff.supervisor.settings import BlockSettings, Task


class Session:
    """One worker, from its start until its outputs are judged."""

    def __init__(self, task: Task, child: Child, slots: Slots, scratch: Path, cache: Path, deadline: float) -> None:
        """deadline: when the worker must be ready, time.monotonic()."""
        self.task, self.child, self.slots, self.deadline = task, child, slots, deadline
        self.scratch, self.cache = scratch, cache
        self.start_limit_s = round(deadline - time.monotonic())
        self.confined, self.ready, self.frozen, self.retired = False, False, False, False
        self.warming = False  # it is running once on every workload that it is due on
        self.attempt: Attempt | None = None
        self.passed: Passed = {}  # what was judged where it passed `robust`
        self.judging = 0  # outputs of this worker that wait for the referee
        self.missing_tiers: dict[str, str] = {}
        self.warnings: list[str] = []
        self._oom_kills = _oom_kills()

    @classmethod
    def start(cls, task: Task, settings: BlockSettings, forks: ForkServer | None) -> "Session":
        """Start a worker and give it its job."""
        task.starts += 1
        name = task.participant.name
        scratch, cache = settings.scratch / name, settings.folder / "cache" / name
        remove_tree(scratch)
        for folder in (scratch, cache):
            folder.mkdir(parents=True, exist_ok=True)
        rows = max(settings.tokens[cell.workload] for cell in task.cells)
        slots = Slots(8 if settings.overlaps else 3, 2 * rows * settings.geometry.hidden)
        variables = environment(settings.threads, scratch, cache, settings.gpu)
        child = Child.spawn("bakeoff.core.worker.__main__", variables, scratch, (slots.descriptor,), forks)
        child.send(
            {
                "participant": name,
                "solution": None if task.solution is None else str(task.solution),
                "scratch": str(scratch),
                "writable": [str(scratch), str(cache), *shared_caches()],
                "backend": settings.backend,
                "threads": settings.threads,
                "traces_root": str(settings.traces_root),
                "definition": settings.definition,
                "dataset": settings.dataset,
                "slot_size": slots.size,
            }
        )
        limit_s = policy.start_limit_s(settings.timeout_s, forked=forks is not None)
        return cls(task, child, slots, scratch, cache, time.monotonic() + limit_s)

    def take_confined(self, message: Confined) -> None:
        """The worker has raised its walls; ChannelError if it had said so: whoever says it again is the solution."""
        if self.confined:
            raise ChannelError("walls are raised once")
        self.confined, self.warnings = True, list(message.missing)

    def take_ready(self, message: Ready) -> None:
        """The worker has imported its participant."""
        self.ready, self.missing_tiers = True, message.missing_tiers

    def rest(self) -> None:
        """Stop the worker until its turn comes: it must not use the machine while another one is measured."""
        self.child.freeze()
        for process in descendants(self.child.pid):
            with contextlib.suppress(OSError):
                if os.getpgid(process) != self.child.pid:  # it would go on
                    os.kill(process, signal.SIGKILL)
        self.frozen = True

    def wake(self) -> None:
        if self.frozen:
            self.child.thaw()
            self.frozen = False

    @property
    def clock(self) -> float | None:
        """When patience ends; None while nothing is expected of the worker."""
        if self.attempt:
            return self.attempt.deadline
        return self.deadline if self.warming or not self.ready else None

    def oom_kills_rose(self) -> bool:
        """Whether the kernel has ended a process for lack of memory since this worker began."""
        return _oom_kills() > self._oom_kills

    def release(self) -> None:
        """Give the shared memory back, once the worker has ended and all its outputs are judged."""
        if self.retired and not self.judging:
            self.close()

    def close(self) -> None:
        self.child.close()
        self.slots.close()


def _oom_kills() -> int:
    fields = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    return int(fields.get("oom_kill", 0))


LOOK_S = 0.25  # between two looks at the disk, and at commands that a child had no room for


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

    def filled(self, session: Session) -> None:
        """Its files have filled the disk."""


class Workers:
    """All workers of a block, and the trusted children beside them."""

    def __init__(self, settings: BlockSettings, forks: ForkServer | None) -> None:
        self.settings, self._forks = settings, forks
        self.sessions: list[Session] = []
        # Every process of the block so far: NVML may list one for a moment after it has ended.
        self.pids: set[int] = set()
        self._selector = selectors.DefaultSelector()
        self.disk = Disk(settings.folder)
        self._own = set(children_of(os.getpid()))  # there before the block, or trusted

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
        for session in self.sessions:
            session.child.flush()
        for key, _ in self._selector.select(min([LOOK_S, *(max(0.0, clock - time.monotonic()) for clock in clocks)])):
            if isinstance(key.data, Child):
                self._drain(key.data)
            elif not isinstance(key.data, Session):
                key.data()
            elif key.data in self.sessions:  # an event before this one may have ended it
                self._listen(key.data, key.fd, listener)
        short = self.disk.short()
        for session in list(self.sessions):
            if session.clock is not None and time.monotonic() >= session.clock:
                listener.late(session)
            elif short and self.filled(session):
                listener.filled(session)

    def _listen(self, session: Session, descriptor: int, listener: Listener) -> None:
        if descriptor == session.child.output:
            self._drain(session.child)
            return
        try:
            messages, closed = session.child.messages()
            for message in messages:
                said = understand(message)
                if isinstance(said, Confined):
                    session.take_confined(said)
                elif not session.retired:
                    listener.hear(session, said)
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
        # Its own orphans among them; those of a worker that lives are that worker's.
        end_below(os.getpid(), self._own | {other.child.pid for other in self.sessions})
        if self.disk.short():
            for folder in (session.scratch, session.cache):
                remove_tree(folder)

    def left_processes(self, session: Session) -> str:
        """Names of processes that a worker started and that are still there, after ending them."""
        return ", ".join(end_below(session.child.pid)[:20])

    def filled(self, session: Session) -> bool:
        """Whether a worker's files are what the disk is short of."""
        return self.disk.taken_by(session.scratch, session.cache)

    def close(self) -> None:
        """End all workers; trusted children are ended by who started them."""
        for session in self.sessions:
            session.child.end()
            session.close()
        self._selector.close()
