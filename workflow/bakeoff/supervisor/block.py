"""One block: every participant in its own fresh child, cell by cell, judged outside, and recorded before the next one
counts.

Entry point: `Block.run`. The supervisor runs no foreign code and no torch: it starts children, waits for what they say,
keeps the time, and hands records to `Recorder.add`. A crash, a hang or a broken rule costs the cell in flight; the rest
goes on in a new child.
"""

from __future__ import annotations

import contextlib
import secrets
import signal
import time
from typing import Any, Protocol

from bakeoff import locks
from bakeoff.core.channel import ProtocolError
from bakeoff.core.device.gpu_state import disturbance, locked_clocks, summary
from bakeoff.core.device.opening import open_monitor
from bakeoff.core.messages import Batch, Done, Failed, Message, Ready
from bakeoff.core.protocols import SMALL_TOKENS
from bakeoff.core.variants import Variant
from bakeoff.schema.outcomes import Outcome, Reason
from bakeoff.schema.sample import Record
from bakeoff.supervisor.children import become_subreaper, environment
from bakeoff.supervisor.fork_server import Nursery
from bakeoff.supervisor.judge import Judge
from bakeoff.supervisor.prime import prime
from bakeoff.supervisor.sessions import START_S, Flight, Session, Setting, Task
from bakeoff.supervisor.usage import Usage
from bakeoff.supervisor.workers import Workers

KILL_GRACE_S = 1.0  # time for a hanging worker to print its stack
PROBES = 2  # cells of each participant that run a second time on changed values
RETRIES = 2  # times that a disturbed cell runs again
STARTS = 3  # attempts to start a worker before its participant is given up


class Recorder(Protocol):
    """Where results go; `add` returns only when the record is safe."""

    def add(self, record: Record) -> None: ...

    def tampered(self) -> str | None:
        """A sentence if the run's files were changed by somebody else."""


