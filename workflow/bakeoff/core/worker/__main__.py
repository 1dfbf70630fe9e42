"""The untrusted child: one process that runs one participant's cells, one after the other, as the supervisor asks.

Started by the supervisor as `python -m bakeoff.core.worker PARENT COMMANDS RESULTS SLOTS`. It confines itself before
it imports the solution, takes commands from one pipe, answers on another and puts outputs into shared memory. It judges
nothing: whether an output is right is decided outside. Side effects: its scratch and cache folder.
"""

import faulthandler
import mmap
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bakeoff.core import confine, namespaces
from bakeoff.core.messages import Channel, tie_to_parent
from bakeoff.schema.outcomes import Outcome, Reason

if TYPE_CHECKING:
    from bakeoff.core.worker.commands import Commands

DETAIL = 4000  # characters of a traceback that are kept


def main(arguments: list[str]) -> None:
    parent, commands, results, slots = (int(word) for word in arguments)
    tie_to_parent(parent)
    confine.prefer_for_oom_killer()
    confine.adopt_orphans()
    os.set_inheritable(slots, False)
    faulthandler.enable()
    faulthandler.register(signal.SIGTERM, chain=True)  # a hang shows where it hangs before it is killed
    channel = Channel(commands, results)
    job = channel.receive()
    if job is None:
        return
    missing = _leave_namespace(job)
    tie_to_parent(parent)  # again: other rights may undo it
    worker = _prepare(channel, job, slots, missing)
    while worker is not None:
        command = channel.receive()
        if command is None:
            return
        if not _obey(channel, worker, command):
            return


def _leave_namespace(job: dict[str, Any]) -> list[str]:
    """Enter namespaces of the process's own, where that loses nothing that the job needs; returns what is missing, as
    `confine` does."""
    folders = [job["traces_root"], job["solution"]]
    if job["dataset"] != "synthetic":
        folders += [f"{job['dataset']}/{part}" for part in ("definitions", "workloads", "blob/workloads")]
    why = namespaces.enter(filter(None, folders), job["writable"], gpu=job["backend"] != "cpu")
    return [f"{confine.WALLS['user namespace']}: {why}"] if why else []


def _prepare(channel: Channel, job: dict[str, Any], slots: int, missing: list[str]) -> "Commands | None":
    """Import everything, confine the process, load the solution; says `confined`, then `ready` or `failed`. missing:
    walls that do not stand."""
    writable = [Path(folder) for folder in job["writable"]]
    from bakeoff.core.device.opening import open_device
    from bakeoff.core.worker.commands import Commands
    from bakeoff.core.worker.sandbox import AuditHook
    from bakeoff.core.worker.state import WorkerState

    if job["backend"] == "cpu":
        confine.limit_memory()
    audit = AuditHook(writable)
    state = WorkerState(job, open_device(job["backend"], int(job["threads"]), job["participant"]), audit)
    worker = Commands(state, map_slots(slots), int(job["slot_size"]))  # before foreign code can touch any of it
    channel.send({"say": "confined", "missing": [*missing, *confine.confine(writable)]})
    try:
        _ = state.function
    except BaseException as error:  # noqa: BLE001 - whatever foreign code raises is its result
        outcome, reason = classify(error, importing=True)
        if audit.violation:
            outcome, reason = Outcome.REJECTED, audit.violation[0]
        channel.send({"say": "failed", **_answer(outcome, reason, _text(error))})
        return None
    channel.send({"say": "ready", "missing_tiers": state.device.missing})
    return worker


def map_slots(descriptor: int) -> mmap.mmap:
    """The outputs' shared memory, with all its pages in place: the first touch of a large output would cost time under
    the lock."""
    return mmap.mmap(descriptor, 0, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)


def _obey(channel: Channel, worker: "Commands", command: dict[str, Any]) -> bool:
    """Run one command and answer it; returns whether the process is still fit for another."""
    try:
        if command["do"] == "run":
            answer = worker.run(command, channel)
        else:
            answer = worker.probe(command) if command["do"] == "probe" else worker.warm(command)
    except BaseException as error:  # noqa: BLE001 - whatever foreign code raises is its result
        outcome, reason = classify(error)
        answer = _answer(outcome, reason, _text(error))
        if worker.state.device.poisoned():
            answer = _answer(Outcome.CRASHED, Reason.POISONED_CONTEXT, _text(error))
        worker.state.forget()
    channel.send({"say": "done", "id": command["id"], "token": command["token"], **answer})
    return answer.get("reason") != Reason.POISONED_CONTEXT


def classify(error: BaseException, importing: bool = False) -> tuple[Outcome, Reason | None]:
    """What an exception of a solution means. Exceptions of the solution's own shared code are known by name: it is
    packed."""
    chain = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    names = {kind.__name__ for link in chain for kind in type(link).__mro__}
    text = " ".join(str(link) for link in chain).lower()
    if "UnsupportedDevice" in names:
        return Outcome.UNSUPPORTED, Reason.NO_BACKEND
    if "MissingPackage" in names:
        return Outcome.UNSUPPORTED, Reason.MISSING_PACKAGE
    if (
        "OutOfMemoryError" in names
        or "MemoryError" in names
        or "out of memory" in text
        or "can't allocate memory" in text
    ):
        return Outcome.OUT_OF_MEMORY, Reason.ALLOCATION
    if "SystemExit" in names:
        return Outcome.CRASHED, Reason.EXITED
    if importing or "CompilationError" in names or "DSLRuntimeError" in names:
        return Outcome.COMPILE_ERROR, None
    return Outcome.RUNTIME_ERROR, None


def _answer(outcome: Outcome, reason: Reason | None, detail: str) -> dict[str, Any]:
    return {"outcome": outcome, "reason": reason, "detail": detail}


def _text(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))[-DETAIL:]


if __name__ == "__main__":
    main(sys.argv[1:])
