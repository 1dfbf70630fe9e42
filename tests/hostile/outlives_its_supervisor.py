"""A process that goes on when its supervisor has been ended."""

from .parts import call

EXPECTED = ("PASSED", "")


def attempt():
    call("prctl", 1, 0, 0, 0, 0)


def neighbour(honest, *arguments):
    """Gives itself a name."""
    call("prctl", 15, b"worker", 0, 0, 0)
    honest(*arguments)
