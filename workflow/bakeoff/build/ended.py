"""A child process with foreign code, and the end of all that it started.

Entry point: `started`. Side effect: this process becomes the parent of its descendants' orphans.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from bakeoff.core.confine import adopt_orphans
from bakeoff.groups import group


@contextlib.contextmanager
def started(
    module: str, argument: str, folder: Path, variables: dict[str, str], **streams: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m module argument` in a session of its own; when the context ends, the process is killed with compilers
    and whatever left its group. streams: stdout, stderr of subprocess.Popen."""
    adopt_orphans()
    before = _below()
    command = [sys.executable, "-m", module, argument]
    try:
        with group(command, cwd=folder, env=variables, stdin=subprocess.DEVNULL, **streams) as child:
            yield child
    finally:
        while left := _below() - before:
            for process in left:
                with contextlib.suppress(ProcessLookupError, ChildProcessError):
                    os.kill(process, signal.SIGKILL)
                    os.waitpid(process, 0)


def _below() -> set[int]:
    return {process.pid for process in psutil.Process().children(recursive=True)}
