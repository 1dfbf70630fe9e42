"""One block: every participant in its own fresh child, cell by cell, judged outside, and recorded before the next one
counts.

Entry point: `Block.run`. Here is what runs when; what happens then is in `events`, what the device does meanwhile in
`surveillance`. The supervisor runs no foreign code and no torch.
"""

import contextlib

from bakeoff.core import policy
from bakeoff.core.confine import adopt_orphans
from bakeoff.core.device.opening import open_monitor
from bakeoff.core.environment import environment
from bakeoff.processes.fork_server import ForkServer
from bakeoff.schema.outcomes import Outcome, Reason
from bakeoff.supervisor.attempt import Attempt
from bakeoff.supervisor.events import Events
from bakeoff.supervisor.referee import RefereeClient
from bakeoff.supervisor.settings import BlockSettings, Sink, Task
from bakeoff.supervisor.surveillance import Surveillance
from bakeoff.supervisor.warm_up import warm_up
from bakeoff.supervisor.workers import Session, Workers

# What every child of a block imports anyway, and nothing of what only one side may see.
PRELOADED = ("torch", "bakeoff.core.moe.values", "bakeoff.traces.store", "bakeoff.core.variants")


def run_block(settings: BlockSettings, tasks: list[Task], sink: Sink) -> dict[str, float]:
    """Run the tasks of one block in order; on any exception all children are ended first.

    Returns the seconds for which the device was held (`lock`), a worker was running a cell (`timed`), and the referee
    was giving verdicts (`judged`).
    """
    adopt_orphans()
    settings.scratch.mkdir(parents=True, exist_ok=True)
    device = Surveillance(settings, open_monitor(settings.backend, settings.gpu))
    with contextlib.ExitStack() as ends:
        ends.callback(device.close)
        # Without a GPU times do not count, and processes are forked from one that has imported torch.
        forks = None
        if settings.gpu is None:
            variables = environment(settings.threads, settings.scratch, settings.scratch, None)
            forks = ForkServer.start(variables, settings.scratch, PRELOADED)
            ends.callback(forks.close)
        workers = Workers(settings, forks)
        referee = RefereeClient.start(settings, forks)
        ends.callback(referee.close)
        ends.callback(workers.close)
        events = Events(settings, workers, referee, device, sink)
        Block(settings, tasks, workers, referee, device, events).run()
    return {"lock": device.held_s, "timed": events.timed_s, "judged": referee.seconds}


class Block:
    """Decides which worker runs which cell when."""

    def __init__(
        self,
        settings: BlockSettings,
        tasks: list[Task],
        workers: Workers,
        referee: RefereeClient,
        device: Surveillance,
        events: Events,
    ) -> None:
        self._settings, self._tasks, self._workers = settings, tasks, workers
        self._referee, self._device, self._events = referee, device, events
        self._sent = 0  # cells so far

    def run(self) -> None:
        """One participant after the other, then what still waits for a verdict."""
        warm_up(self._workers, self._tasks)
        if self._settings.gpu is None:
            self._admit()
        for number, task in enumerate(self._tasks):
            following = self._tasks[number + 1 : number + 2] if self._settings.overlaps else []
            self._run_task(task, following)
        while self._referee.waiting:
            self._workers.wait(self._events)

    def _run_task(self, task: Task, following: list[Task]) -> None:
        """Run a participant's cells. following: whose worker may already start beside this one's."""
        self._events.turn = task
        if self._settings.overlaps and task.solution is not None and task.cells:
            # Timed cells change values anyway.
            task.probes = policy.choose_probes({cell.key: self._settings.tokens[cell.workload] for cell in task.cells})
        while True:
            session = self._workers.of(task)
            if not task.cells and (session is None or session.attempt is None):
                if not task.checks:
                    break
                self._workers.wait(self._events)  # a cell comes back when its worker has passed
                continue
            session = session or self._workers.start(task)
            session.wake()
            for later in following if session.ready else []:
                if later.cells and self._workers.of(later) is None:
                    self._workers.start(later)
            if session.ready and not self._device.taken:
                self._admit()
            if self._device.refused is not None:
                told = f"the SM clock cannot be locked: {self._device.refused}"
                self._events.refuse(session, Outcome.NOT_RUN, Reason.CLOCK_LOCK_REFUSED, told)
                continue
            self._send_next(session)
            self._workers.wait(self._events)
        if session:
            self._workers.retire(session)

    def _admit(self) -> None:
        """Take the device for this block; only now may the referee work on it."""
        self._device.take()
        self._referee.admit(self._tasks)

    def _send_next(self, session: Session) -> None:
        """Give a worker its next cell, if it and the referee are ready for one."""
        task, free = session.task, session.slots.free
        busy = not self._settings.overlaps and (self._referee.waiting or not self._referee.idle)
        if not session.ready or session.attempt or not task.cells or busy or not free:
            return
        slots = [free.pop() for _ in range(1 if self._settings.overlaps else len(free))]
        self._sent += 1
        session.attempt = Attempt.of(self._settings, task, self._sent, slots, session.passed)
        session.child.send(session.attempt.command())
