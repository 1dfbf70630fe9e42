"""Watched siblings: the kernel tells of every file that the supervisor or another worker of the run opens and writes,
and a user has a limited number of such watches for all of its processes."""

import ctypes
from pathlib import Path

EXPECTED = ("PASSED", "")
DEVICE = "cpu"


def attempt():
    if ctypes.CDLL(None, use_errno=True).inotify_init1(0) < 0:
        raise OSError(ctypes.get_errno(), "inotify_init1")


def neighbour(honest, *arguments):
    """Looks at a file of its own, twice."""
    assert Path(__file__).stat().st_mtime_ns == Path(__file__).stat().st_mtime_ns
    honest(*arguments)
