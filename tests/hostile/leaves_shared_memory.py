"""A memory beyond its process: a segment of the system's, which stays until somebody removes it."""

import mmap

from .parts import call

EXPECTED = ("PASSED", "")


def attempt():
    call("shmget", 4321, 4096, 0o1600)


def neighbour(honest, *arguments):
    """Maps memory of its own."""
    mmap.mmap(-1, 4096).close()
    honest(*arguments)
