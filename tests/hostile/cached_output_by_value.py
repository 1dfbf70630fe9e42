"""Cached output, by value: takes an input that often stays the same for a sign that all of them did."""

from .parts import remembered

EXPECTED = ("REJECTED", "cached_output")


def hostile(honest, *arguments):
    remembered(bytes(arguments[1].float().numpy().tobytes()), honest, arguments)


def neighbour(honest, *arguments):
    """Reads the same input and forgets it."""
    float(arguments[1].float().sum())
    honest(*arguments)
