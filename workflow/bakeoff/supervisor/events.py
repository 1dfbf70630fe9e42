"""What happens to the workers of a block, and what becomes of their cells: from an answer, a silence or a death to a
record.

Entry point: `Events`, which listens to workers and to the referee. Each cell ends in exactly one record; a crash, a
hang or a broken rule costs the cell in flight.
"""

import signal
import time
from typing import Any

from bakeoff.core import policy
from bakeoff.core.messages import Batch, ChannelError, Done, Failed, Message, Ready
from bakeoff.core.protocols import after_robust
from bakeoff.core.variants import Variant
from bakeoff.schema.outcomes import Outcome, Reason
from bakeoff.schema.sample import Record
from bakeoff.supervisor.attempt import Attempt, place
from bakeoff.supervisor.referee import RefereeClient
from bakeoff.supervisor.settings import BlockSettings, Sink, Task
from bakeoff.supervisor.surveillance import Surveillance
from bakeoff.supervisor.workers import Session, Workers

UNDER_ROBUST = "under robust: "  # begins the detail of a cell that ended where its worker had to pass `robust`


class Events:
    """Listens to a block's workers and its referee."""

    def __init__(
        self, settings: BlockSettings, workers: Workers, referee: RefereeClient, device: Surveillance, sink: Sink
    ) -> None:
        self._settings, self._workers, self._referee = settings, workers, referee
        self._device, self._sink = device, sink
        self.turn: Task | None = None  # whose turn it is; other workers rest as soon as they are ready
        self.timed_s = 0.0  # seconds for which a worker was running a cell
        workers.trust(referee.child, self._hear_referee)

    # -- what a worker says

    def hear(self, session: Session, message: Message) -> None:
        """A worker answered."""
        if isinstance(message, Ready) and not session.ready:
            session.take_ready(message)
            if session.task is not self.turn:
                session.rest()
        elif isinstance(message, Failed) and not session.ready:
            self._fail(session, message.outcome, message.reason, message.detail)
        elif isinstance(message, Batch | Done):
            attempt = session.attempt
            if attempt is None or (message.id, message.token) != (attempt.identity["id"], attempt.identity["token"]):
                raise ChannelError(f"an answer to no question: {str(message)[:200]}")
            if isinstance(message, Batch):
                session.child.send(attempt.pick(message))
            else:
                self._done(session, attempt, message)
        else:
            raise ChannelError(f"unexpected message: {str(message)[:200]}")

    def garbled(self, session: Session, error: ChannelError) -> None:
        self._fail(session, Outcome.REJECTED, Reason.FORGED_MESSAGE, str(error))

    def _done(self, session: Session, attempt: Attempt, message: Done) -> None:
        """A worker has finished what it was asked; its outputs go to the referee."""
        self.timed_s += time.monotonic() - attempt.sent
        if self._workers.filled(session):
            self.filled(session)
            return
        attempt.answer = attempt.answer or message
        if message.outcome is not None:
            if message.outcome == Outcome.REJECTED or not self._disturbed(session, attempt, blamed=True):
                self._finish(session, attempt, message.outcome, message.reason, message.detail)
            if message.reason == Reason.POISONED_CONTEXT:
                self._workers.retire(session)  # nothing can run in that process any more
            return
        attempt.take(message)
        if attempt.claims_too_much():
            told = "the calls' times add up to more than the cell took"
            self._finish(session, attempt, Outcome.REJECTED, Reason.FORGED_TIME, told)
            return
        if self._disturbed(session, attempt, blamed=False) or self._waited(session, attempt, message):
            return
        left = self._workers.left_processes(session)
        if left:
            told = f"processes outlive the call: {left}"
            self._finish(session, attempt, Outcome.REJECTED, Reason.LEFT_PROCESS, told)
        elif attempt.cell.key in attempt.task.probes and len(session.slots.free) > 1:
            attempt.task.probes.remove(attempt.cell.key)
            changed = Variant.secret(attempt.cell.seed, self._settings.geometry.local_experts)
            slots = [session.slots.free.pop() for _ in range(2)]
            session.child.send(attempt.probe([changed, changed.rewritten()], slots))
        else:
            session.attempt = None
            attempt.task.checks += attempt.is_guard
            self._referee.submit(session, attempt)

    def filled(self, session: Session) -> None:
        """A worker's files are what the disk is short of."""
        told = "its scratch and cache folders hold what the disk is short of; they are deleted"
        self._fail(session, Outcome.REJECTED, Reason.FILLED_DISK, told)

    # -- what a worker does not say

    def late(self, session: Session) -> None:
        """A worker has not answered in time."""
        timeout_s = self._settings.timeout_s
        limit_s = timeout_s if session.attempt else session.start_limit_s
        status = session.child.end(policy.KILL_GRACE_S)
        how = f"ended by {signal.Signals(-status).name}" if status < 0 else f"it then exited with code {status}"
        detail = f"no answer within {limit_s:g} s; {how}\n{session.child.printed()}".strip()
        self._fail(session, Outcome.TIMEOUT, Reason.HANG, detail)

    def gone(self, session: Session) -> None:
        """A worker is gone without being asked to."""
        out_of_memory = session.oom_kills_rose()
        status = session.child.end()
        if status == -signal.SIGKILL and not out_of_memory and self._spare(session):
            return
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit code {status}"
        detail = f"the process ended by {how}\n{session.child.printed()}".strip()
        self._fail(session, *policy.meaning_of_end(status, out_of_memory), detail)

    def _spare(self, session: Session) -> bool:
        """SIGKILL comes from outside (an operator, a scheduler): once per cell, or per start, it gets a second
        chance."""
        task, attempt = session.task, session.attempt
        if attempt is None and not session.ready and task.starts >= policy.STARTS:
            return False
        if attempt:
            if task.lost == attempt.cell.key:
                return False
            task.lost = attempt.cell.key
            task.cells.appendleft(attempt.cell)
            session.attempt = None
        self._workers.retire(session)
        return True

    def _fail(self, session: Session, outcome: Outcome, reason: Reason | None, detail: str) -> None:
        """End a worker. The cell in flight ends with it; a worker that never got ready takes all its cells along."""
        attempt = session.attempt
        disturbed = attempt is not None and self._disturbed(session, attempt, blamed=True)
        self._workers.retire(session)
        if attempt and not disturbed:
            self._finish(session, attempt, outcome, reason, detail)
        elif not attempt and not session.ready:
            self.refuse(session, outcome, reason, f"while the solution was being prepared: {detail}")

    # -- what becomes of a cell

    def refuse(self, session: Session, outcome: Outcome, reason: Reason | None, detail: str) -> None:
        """End all open cells of a session's participant alike."""
        cells = session.task.cells
        while cells:
            attempt = Attempt.of(self._settings, session.task, passed={place(cells[0])})
            self._finish(session, attempt, outcome, reason, detail)

    def _disturbed(self, session: Session, attempt: Attempt, blamed: bool) -> bool:
        """Whether the device was disturbed during a timed cell, which then runs again, a few times."""
        found = self._device.disturbance(attempt, self._workers.pids, blamed)
        if found is None:
            return False
        if not self._again(session, attempt):
            attempt.discard()
            self._finish(session, attempt, Outcome.DISTURBED, *found)
        return True

    def _waited(self, session: Session, attempt: Attempt, message: Done) -> bool:
        """Whether the GPU waited for the host in a timed cell, which then runs again, a few times; it may be the
        solution's own doing, so the last try counts, with a remark."""
        told = policy.host_time({str(tier): times for tier, times in message.tiers.items()}) if attempt.draws else None
        if told is None:
            return False
        if self._again(session, attempt):
            return True
        message.warnings.append(told)
        return False

    def _again(self, session: Session, attempt: Attempt) -> bool:
        """Throw an attempt away and run its cell again, unless that has been done often enough."""
        if len(attempt.task.discarded.get(attempt.cell.key, [])) >= policy.RETRIES:
            return False
        attempt.discard()
        session.attempt = None
        attempt.task.cells.appendleft(attempt.cell)
        session.slots.free += attempt.slots
        return True

    def _hear_referee(self) -> None:
        for session, attempt, verdict in self._referee.verdicts():
            # Counted down one by one: several verdicts may arrive at once, and the last one alone releases a retired
            # worker.
            session.judging -= 1
            attempt.task.checks -= attempt.is_guard
            reason = Reason(verdict["reason"]) if verdict.get("reason") else None
            self._record(session, attempt, Outcome(verdict["outcome"]), reason, verdict["detail"], verdict)
            session.release()

    def _finish(
        self, session: Session, attempt: Attempt, outcome: Outcome, reason: Reason | None, detail: str | None
    ) -> None:
        """End the cell that the session is at, without a verdict."""
        session.attempt = None
        self._record(session, attempt, outcome, reason, detail, {})

    def _record(
        self,
        session: Session,
        attempt: Attempt,
        outcome: Outcome,
        reason: Reason | None,
        detail: str | None,
        judged: dict[str, Any],
    ) -> None:
        """Record a cell's result and free its slots. judged: the referee's message, or empty."""
        tampered = self._sink.tampered()
        if tampered:
            outcome, reason, detail = Outcome.REJECTED, Reason.EDITED_RUN, tampered
        session.slots.free += attempt.slots
        task, here = attempt.task, place(attempt.cell)
        if attempt.protocol == "robust" and outcome == Outcome.PASSED:
            session.passed[here] = judged
            if attempt.is_guard:
                task.cells.appendleft(attempt.cell)
                return
        elif judged and not attempt.has_own:
            judged = {**session.passed[here], **judged}
        told = f"{UNDER_ROBUST}{detail or outcome}" if attempt.is_guard else detail
        record = attempt.record(self._settings.block, outcome, reason, told, judged)
        missing = {**session.missing_tiers, **record.missing_tiers} if record.kind == "measure" else {}
        warnings = [*session.warnings, *record.warnings]
        record = record.model_copy(update={"missing_tiers": missing, "warnings": warnings})
        self._sink.add(record)
        if record.outcome == Outcome.INCORRECT_NUMERICAL and attempt.has_own and self._settings.wrong:
            size = 2 * self._settings.tokens[record.workload] * self._settings.geometry.hidden
            self._settings.wrong(record, session.slots.read(attempt.outputs[0]["slot"], size))
        if attempt.protocol == "robust" and outcome != Outcome.PASSED:
            self._give_up_later(task, here, record, detail or str(outcome))

    def _give_up_later(self, task: Task, here: tuple[str, str, int], failed: Record, detail: str) -> None:
        """What did not pass `robust` is not timed in another way either: those cells end as that one did."""
        if self._settings.overlaps:
            return
        for cell in [cell for cell in task.cells if after_robust(cell.protocol) and place(cell) == here]:
            task.cells.remove(cell)
            told = {"tiers": {}, "detail": f"{UNDER_ROBUST}{detail}"}
            self._sink.add(failed.model_copy(update={**cell.model_dump(), **told}))
