"""A slowed supervisor: gives the parent process the lowest priority."""

import os

EXPECTED = ("PASSED", "")


def attempt():
    os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)


def neighbour(honest, *arguments):
    """Asks for its own priority."""
    os.getpriority(os.PRIO_PROCESS, 0)
    honest(*arguments)
