"""Takes the parent process over, as a debugger does; native code, of which no audit hook hears."""

import ctypes
import os
from pathlib import Path

EXPECTED = ("PASSED", "")
DEVICE = "cpu"


def attempt():
    result = ctypes.CDLL(None, use_errno=True).ptrace(16, os.getppid(), 0, 0)
    if result < 0:
        raise OSError(ctypes.get_errno(), "ptrace")


def neighbour(honest, *arguments):
    """Reads about itself."""
    assert Path("/proc/self/status").read_text()
    honest(*arguments)
