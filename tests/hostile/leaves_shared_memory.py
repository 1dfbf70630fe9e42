"""A memory beyond its process: a segment of the system's, which stays until somebody removes it."""

import ctypes
import mmap

EXPECTED = ("PASSED", "")
DEVICE = "cpu"


def attempt():
    result = ctypes.CDLL(None, use_errno=True).shmget(4321, 4096, 0o1600)
    if result < 0:
        raise OSError(ctypes.get_errno(), "shmget")


def neighbour(honest, *arguments):
    """Maps memory of its own."""
    mmap.mmap(-1, 4096).close()
    honest(*arguments)
