"""A way around: calls of the system that are queued, and not seen by a filter of calls."""

import ctypes
import os

from .parts import call, pipe

EXPECTED = ("PASSED", "")


def attempt():
    call("syscall", 425, 8, ctypes.create_string_buffer(120))


def neighbour(honest, *arguments):
    """Reads into two places with one call."""
    with pipe(b"xy") as (reading, _):
        assert os.readv(reading, [bytearray(1), bytearray(1)]) == 2
    honest(*arguments)