class Block:
    """Runs the tasks of one block in order."""

    def __init__(self, setting: Setting, tasks: list[Task], recorder: Recorder) -> None:
        self.setting, self.tasks, self.recorder = setting, tasks, recorder
        self._monitor = open_monitor(setting.backend, setting.gpu)
        self._count = 0
        self._held = contextlib.ExitStack()  # the device's lock and what else is undone at the end
        self._refused: str | None = None  # why the clock cannot be locked
        self.usage = Usage()

    def run(self) -> None:
        """Run everything; on any exception all children are ended first."""
        become_subreaper()
        setting, nursery = self.setting, None
        if setting.gpu is None:
            setting.scratch.mkdir(parents=True, exist_ok=True)
            nursery = Nursery(environment(setting.threads, setting.scratch, setting.scratch, None), setting.scratch)
            self._held.callback(nursery.close)
        self._workers = Workers(setting, nursery)
        try:
            self._judge = Judge(setting, nursery)
            self._workers.trust(self._judge.child, self._hear_referee)
            prime(self._workers, self.tasks)
            if setting.gpu is None:
                self._admit()
            for number, task in enumerate(self.tasks):
                self._current = task
                self._run_task(task, self.tasks[number + 1 : number + 2] if self.setting.overlaps else [])
            while self._judge.waiting:
                self._workers.wait(self)
        finally:
            self._end_all()

    # -- one participant

    def _run_task(self, task: Task, following: list[Task]) -> None:
        self._choose_probes(task)
        while True:
            session = self._workers.of(task)
            if not task.cells and (session is None or session.flight is None):
                break
            session = session or self._workers.start(task)
            session.wake()
            for later in following if session.ready else []:
                if later.cells and self._workers.of(later) is None:
                    self._workers.start(later)
            if session.ready and self.usage.taken is None:
                self._admit()
            if self._refused is not None:
                self._not_run(session, Reason.CLOCK_LOCK_REFUSED, f"the SM clock cannot be locked: {self._refused}")
                continue
            self._send_next(session)
            self._workers.wait(self)
        if session:
            self._workers.retire(session)

    def _admit(self) -> None:
        """Take the device for this block; only now may the referee work on it."""
        if self.setting.gpu:
            self._held.enter_context(
                locks.hold(locks.gpu_lock(self.setting.gpu), f"GPU {self.setting.gpu}", self.setting.tell)
            )
        self.usage.taken = time.monotonic()
        self._monitor.start()
        self._refused = self._held.enter_context(locked_clocks(self._monitor, self.setting.lock_clocks_mhz))
        self._judge.admit(self.tasks)

    def _choose_probes(self, task: Task) -> None:
        """Pick the cells that run again on changed values; nobody can know them beforehand. Timed cells change values
        anyway."""
        if not self.setting.overlaps or task.solution is None or not task.cells:
            return
        small = [cell.key for cell in task.cells if self.setting.tokens[cell.workload] <= SMALL_TOKENS]
        small = small or [min(task.cells, key=lambda cell: self.setting.tokens[cell.workload]).key]
        task.probes = set(secrets.SystemRandom().sample(small, min(PROBES, len(small))))

    def _send_next(self, session: Session) -> None:
        task, free = session.task, session.slots.free
        waits = not self.setting.overlaps and (self._judge.waiting or not self._judge.idle)
        if not session.ready or session.flight or not task.cells or waits or not free:
            return
        cell = task.cells.popleft()
        slots = [free.pop() for _ in range(1 if self.setting.overlaps else len(free))]
        self._count += 1
        identity = {"id": self._count, "token": secrets.token_hex(16)}
        now = time.monotonic()
        variants = [Variant(cell.seed), *self.setting.timed_variants(cell)]
        session.flight = Flight(
            cell, task, slots, variants, identity, self.setting.clock(), now, now + self.setting.timeout_s
        )
        session.child.send(
            {
                "do": "run",
                **identity,
                "workload": cell.workload,
                "family": cell.family,
                "seed": cell.seed,
                "kind": cell.kind,
                "protocol": cell.protocol,
                "slots": slots,
                "variants": session.flight.variant_documents(),
            }
        )

    # -- events

    def hear(self, session: Session, message: Message) -> None:
        """A worker answered."""
        if isinstance(message, Ready) and not session.ready:
            session.take_ready(message)
            if session.task is not self._current:
                session.rest()
        elif isinstance(message, Failed) and not session.ready:
            self._fail(session, message.outcome, message.reason, message.detail)
        elif isinstance(message, Batch | Done):
            flight = session.flight
            if flight is None or (message.id, message.token) != (flight.identity["id"], flight.identity["token"]):
                raise ProtocolError(f"an answer to no question: {str(message)[:200]}")
            if isinstance(message, Batch):
                session.child.send(self._pick(flight, message.variants))
            else:
                self._done(session, flight, message)
        else:
            raise ProtocolError(f"unexpected message: {str(message)[:200]}")

    def _pick(self, flight: Flight, variants: list[int]) -> dict[str, Any]:
        """Choose, after a batch, the call whose output is to be verified; nobody could know it beforehand.

        Each cell has one with changed values; later batches have one or none, as chance will.
        """
        if not all(0 <= variant < len(flight.variants) for variant in variants):
            raise ProtocolError("a batch of unknown values")
        if len(flight.kept) + 1 >= len(flight.slots):
            return {"do": "next"}
        changed = [call for call, variant in enumerate(variants) if variant != 0]
        if changed and not any(flight.kept):
            call = secrets.choice(changed)
        elif secrets.randbelow(2):
            call = secrets.randbelow(len(variants))
        else:
            return {"do": "next"}
        flight.kept.append(variants[call])
        return {"do": "keep", "call": call}

    def _done(self, session: Session, flight: Flight, message: Done) -> None:
        """A worker has finished what it was asked; its outputs go to the referee."""
        self.usage.timed += time.monotonic() - flight.sent
        self.usage.verifying += message.verified
        flight.answer = flight.answer or message
        if message.outcome is not None:
            if message.outcome == Outcome.REJECTED or not self._disturbed(session, flight, blamed=True):
                session.flight = None
                self._finish(session, flight, message.outcome, message.reason, message.detail)
            if message.reason == Reason.POISONED_CONTEXT:
                self._workers.retire(session)  # nothing can run in that process any more
            return
        flight.check_changed()
        flight.take_outputs(message)
        if flight.claims_more_than(time.monotonic() - flight.begun):
            session.flight = None
            self._finish(
                session,
                flight,
                Outcome.REJECTED,
                Reason.FORGED_TIME,
                "the calls' times add up to more than the cell took",
            )
            return
        if self._disturbed(session, flight, blamed=False):
            return
        left = self._workers.left_processes(session)
        if left:
            session.flight = None
            self._finish(session, flight, Outcome.REJECTED, Reason.LEFT_PROCESS, f"processes outlive the call: {left}")
        elif flight.cell.key in flight.task.probes and session.slots.free:
            flight.task.probes.remove(flight.cell.key)
            self._probe(session, flight)
        else:
            session.flight = None
            self._judge.submit(session, flight)

    def _disturbed(self, session: Session, flight: Flight, blamed: bool) -> bool:
        """Look at the GPU's state during a timed cell. A disturbed cell runs again, a few times; returns whether it was
        disturbed."""
        samples = self._monitor.since(flight.begun)
        flight.gpu_state = summary(samples)
        found = (
            disturbance(samples, self._workers.pids, self._monitor.baseline(), blamed)
            if flight.cell.kind == "measure"
            else None
        )
        if found is None:
            return False
        session.flight = None
        calls = max((len(times) for times in flight.answer.tiers.values()), default=0) if flight.answer else 0
        attempts = flight.task.discarded.setdefault(flight.cell.key, [])
        attempts.append(calls)
        if len(attempts) <= RETRIES:
            flight.task.cells.appendleft(flight.cell)
            session.slots.free += flight.slots
        else:
            flight.answer = None
            self._finish(session, flight, Outcome.DISTURBED, *found)
        return True

    def _not_run(self, session: Session, reason: Reason, detail: str) -> None:
        """Record all open cells of a session's participant as NOT_RUN; a later run takes them up."""
        now = time.monotonic()
        while session.task.cells:
            flight = Flight(session.task.cells.popleft(), session.task, [], [], {}, self.setting.clock(), now, now)
            self._finish(session, flight, Outcome.NOT_RUN, reason, detail)

    def _probe(self, session: Session, flight: Flight) -> None:
        slot, tokens = session.slots.free.pop(), self.setting.tokens[flight.cell.workload]
        flight.slots.append(slot)
        flight.variants.append(Variant.secret(tokens, self.setting.geometry.local_experts))
        flight.sent = time.monotonic()
        session.child.send({"do": "probe", **flight.identity, "slots": [slot], "variants": flight.variant_documents()})

    def _hear_referee(self) -> None:
        for session, flight, verdict in self._judge.verdicts():
            # Counted down one by one: several verdicts may arrive at once, and the last one alone releases a retired
            # worker.
            session.judging -= 1
            self._finish(session, flight, Outcome(verdict["outcome"]), _reason(verdict), verdict["detail"], verdict)
            session.release()

    # -- ends

    def _finish(
        self,
        session: Session,
        flight: Flight,
        outcome: Outcome,
        reason: Reason | None,
        detail: str | None,
        judged: dict[str, Any] | None = None,
    ) -> None:
        """Record a cell's result and free its slots."""
        tampered = self.recorder.tampered()
        if tampered:
            outcome, reason, detail = Outcome.REJECTED, Reason.EDITED_RUN, tampered
        record = flight.record(self.setting.block, outcome, reason, detail, judged or {})
        timed = flight.cell.kind == "measure"
        missing = {**session.missing_tiers, **record.missing_tiers} if timed else {}
        self.recorder.add(
            record.model_copy(update={"missing_tiers": missing, "warnings": [*session.warnings, *record.warnings]})
        )
        session.slots.free += flight.slots

    def _fail(self, session: Session, outcome: Outcome, reason: Reason | None, detail: str) -> None:
        """End a worker. The cell in flight ends with it; a worker that never got ready takes all its cells along."""
        flight, now = session.flight, time.monotonic()
        if flight and self._disturbed(session, flight, blamed=True):
            self._workers.retire(session)
            return
        session.flight = None
        self._workers.retire(session)
        if flight:
            self._finish(session, flight, outcome, reason, detail)
            return
        if session.ready:
            return
        while session.task.cells:
            flight = Flight(session.task.cells.popleft(), session.task, [], [], {}, self.setting.clock(), now, now)
            self._finish(session, flight, outcome, reason, f"while the solution was being prepared: {detail}")

    def garbled(self, session: Session, error: ProtocolError) -> None:
        self._fail(session, Outcome.REJECTED, Reason.FORGED_MESSAGE, str(error))

    def late(self, session: Session) -> None:
        """A worker has not answered in time."""
        limit = self.setting.timeout_s if session.flight else max(START_S, self.setting.timeout_s)
        status = session.child.end(KILL_GRACE_S)
        how = f"ended by {signal.Signals(-status).name}" if status < 0 else f"it then exited with code {status}"
        detail = f"no answer within {limit:g} s; {how}\n{session.child.printed()}".strip()
        self._fail(session, Outcome.TIMEOUT, Reason.HANG, detail)

    def gone(self, session: Session) -> None:
        """A worker is gone without being asked to."""
        out_of_memory = session.oom_kills_rose()
        status, flight = session.child.end(), session.flight
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit code {status}"
        detail = f"the process ended by {how}\n{session.child.printed()}".strip()
        if status == -signal.SIGKILL and not out_of_memory and self._spare(session, flight):
            return
        if status == -signal.SIGKILL and out_of_memory:
            self._fail(session, Outcome.OUT_OF_MEMORY, Reason.OOM_KILLER, detail)
        else:
            self._fail(session, Outcome.CRASHED, Reason.SIGNAL if status < 0 else Reason.EXITED, detail)

    def _spare(self, session: Session, flight: Flight | None) -> bool:
        """SIGKILL comes from outside (an operator, a scheduler): once per cell, or per start, it gets a second
        chance."""
        task = session.task
        if flight is None and not session.ready and task.starts >= STARTS:
            return False
        if flight:
            if task.lost == flight.cell.key:
                return False
            task.lost = flight.cell.key
            task.cells.appendleft(flight.cell)
            session.flight = None
        self._workers.retire(session)
        return True

    def _end_all(self) -> None:
        waiting = self._judge.waiting.values() if hasattr(self, "_judge") else []
        for session in {session for session, _ in waiting if session.retired}:
            session.close()
        self._workers.close()
        if hasattr(self, "_judge"):
            self._judge.close()
            self.usage.judged = self._judge.seconds
            self.usage.verifying += self._judge.at_work
        self._monitor.stop()
        self._held.close()
        self.usage.released, self.usage.looks = time.monotonic(), self._monitor.looks()


def _reason(message: dict[str, Any]) -> Reason | None:
    return Reason(message["reason"]) if message.get("reason") else None
