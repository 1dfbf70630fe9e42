"""Child processes of a block or a build, and the channels to them: JSON lines over pipes that nothing else holds.

Entry points: `Child.spawn`, `Slots` (shared memory for outputs), `descendants`. The other end of a channel is
`core.messages`. A child leads its own session, so that one signal ends it with all that stayed in its group; its
standard output goes where its standard error goes, and the parent keeps the end of that.
"""

import contextlib
import json
import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import psutil

from bakeoff.core.messages import ChannelError
from bakeoff.files import strict_json
from bakeoff.processes.fork_server import Forked, ForkServer

# A cell's answer is below 64 KB; a child that sends more does not speak the harness's language.
MAX_LINE = 1 << 20
MAX_UNREAD = 1 << 20  # bytes of commands that a child has not read yet
QUIET_S = 20.0  # time within which processes that fork again and again must be ended
KEPT_OUTPUT = 16 << 10
READS = 64  # of 64 KiB at a time: a child that never stops writing must not keep the supervisor from its clock


class Child:
    """One child process, seen from the supervisor."""

    def __init__(self, process: subprocess.Popen[bytes] | Forked, commands: int, results: int, output: int) -> None:
        self.process, self.commands, self.results, self.output = process, commands, results, output
        self._printed = b""
        self._buffer, self._unsent = b"", b""
        for descriptor in (commands, results, output):
            os.set_blocking(descriptor, False)

    @classmethod
    def spawn(
        cls,
        module: str,
        environment: dict[str, str],
        folder: Path,
        keep: tuple[int, ...] = (),
        forks: ForkServer | None = None,
    ) -> "Child":
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
        """Send a command without waiting for the child to read it; ChannelError if it reads none of many. A child that
        is gone is noticed by its closed result channel, not here."""
        self._unsent += json.dumps(message).encode() + b"\n"
        self.flush()
        if len(self._unsent) > MAX_UNREAD:
            raise ChannelError("the answers are not read")

    def flush(self) -> None:
        """Send what the pipe had no room for."""
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            while self._unsent:
                self._unsent = self._unsent[os.write(self.commands, self._unsent) :]

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
        if max(map(len, (*lines, self._buffer))) > MAX_LINE:
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
        self.freeze()  # what it has started is ended first: orphans of a worker that is gone could be anybody's
        end_below(self.pid)
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


LISTS_CHILDREN = Path(f"/proc/self/task/{os.getpid()}/children").exists()  # not every kernel has it


def children_of(process: int) -> list[int]:
    """Ids of a process's living children. One short file of the kernel for each of its threads is read fast enough to
    catch what forks and ends, again and again."""
    found: list[int] = []
    with contextlib.suppress(OSError, psutil.Error):
        if not LISTS_CHILDREN:
            found = [child.pid for child in psutil.Process(process).children()]
        for task in Path(f"/proc/{process}/task").iterdir() if LISTS_CHILDREN else ():
            found += map(int, (task / "children").read_text().split())
    return [child for child in found if _lives(child)]


def _lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


def descendants(root: int) -> list[int]:
    """Ids of all living descendants of a process."""
    found, waiting = [], children_of(root)
    while waiting:
        found.append(process := waiting.pop())
        waiting += children_of(process)
    return found


def end_below(root: int, spared: Collection[int] = ()) -> list[str]:
    """End the descendants of a process until none is left; returns who they were. spared: children of it that stay,
    with all below them."""
    seen: dict[int, str] = {}
    deadline = time.monotonic() + QUIET_S
    while time.monotonic() < deadline:
        top = [child for child in children_of(root) if child not in spared]
        left = [process for child in top for process in (child, *descendants(child))]
        if not left:
            break
        for process in left:
            if process not in seen:
                seen[process] = _name_of(process)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(process, os.WNOHANG)
    return list(seen.values())


def end_holders(path: Path) -> list[str]:
    """End the descendants of this process that have a file open; returns who they were."""
    ended = []
    for process in descendants(os.getpid()):
        with contextlib.suppress(OSError):
            if any(os.path.realpath(one) == str(path.resolve()) for one in Path(f"/proc/{process}/fd").iterdir()):
                ended.append(_name_of(process))
                os.kill(process, signal.SIGKILL)
    return ended


def _name_of(process: int) -> str:
    """The process with the name that it gave itself; bytes of it that are no text are made visible."""
    try:
        name = Path(f"/proc/{process}/comm").read_bytes().removesuffix(b"\n")
    except OSError:
        return str(process)
    return f"{process} ({name.decode(errors='backslashreplace')})"


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

    def read(self, number: int, size: int) -> bytes:
        """The first `size` bytes of a slot."""
        return os.pread(self.descriptor, size, number * self.size)

    def close(self) -> None:
        os.close(self.descriptor)


def _add_seals(descriptor: int, seals: int) -> None:
    import fcntl

    fcntl.fcntl(descriptor, 1033, seals)  # F_ADD_SEALS


def _message(line: bytes) -> dict[str, Any]:
    try:
        value = strict_json(line)
    except (ValueError, RecursionError) as error:
        raise ChannelError(f"no message: {line[:80]!r}") from error
    if not isinstance(value, dict):
        raise ChannelError(f"no message: {line[:80]!r}")
    return value
