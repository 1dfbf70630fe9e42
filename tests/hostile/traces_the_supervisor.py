"""Takes the parent process over, as a debugger does; native code, of which no audit hook hears."""

import os
from pathlib import Path

from .parts import call

EXPECTED = ("PASSED", "")


def attempt():
    call("ptrace", 16, os.getppid(), 0, 0)


def neighbour(honest, *arguments):
    """Reads about itself."""
    assert Path("/proc/self/status").read_text()
    honest(*arguments)
