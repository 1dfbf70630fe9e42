"""The supervisor's side of the referee: give it its job, hand it outputs, take its verdicts.

Entry point: `RefereeClient.start`. The referee is one trusted child for a whole block.
"""

from typing import Any

from bakeoff.core.environment import environment
from bakeoff.errors import InputError
from bakeoff.processes.children import Child
from bakeoff.processes.fork_server import ForkServer
from bakeoff.supervisor.attempt import Attempt
from bakeoff.supervisor.settings import BlockSettings, Task
from bakeoff.supervisor.workers import Session


class RefereeClient:
    """A referee process, and the cells that wait for it. `idle`: it has worked ahead on all that it was told of."""

    def __init__(self, child: Child, settings: BlockSettings) -> None:
        self.child, self._settings = child, settings
        self.idle = False
        self.waiting: dict[int, tuple[Session, Attempt]] = {}
        self.seconds = 0.0  # that verdicts took

    @classmethod
    def start(cls, settings: BlockSettings, forks: ForkServer | None) -> "RefereeClient":
        """Start a referee. It imports while workers do, and waits for `admit` before it touches the device."""
        folder = settings.scratch / "_referee"
        folder.mkdir(parents=True, exist_ok=True)
        variables = environment(settings.threads, folder, folder, settings.gpu)
        return cls(Child.spawn("bakeoff.core.referee", variables, folder, forks=forks), settings)

    def admit(self, tasks: list[Task]) -> None:
        """Let the referee begin: it computes what the tasks' cells must give, as far as nothing else waits."""
        settings = self._settings
        cells = {(cell.workload, cell.family, cell.seed, cell.kind): cell for task in tasks for cell in task.cells}
        roundings = [task.participant.rounding for task in tasks if task.participant.rounding]
        self.child.send(
            {
                "threads": settings.threads,
                "traces_root": str(settings.traces_root),
                "definition": settings.definition,
                "dataset": settings.dataset,
                "device": "cpu" if settings.backend == "cpu" else "cuda",
                "emulates": settings.emulates,
                "roundings": [rounding.model_dump(mode="json") for rounding in roundings],
                "ahead": [(cell.workload, cell.family, cell.seed) for cell in cells.values()],
            }
        )

    def submit(self, session: Session, attempt: Attempt) -> None:
        """Ask for a verdict on a cell's outputs."""
        session.judging += 1
        self.waiting[attempt.identity["id"]] = (session, attempt)
        rounding, cell = attempt.task.participant.rounding, attempt.cell
        self.child.send(
            {
                "do": "judge",
                "id": attempt.identity["id"],
                "workload": cell.workload,
                "family": cell.family,
                "seed": cell.seed,
                "rounding": rounding.model_dump(mode="json") if rounding else None,
                "memory": session.slots.path,
                "slot_size": session.slots.size,
                "outputs": attempt.outputs,
            }
        )

    def verdicts(self) -> list[tuple[Session, Attempt, dict[str, Any]]]:
        """What has arrived since the last call; InputError, with what it printed, if the referee is gone."""
        messages, closed = self.child.messages()
        found = []
        for message in messages:
            if message["say"] == "idle":
                self.idle = True
            elif message["say"] == "judged":
                session, attempt = self.waiting.pop(message["id"])
                self.seconds += message["seconds"]
                found.append((session, attempt, message))
        if closed:
            self.child.end()
            raise InputError(
                "the referee's process",
                found=f"it has died: {(self.child.printed().splitlines() or ['it said nothing'])[-1]}",
                expected="one that lives as long as the block",
                hint="give the host more memory, then run the same command again: finished cells are kept",
            )
        return found

    def close(self) -> None:
        """End the referee; the memory of retired workers whose outputs it has not judged is given back."""
        for session in {session for session, _ in self.waiting.values() if session.retired}:
            session.close()
        self.child.end()
        self.child.close()
