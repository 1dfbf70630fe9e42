"""A process that goes on when its supervisor has been ended."""

import ctypes

EXPECTED = ("PASSED", "")
DEVICE = "cpu"


def attempt():
    result = ctypes.CDLL(None, use_errno=True).prctl(1, 0, 0, 0, 0)
    if result < 0:
        raise OSError(ctypes.get_errno(), "prctl")


def neighbour(honest, *arguments):
    """Gives itself a name."""
    ctypes.CDLL(None).prctl(15, b"worker", 0, 0, 0)
    honest(*arguments)
