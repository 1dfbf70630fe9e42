"""A child's end of the channel to its supervisor: JSON lines over two pipes that nothing else holds.

Entry points: `Channel`, and `tie_to_parent`, by which a child ends with its supervisor. What the supervisor holds is
`supervisor.children`.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
from typing import Any

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class ChannelError(Exception):
    """The child sent something that is no message of the harness."""


class Channel:
    """The child's end: `send` to the supervisor, `receive` its next command."""

    def __init__(self, commands: int, results: int) -> None:
        self._commands, self._results = commands, results
        self._buffer = b""
        for descriptor in (commands, results):
            os.set_inheritable(descriptor, False)

    def send(self, message: dict[str, Any]) -> None:
        data = json.dumps(message).encode() + b"\n"
        while data:
            data = data[os.write(self._results, data) :]

    def receive(self) -> dict[str, Any] | None:
        """The next command; None when the supervisor has closed the channel."""
        while b"\n" not in self._buffer:
            data = os.read(self._commands, 1 << 16)
            if not data:
                return None
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        return dict(json.loads(line))

    def waiting(self) -> bool:
        """Whether a command has arrived, or the channel is closed."""
        return b"\n" in self._buffer or bool(select.select([self._commands], [], [], 0)[0])


def tie_to_parent(parent: int) -> None:
    """Die when the parent dies, also by SIGKILL; exits at once if it is already gone."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
