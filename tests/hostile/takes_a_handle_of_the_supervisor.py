"""A way to signals, memory and descriptors of the parent process: a handle of it."""

import os

from .parts import child

EXPECTED = ("PASSED", "")


def attempt():
    os.pidfd_open(os.getppid())


def neighbour(honest, *arguments):
    """Waits for a child by its number."""
    child()
    honest(*arguments)
