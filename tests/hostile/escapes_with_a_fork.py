"""Escape with a fork: a grandchild in a session of its own, which no signal to the worker's group reaches."""

import os
import time

from .parts import child

EXPECTED = ("REJECTED", "left_process")


def hostile(honest, *arguments):
    honest(*arguments)
    made = os.fork()
    if made == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(4321)
        os._exit(0)
    os.waitpid(made, 0)


def neighbour(honest, *arguments):
    """Forks and waits."""
    honest(*arguments)
    child()
