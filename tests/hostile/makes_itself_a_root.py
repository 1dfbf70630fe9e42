"""A way around: a user namespace of its own, in which it may mount and change owners."""

import ctypes
import os

EXPECTED = ("PASSED", "")
DEVICE = "cpu"


def attempt():
    result = ctypes.CDLL(None, use_errno=True).unshare(0x10000000)
    if result < 0:
        raise OSError(ctypes.get_errno(), "unshare")


def neighbour(honest, *arguments):
    """Asks who it is."""
    os.getuid()
    honest(*arguments)
