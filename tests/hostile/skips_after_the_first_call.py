"""Skipping by call count: is right when it is checked first, and repeats itself when it is timed."""

from .parts import remembered

EXPECTED = ("REJECTED", "cached_output")
DEVICE = "fake"
_seen = {}


def hostile(honest, *arguments):
    remembered(arguments[-1].shape, honest, arguments)


def neighbour(honest, *arguments):
    """Counts its calls and does the same in each."""
    _seen["calls"] = _seen.get("calls", 0) + 1
    honest(*arguments)
