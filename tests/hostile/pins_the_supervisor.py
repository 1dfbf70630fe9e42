"""A slowed supervisor: moves the parent process to one core."""

import os

EXPECTED = ("PASSED", "")


def attempt():
    os.sched_setaffinity(os.getppid(), {min(os.sched_getaffinity(0))})


def neighbour(honest, *arguments):
    """Asks on how many cores it may run."""
    assert os.sched_getaffinity(0)
    honest(*arguments)
