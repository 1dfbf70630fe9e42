"""A memory beyond its process: a queue of the system's."""

import ctypes
import queue

EXPECTED = ("PASSED", "")
DEVICE = "cpu"


def attempt():
    result = ctypes.CDLL(None, use_errno=True).msgget(4321, 0o1600)
    if result < 0:
        raise OSError(ctypes.get_errno(), "msgget")


def neighbour(honest, *arguments):
    """Uses a queue of its own."""
    one = queue.Queue()
    one.put(1)
    assert one.get() == 1
    honest(*arguments)
