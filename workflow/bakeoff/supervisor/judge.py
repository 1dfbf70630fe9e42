"""The supervisor's side of the referee: give it its job, hand it outputs, take its verdicts.

Entry point: `Judge`. The referee is one trusted child for a whole block.
"""

from __future__ import annotations

import time
from typing import Any

from bakeoff.core.variants import Variant
from bakeoff.supervisor.children import Child, environment
from bakeoff.supervisor.fork_server import Nursery
from bakeoff.supervisor.sessions import Flight, Session, Setting, Task


class Judge:
    """A referee process, and the cells that wait for it. `idle`: it has worked ahead on all that it was told of."""

    def __init__(self, setting: Setting, nursery: Nursery | None) -> None:
        folder = setting.scratch / "_referee"
        folder.mkdir(parents=True, exist_ok=True)
        # Started at once, so that it imports while workers do; it waits for `admit` before it touches the device.
        variables = environment(setting.threads, folder, folder, setting.gpu)
        self.child = Child.spawn("bakeoff.core.referee", variables, folder, nursery=nursery)
        self.idle = False
        self.waiting: dict[int, tuple[Session, Flight]] = {}
        self.seconds = 0.0
        self.at_work: list[tuple[float, float]] = []  # when it was, from the first question to the last answer
        self._asked: float | None = None
        self._setting = setting

    def admit(self, tasks: list[Task]) -> None:
        """Let the referee begin: it computes what the tasks' cells must give, as far as nothing else waits."""
        setting = self._setting
        self._asked = time.monotonic()
        cells = {(cell.workload, cell.family, cell.seed, cell.kind): cell for task in tasks for cell in task.cells}
        roundings = [task.participant.rounding for task in tasks if task.participant.rounding]
        self.child.send(
            {
                "threads": setting.threads,
                "traces_root": str(setting.traces_root),
                "definition": setting.definition,
                "dataset": setting.dataset,
                "device": "cpu" if setting.backend == "cpu" else "cuda",
                "emulates": setting.emulates,
                "roundings": [rounding.model_dump(mode="json") for rounding in roundings],
                "ahead": [
                    (cell.workload, cell.family, cell.seed, variant.document())
                    for cell in cells.values()
                    for variant in (Variant(cell.seed), *setting.timed_variants(cell))
                ],
            }
        )

    def submit(self, session: Session, flight: Flight) -> None:
        """Ask for a verdict on a cell's outputs."""
        session.judging += 1
        self._asked = self._asked or time.monotonic()
        self.waiting[flight.identity["id"]] = (session, flight)
        rounding, cell = flight.task.participant.rounding, flight.cell
        self.child.send(
            {
                "do": "judge",
                "id": flight.identity["id"],
                "workload": cell.workload,
                "family": cell.family,
                "seed": cell.seed,
                "rounding": rounding.model_dump(mode="json") if rounding else None,
                "memory": session.slots.path,
                "slot_size": session.slots.size,
                "outputs": flight.outputs,
            }
        )

    def verdicts(self) -> list[tuple[Session, Flight, dict[str, Any]]]:
        """What has arrived since the last call; RuntimeError, with what it printed, if the referee is gone."""
        messages, closed = self.child.messages()
        found = []
        for message in messages:
            if message["say"] == "idle":
                self.idle = True
            elif message["say"] == "judged":
                session, flight = self.waiting.pop(message["id"])
                self.seconds += message["seconds"]
                found.append((session, flight, message))
        if self._asked and self.idle and not self.waiting:
            self.at_work.append((self._asked, time.monotonic()))
            self._asked = None
        if closed:
            self.child.end()
            raise RuntimeError(f"the referee died; it printed:\n{self.child.printed()}")
        return found

    def close(self) -> None:
        self.child.end()
        self.child.close()
