"""The processes that builds run in, several at a time, seen from outside.

Entry point: `Forks`. Each is forked from one that has imported torch, which costs more than most builds do, and is
confined before foreign code comes; whatever it does, hanging included, it costs its own build only.
"""

import contextlib
import os
import select
import tempfile
import threading
import time
from pathlib import Path

from bakeoff.build.child import RESULT, Compiled, Result
from bakeoff.core.confine import adopt_orphans
from bakeoff.core.environment import environment
from bakeoff.errors import CheckFailed, InputError
from bakeoff.files import json_document, read_bytes, validate
from bakeoff.processes.children import Child, children_of, end_below
from bakeoff.processes.fork_server import ForkServer

CHILD = "bakeoff.build.child"
PRELOADED = ("torch", CHILD)
LOOK_S = 0.05  # between two looks at a process that may have ended with its channel left open
LINES = 20  # of what a process printed that are shown


class Forks(contextlib.AbstractContextManager["Forks"]):
    """Enter it in the main thread, which the fork server ends with; `run` may be called in several threads."""

    def __init__(self, timeout_s: float) -> None:
        """timeout_s: longest build."""
        self._timeout_s = timeout_s
        self._given_up = False
        self._lock = threading.Lock()  # one request at a time, and none while orphans are looked for

    def __enter__(self) -> "Forks":
        adopt_orphans()
        self._own: set[int] = set()
        self._folder = tempfile.TemporaryDirectory(prefix="bakeoff-build-")
        place = Path(self._folder.name)
        self._server = ForkServer.start(_variables(place), place, PRELOADED)
        self._own.add(self._server.pid)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()
        self._folder.cleanup()

    def give_up(self) -> None:
        """End what is being built."""
        self._given_up = True

    def run(self, work: Path, definition: Path, arch: str, compiles: str | None) -> list[Compiled]:
        """The kernels of the solution in `work`/solution.json, which are left there; CheckFailed with the process's own
        words if it failed, died or took too long. compiles: `file::function` that compiles them, if any."""
        variables = _variables(work)
        variables["TRITON_DISABLE_LINE_INFO"] = "1"  # else the PTX names this machine's folders
        if compiles:
            variables["CUTE_DSL_ARCH"] = arch  # read when CuTeDSL is imported
        with self._lock:
            child = Child.spawn(CHILD, variables, work, forks=self._server)
            self._own.add(child.pid)
        try:
            child.send({"definition": str(definition), "arch": arch, "compile": compiles})
            in_time = self._wait(child)
        finally:
            status = self._end(child)
        if not in_time:
            raise CheckFailed(
                f"no result after {self._timeout_s:g} s (--timeout); the last lines were:\n{_printed(child)}"
            )
        if not (work / RESULT).is_file():
            raise CheckFailed(
                f"the child process died with exit code {status}; the last lines were:\n{_printed(child)}"
            )
        try:  # written by a process that ran foreign code
            result = validate(json_document(read_bytes(work / RESULT), RESULT), Result, RESULT)
        except InputError as error:
            raise CheckFailed(f"the build left no result that can be read: {error}") from error
        if result.message:
            raise CheckFailed(result.message)
        return result.kernels

    def _wait(self, child: Child) -> bool:
        """Whether the process ended in time. What it prints is read meanwhile."""
        deadline = time.monotonic() + self._timeout_s
        while child.process.poll() is None:
            if time.monotonic() > deadline or self._given_up:
                return False
            child.flush()
            if select.select([child.output], [], [], LOOK_S)[0] and child.drain():
                time.sleep(LOOK_S)  # the stream is closed, and the process goes on
        return True

    def _end(self, child: Child) -> int:
        """Kill what the build has started, compilers and processes that left its group included."""
        status = child.end()
        child.close()
        with self._lock:
            self._own.discard(child.pid)
            # A build's orphans are children of this process now; they cannot enter its session, where its tools are.
            tools = {process for process in children_of(os.getpid()) if _session(process) == os.getsid(0)}
            end_below(os.getpid(), self._own | tools)
        return status


def _session(process: int) -> int | None:
    try:
        return os.getsid(process)
    except OSError:
        return None


def _variables(folder: Path) -> dict[str, str]:
    return environment(len(os.sched_getaffinity(0)), folder, folder, None)


def _printed(child: Child) -> str:
    return "\n".join(child.printed().splitlines()[-LINES:])
