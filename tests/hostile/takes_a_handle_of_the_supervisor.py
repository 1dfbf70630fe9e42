"""A way to signals, memory and descriptors of the parent process: a handle of it."""

import os

EXPECTED = ("PASSED", "")
DEVICE = "cpu"


def attempt():
    os.pidfd_open(os.getppid())


def neighbour(honest, *arguments):
    """Waits for a child by its number."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    honest(*arguments)
