"""Where builds, and a block without a GPU, get their processes from: one that has imported torch, and forks.

Entry points: `ForkServer.start` (in the parent of what is forked), `main` (`python -m bakeoff.processes.fork_server
PARENT SOCKET MODULE...`). Importing torch costs each process more than a build or most cells do; times on the CPU are
not compared, so that processes may come from one image there. On a GPU each process starts afresh. No foreign code
ever runs in the fork server itself: a solution is imported after the fork.
"""

import contextlib
import ctypes
import importlib
import json
import os
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from bakeoff.core.messages import tie_to_parent
from bakeoff.errors import InputError

MAX_REQUEST = 1 << 20
_PR_SET_NAME = 15  # linux/prctl.h
ADOPTED_S = 10.0  # time within which an orphan becomes the supervisor's child; the kernel needs microseconds


class ForkServer:
    """A process that forks children for the one that started it, which must be a subreaper: it becomes their parent."""

    def __init__(self, process: subprocess.Popen[bytes], channel: socket.socket) -> None:
        self._process, self._socket = process, channel
        self.pid = process.pid

    @classmethod
    def start(cls, environment: dict[str, str], folder: Path, modules: Sequence[str]) -> "ForkServer":
        """environment: what libraries read when they are imported, such as the number of threads, must be right here
        already. modules: what every child imports anyway."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, str(os.getpid()), str(theirs.fileno()), *modules],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        return cls(process, ours)

    def fork(self, module: str, environment: dict[str, str], folder: Path, descriptors: list[int]) -> int:
        """Run `module.main([PARENT, descriptors...])` in a new process, a child of this one; returns its process id.

        descriptors: commands, results, output, then those that the module takes as further arguments. InputError if
        the fork server is gone.
        """
        request = {"module": module, "environment": environment, "folder": str(folder)}
        try:
            socket.send_fds(self._socket, [json.dumps(request).encode()], descriptors)
            answer = self._socket.recv(MAX_REQUEST)
        except OSError:
            answer = b""
        if not answer:
            raise InputError(
                "the process that prepares others",
                found="it has died; what it printed stands above",
                expected="one that lives as long as they do",
                hint="give the host more memory or processes (`ulimit -a`), then run the same command again: finished "
                "cells and builds are kept",
            )
        return int(json.loads(answer)["pid"])

    def close(self) -> None:
        self._socket.close()
        self._process.kill()
        self._process.wait()


class Forked:
    """A forked process as `subprocess.Popen` shows one."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._status: int | None = None

    def poll(self) -> int | None:
        """The exit status (negative: the signal), or None while it runs."""
        return self._wait(os.WNOHANG)

    def wait(self) -> int:
        status = self._wait(0)
        assert status is not None
        return status

    def _wait(self, options: int) -> int | None:
        if self._status is None:
            pid, status = os.waitpid(self.pid, options)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status


def main(arguments: list[str]) -> None:
    parent, descriptor = map(int, arguments[:2])
    tie_to_parent(parent)
    for module in arguments[2:]:
        importlib.import_module(module)
    channel = socket.socket(fileno=descriptor)
    while True:
        data, descriptors, _, _ = socket.recv_fds(channel, MAX_REQUEST, 16)
        if not data:
            return
        pid = _fork(channel, parent, json.loads(data), descriptors)
        for each in descriptors:
            os.close(each)
        channel.send(json.dumps({"pid": pid}).encode())


def _fork(channel: socket.socket, parent: int, request: dict[str, Any], descriptors: list[int]) -> int:
    """Fork a process whose own parent ends at once, so that the server's parent adopts it; returns its process id."""
    reading, writing = os.pipe()
    middle = os.fork()
    if middle == 0:
        child = os.fork()
        if child:
            os.write(writing, str(child).encode())
            os._exit(0)
        os.close(reading)
        os.close(writing)
        channel.close()
        _become(parent, request, descriptors)
    os.close(writing)
    os.waitpid(middle, 0)
    pid = int(os.read(reading, 32))
    os.close(reading)
    return pid


def _become(parent: int, request: dict[str, Any], descriptors: list[int]) -> NoReturn:
    """Be what `python -m module` would be with this environment, folder and these descriptors."""
    status = 1
    try:
        commands, results, output, *rest = descriptors
        deadline = time.monotonic() + ADOPTED_S
        while os.getppid() != parent:
            if time.monotonic() > deadline:
                os._exit(1)
            time.sleep(0.0005)
        os.setsid()
        for stream in (1, 2):
            os.dup2(output, stream)
        os.close(output)
        name = request["module"].removesuffix(".__main__").rpartition(".")[2]
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)  # its command line is the fork server's for good
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environment"])
        sys.argv = [request["module"]]
        importlib.import_module(request["module"]).main([str(number) for number in (parent, commands, results, *rest)])
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter would report it
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status & 0xFF)


if __name__ == "__main__":
    main(sys.argv[1:])
