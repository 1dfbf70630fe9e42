"""A way around: calls of the system that are queued, and not seen by a filter of calls."""

import ctypes
import os

EXPECTED = ("PASSED", "")
DEVICE = "cpu"


def attempt():
    place = ctypes.create_string_buffer(120)
    result = ctypes.CDLL(None, use_errno=True).syscall(425, 8, place)
    if result < 0:
        raise OSError(ctypes.get_errno(), "io_uring_setup")


def neighbour(honest, *arguments):
    """Reads into two places with one call."""
    reading, writing = os.pipe()
    os.write(writing, b"xy")
    assert os.readv(reading, [bytearray(1), bytearray(1)]) == 2
    os.close(reading)
    os.close(writing)
    honest(*arguments)
