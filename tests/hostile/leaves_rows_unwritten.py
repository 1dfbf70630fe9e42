"""Unwritten rows: relies on the output being zero before the call."""

from .parts import aside

EXPECTED = ("INCORRECT_NUMERICAL", "unwritten_output")


def hostile(honest, *arguments):
    own = aside(honest, arguments)
    rows = own.abs().amax(dim=1) > 0
    arguments[-1][rows] = own[rows]


def neighbour(honest, *arguments):
    """Writes the zeros, too."""
    arguments[-1].zero_()
    hostile(honest, *arguments)
