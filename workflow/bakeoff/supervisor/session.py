"""A worker process, with the shared memory that its outputs go to.

Entry point: `Session.start`. Side effects: a scratch folder, made anew, and a cache folder that outlives the session.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from bakeoff.core import policy
from bakeoff.core.environment import environment, shared_caches
from bakeoff.core.messages import Ready
from bakeoff.supervisor.attempt import Attempt
from bakeoff.supervisor.children import Child, Slots
from bakeoff.supervisor.fork_server import ForkServer
from bakeoff.supervisor.settings import BlockSettings, Task


class Session:
    """One worker, from its start until its outputs are judged."""

    def __init__(self, task: Task, child: Child, slots: Slots, deadline: float) -> None:
        """deadline: when the worker must be ready, time.monotonic()."""
        self.task, self.child, self.slots, self.deadline = task, child, slots, deadline
        self.ready, self.frozen, self.retired = False, False, False
        self.warming = False  # it is running once on every workload that it is due on
        self.attempt: Attempt | None = None
        self.judging = 0  # outputs of this worker that wait for the referee
        self.missing_tiers: dict[str, str] = {}
        self.warnings: list[str] = []
        self._oom_kills = _oom_kills()

    @classmethod
    def start(cls, task: Task, settings: BlockSettings, forks: ForkServer | None) -> Session:
        """Start a worker and give it its job."""
        task.starts += 1
        name = task.participant.name
        scratch, cache = settings.scratch / name, settings.folder / "cache" / name
        shutil.rmtree(scratch, ignore_errors=True)
        for folder in (scratch, cache):
            folder.mkdir(parents=True, exist_ok=True)
        rows = max(settings.tokens[cell.workload] for cell in task.cells)
        slots = Slots(3 if settings.overlaps else 4, 2 * rows * settings.geometry.hidden)
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
                "definition_path": str(settings.definition_path),
                "dataset": settings.dataset,
                "slot_size": slots.size,
            }
        )
        return cls(task, child, slots, time.monotonic() + policy.start_limit_s(settings.timeout_s))

    def take_ready(self, message: Ready) -> None:
        """The worker has imported its participant."""
        self.ready, self.missing_tiers = True, message.missing_tiers
        if message.unconfined:
            self.warnings.append(f"writes are not confined: {message.unconfined}")

    def rest(self) -> None:
        """Stop the worker until its turn comes: it must not use the machine while another one is measured."""
        self.child.freeze()
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
