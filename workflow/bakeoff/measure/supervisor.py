"""One block: every participant in its own fresh child, cell by cell, judged outside, and recorded before the next one counts.

Entry point: `Block.run`. The supervisor runs no foreign code and no torch: it starts children, waits for what they say, keeps the
time, and hands records to `Recorder.add`. A crash, a hang or a broken rule costs the cell in flight; the rest goes on in a new child.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import selectors
import signal
import time
from pathlib import Path
from typing import Any, Protocol

from bakeoff.measure import locks, sandbox
from bakeoff.measure.children import ProtocolError, descendants, end_orphans
from bakeoff.measure.gpu_state import disturbance, locked_clocks, open_monitor, summary
from bakeoff.measure.judge import Judge
from bakeoff.measure.messages import Batch, Done, Failed, Message, Ready, understand
from bakeoff.measure.outcomes import Outcome, Reason
from bakeoff.measure.prime import prime
from bakeoff.measure.protocol import SMALL_TOKENS
from bakeoff.measure.records import Record
from bakeoff.measure.sessions import START_S, Flight, Session, Setting, Task
from bakeoff.measure.variants import Variant

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
        self._selector = selectors.DefaultSelector()
        self._sessions: list[Session] = []
        self._count = 0
        self._baseline = set(descendants(os.getpid()))
        # Every process of the block so far: NVML may list one for a moment after it has ended.
        self._pids: set[int] = set()
        self._held = contextlib.ExitStack()  # the device's lock and what else is undone at the end
        self._admitted = False
        self._refused: str | None = None  # why the clock cannot be locked
        self._lock_taken = 0.0
        self.timed_s = self.judged_s = self.lock_s = 0.0
        self.busy_share: float | None = None

    def run(self) -> None:
        """Run everything; on any exception all children are ended first."""
        sandbox.become_subreaper()
        try:
            self._judge = self._start_judge()
            for session in prime(self.setting, self.tasks):
                self._adopt(session)
            if self.setting.gpu is None:
                self._admit()
            for number, task in enumerate(self.tasks):
                self._current = task
                self._run_task(task, self.tasks[number + 1 : number + 2] if self.setting.overlaps else [])
            while self._judge.waiting:
                self._wait()
        finally:
            self._end_all()

    # -- one participant

    def _run_task(self, task: Task, following: list[Task]) -> None:
        self._choose_probes(task)
        while True:
            session = self._session_of(task)
            if not task.cells and (session is None or session.flight is None):
                break
            session = session or self._start(task)
            session.wake()
            for later in following if session.ready else []:
                if later.cells and self._session_of(later) is None:
                    self._start(later)
            if session.ready and not self._admitted:
                self._admit()
            if self._refused is not None:
                self._not_run(session, Reason.CLOCK_LOCK_REFUSED, f"the SM clock cannot be locked: {self._refused}")
                continue
            self._send_next(session)
            self._wait()
        if session:
            self._retire(session)

    def _admit(self) -> None:
        """Take the device for this block; only now may the referee work on it."""
        self._admitted = True
        if self.setting.gpu:
            self._held.enter_context(
                locks.hold(locks.gpu_lock(self.setting.gpu), f"GPU {self.setting.gpu}", self.setting.tell)
            )
        self._lock_taken = time.monotonic()
        self._monitor.start()
        self._refused = self._held.enter_context(locked_clocks(self._monitor, self.setting.lock_clocks_mhz))
        self._judge.admit(self.tasks)

    def _choose_probes(self, task: Task) -> None:
        """Pick the cells that run again on changed values; nobody can know them beforehand. Timed cells change values anyway."""
        if not self.setting.overlaps or task.solution is None or not task.cells:
            return
        small = [cell.key for cell in task.cells if self.setting.tokens[cell.workload] <= SMALL_TOKENS]
        small = small or [min(task.cells, key=lambda cell: self.setting.tokens[cell.workload]).key]
        task.probes = set(secrets.SystemRandom().sample(small, min(PROBES, len(small))))

    def _session_of(self, task: Task) -> Session | None:
        return next((session for session in self._sessions if session.task is task), None)

    def _start(self, task: Task) -> Session:
        return self._adopt(Session(task, self.setting))

    def _adopt(self, session: Session) -> Session:
        self._sessions.append(session)
        self._pids.add(session.child.pid)
        for descriptor in (session.child.results, session.child.output):
            self._selector.register(descriptor, selectors.EVENT_READ, session)
        return session

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
        session.child.send({
            "do": "run", **identity, "workload": cell.workload, "family": cell.family, "seed": cell.seed, "kind": cell.kind,
            "protocol": cell.protocol, "slots": slots, "variants": session.flight.variant_documents(),
        })  # fmt: skip

    # -- events

    def _wait(self) -> None:
        """Wait for the next message, death or deadline, and act on it."""
        clocks = [session.clock for session in self._sessions if session.clock is not None]
        timeout = max(0.0, min(clocks) - time.monotonic()) if clocks else None
        for key, _ in self._selector.select(timeout):
            if key.data is None:
                self._hear_referee(key.fd)
            elif key.data in self._sessions:
                self._hear(key.data, key.fd)
        for session in list(self._sessions):
            if session.clock is not None and time.monotonic() >= session.clock:
                self._time_out(session)

    def _hear(self, session: Session, descriptor: int) -> None:
        if descriptor == session.child.output:
            if session.child.drain():
                self._selector.unregister(descriptor)
            return
        try:
            messages, closed = session.child.messages()
            for message in messages:
                if not session.retired:
                    self._obey(session, understand(message))
        except ProtocolError as error:
            self._fail(session, Outcome.REJECTED, Reason.FORGED_MESSAGE, str(error))
            return
        if closed and not session.retired:
            self._died(session)

    def _obey(self, session: Session, message: Message) -> None:
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
        self.timed_s += time.monotonic() - flight.sent
        flight.answer = flight.answer or message
        if message.outcome is not None:
            if message.outcome == Outcome.REJECTED or not self._disturbed(session, flight, blamed=True):
                session.flight = None
                self._finish(session, flight, message.outcome, message.reason, message.detail)
            if message.reason == Reason.POISONED_CONTEXT:
                self._retire(session)  # nothing can run in that process any more
            return
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
        left = self._left_processes(session)
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
        """Look at the GPU's state during a timed cell. A disturbed cell runs again, a few times; returns whether it was disturbed."""
        samples = self._monitor.since(flight.begun)
        flight.gpu_state = summary(samples)
        found = (
            disturbance(samples, self._pids, self._monitor.baseline(), blamed)
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

    def _hear_referee(self, descriptor: int) -> None:
        if descriptor == self._judge.child.output:
            if self._judge.child.drain():
                self._selector.unregister(descriptor)
            return
        for session, flight, verdict in self._judge.verdicts():
            # Counted down one by one: several verdicts may arrive at once, and the last one alone releases a retired worker.
            session.judging -= 1
            self._finish(session, flight, Outcome(verdict["outcome"]), _reason(verdict), verdict["detail"], verdict)
            self._release(session)

    # -- ends

    def _finish(
        self, session: Session, flight: Flight, outcome: Outcome, reason: Reason | None, detail: str | None,
        judged: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
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
            self._retire(session)
            return
        session.flight = None
        self._retire(session)
        if flight:
            self._finish(session, flight, outcome, reason, detail)
            return
        if session.ready:
            return
        while session.task.cells:
            flight = Flight(session.task.cells.popleft(), session.task, [], [], {}, self.setting.clock(), now, now)
            self._finish(session, flight, outcome, reason, f"while the solution was being prepared: {detail}")

    def _time_out(self, session: Session) -> None:
        limit = self.setting.timeout_s if session.flight else max(START_S, self.setting.timeout_s)
        status = session.child.end(KILL_GRACE_S)
        how = f"ended by {signal.Signals(-status).name}" if status < 0 else f"it then exited with code {status}"
        detail = f"no answer within {limit:g} s; {how}\n{session.child.printed()}".strip()
        self._fail(session, Outcome.TIMEOUT, Reason.HANG, detail)

    def _died(self, session: Session) -> None:
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
        """SIGKILL comes from outside (an operator, a scheduler): once per cell, or per start, it gets a second chance."""
        task = session.task
        if flight is None and not session.ready and task.starts >= STARTS:
            return False
        if flight:
            if task.lost == flight.cell.key:
                return False
            task.lost = flight.cell.key
            task.cells.appendleft(flight.cell)
            session.flight = None
        self._retire(session)
        return True

    def _retire(self, session: Session) -> None:
        """End a worker; outputs that wait for the referee stay readable until they are judged."""
        session.child.end()
        for descriptor in (session.child.results, session.child.output):
            with contextlib.suppress(KeyError):
                self._selector.unregister(descriptor)
        self._sessions.remove(session)
        session.retired = True
        self._release(session)
        self._end_strangers()

    def _release(self, session: Session) -> None:
        if session.retired and not session.judging:
            session.close()

    def _left_processes(self, session: Session) -> str:
        """Names of processes that a worker started and that are still there, after ending them."""
        left = list(descendants(session.child.pid))
        names = [_name_of(process) for process in left]
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        return ", ".join([*names, *(f"{process} (left its group)" for process in self._end_strangers())])

    def _end_strangers(self) -> list[int]:
        return end_orphans({session.child.pid for session in self._sessions} | {self._judge.child.pid} | self._baseline)

    def _start_judge(self) -> Judge:
        judge = Judge(self.setting)
        self._pids.add(judge.child.pid)
        for descriptor in (judge.child.results, judge.child.output):
            self._selector.register(descriptor, selectors.EVENT_READ, None)
        return judge

    def _end_all(self) -> None:
        waiting = self._judge.waiting.values() if hasattr(self, "_judge") else []
        for session in {*self._sessions, *(session for session, _ in waiting)}:
            session.child.end()
            session.close()
        if hasattr(self, "_judge"):
            self._judge.close()
            self.judged_s = self._judge.seconds
        self._selector.close()
        self._monitor.stop()
        self._held.close()
        self.lock_s = time.monotonic() - self._lock_taken if self._admitted else 0.0
        self.busy_share = self._monitor.busy_share()


def _reason(message: dict[str, Any]) -> Reason | None:
    return Reason(message["reason"]) if message.get("reason") else None


def _name_of(process: int) -> str:
    try:
        return f"{process} ({Path(f'/proc/{process}/comm').read_text().strip()})"
    except OSError:
        return str(process)
