"""Child processes of a block and the channels to them: JSON lines over pipes that nothing else holds.

Entry points: `Child.spawn`, `Slots` (shared memory for outputs), `descendants`. The other end of a channel is
`core.messages`. A child leads its own session, so that one signal ends it with all that stayed in its group; its
standard output goes where its standard error goes, and the supervisor keeps the end of that.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from bakeoff.core.messages import ChannelError
from bakeoff.supervisor.fork_server import Forked, ForkServer

# A message of a full block of calls is below 1 MB; a child that sends more does not speak the harness's language.
MAX_LINE = 64 << 20
KEPT_OUTPUT = 16 << 10
READS = 64  # of 64 KiB at a time: a child that never stops writing must not keep the supervisor from its clock
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


class Child:
    """One child process, seen from the supervisor."""

    def __init__(self, process: subprocess.Popen[bytes] | Forked, commands: int, results: int, output: int) -> None:
        self.process, self.commands, self.results, self.output = process, commands, results, output
        self._printed = b""
        self._buffer = b""
        for descriptor in (results, output):
            os.set_blocking(descriptor, False)

    @classmethod
    def spawn(
        cls,
        module: str,
        environment: dict[str, str],
        folder: Path,
        keep: tuple[int, ...] = (),
        forks: ForkServer | None = None,
    ) -> Child:
        """Start `python -m module PARENT COMMANDS RESULTS keep...` in `folder`; `keep` are descriptors that it
        inherits.

        With a fork server the process is forked there, otherwise it is a new interpreter.
        """
        command_read, command_write = os.pipe()
        result_read, result_write = os.pipe()
        output_read, output_write = os.pipe()
        theirs = [command_read, result_write, output_write]
        process: subprocess.Popen[bytes] | Forked
        if forks:
            process = Forked(forks.fork(module, environment, folder, [*theirs, *keep]))
        else:
            numbers = (os.getpid(), command_read, result_write, *keep)
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, *map(str, numbers)],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output_write,
                stderr=subprocess.STDOUT,
                pass_fds=numbers[1:],
                start_new_session=True,
            )
        for descriptor in theirs:
            os.close(descriptor)
        return cls(process, command_write, result_read, output_read)

    @property
    def pid(self) -> int:
        return self.process.pid

    def send(self, message: dict[str, Any]) -> None:
        """Send a command; a child that is gone is noticed by its closed result channel, not here."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self.commands, json.dumps(message).encode() + b"\n")

    def messages(self) -> tuple[list[dict[str, Any]], bool]:
        """Everything that has arrived, and whether the channel has closed; raises ChannelError."""
        closed = False
        for _ in range(READS):
            try:
                data = os.read(self.results, 1 << 16)
            except BlockingIOError:
                break
            if not data:
                closed = True
                break
            self._buffer += data
        *lines, self._buffer = self._buffer.split(b"\n")
        if len(self._buffer) > MAX_LINE:
            raise ChannelError(f"a message of more than {MAX_LINE} bytes")
        return [_message(line) for line in lines], closed

    def drain(self) -> bool:
        """Read what the child printed, keeping the end; returns whether the stream is closed."""
        for _ in range(READS):
            try:
                data = os.read(self.output, 1 << 16)
            except BlockingIOError:
                return False
            if not data:
                return True
            self._printed = (self._printed + data)[-KEPT_OUTPUT:]
        return False

    def freeze(self) -> None:
        """Stop the child's group: a prepared worker must not use the machine while another one is measured."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def end(self, grace_s: float = 0.0) -> int:
        """End the child's whole group and all its descendants; returns the exit status (negative: the signal).

        With a grace, SIGTERM comes first: it makes a hanging worker print its stack.
        """
        if grace_s and self.process.poll() is None:
            self.thaw()
            self._signal(signal.SIGTERM)
            deadline = time.monotonic() + grace_s
            while self.process.poll() is None and time.monotonic() < deadline:
                self.drain()
                time.sleep(0.02)
        for descendant in descendants(self.pid):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(descendant, signal.SIGKILL)
        self._signal(signal.SIGKILL)
        status = self.process.wait()
        self.drain()
        return status

    def close(self) -> None:
        for descriptor in (self.commands, self.results, self.output):
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def printed(self) -> str:
        """The end of what the child printed."""
        return self._printed.decode(errors="replace").strip()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


def become_subreaper() -> None:
    """Adopt orphaned descendants, so that a process that escapes from its group can be found and ended."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


Tree = dict[int, list[int]]  # process id -> its living children


def process_tree() -> Tree:
    """One look at all living processes below this one: a look reads a file for each process of the host, which takes
    milliseconds."""
    tree: Tree = {}
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error), process.oneshot():
            if process.status() != psutil.STATUS_ZOMBIE:
                tree.setdefault(process.ppid(), []).append(process.pid)
    return tree


def descendants(root: int, tree: Tree | None = None) -> list[int]:
    """Process ids of all living descendants of this process or of one below it, in `tree` or, without one, now."""
    tree = process_tree() if tree is None else tree
    found: list[int] = []
    waiting = list(tree.get(root, []))
    while waiting:
        found.append(process := waiting.pop())
        waiting += tree.get(process, [])
    return found


def end_orphans(own: set[int], tree: Tree) -> list[int]:
    """End descendants of this process that are neither in `own` nor below one of them: what escaped from a worker's
    group."""
    below = {process for child in own for process in descendants(child, tree)} | own
    strangers = [process for process in descendants(os.getpid(), tree) if process not in below]
    for process in strangers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(process, 0)
    return strangers


class Slots:
    """Shared memory that a worker writes outputs to; its size is sealed, so that no writer can pull it from under a
    reader."""

    def __init__(self, count: int, size: int) -> None:
        self.count, self.size = count, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        self.descriptor = os.memfd_create("bakeoff-outputs", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.descriptor, self.count * self.size)
        seal_size = 0x1 | 0x2 | 0x4  # F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW
        _add_seals(self.descriptor, seal_size)
        self.free = list(range(count))

    @property
    def path(self) -> str:
        """Where a trusted process opens the same memory."""
        return f"/proc/{os.getpid()}/fd/{self.descriptor}"

    def close(self) -> None:
        os.close(self.descriptor)


def _add_seals(descriptor: int, seals: int) -> None:
    import fcntl

    fcntl.fcntl(descriptor, 1033, seals)  # F_ADD_SEALS


def _message(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise ChannelError(f"no message: {line[:80]!r}") from error
    if not isinstance(value, dict):
        raise ChannelError(f"no message: {line[:80]!r}")
    return value
