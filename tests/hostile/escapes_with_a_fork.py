"""Escape with a fork: a grandchild in a session of its own, which no signal to the worker's group reaches."""

import os
import time

EXPECTED = ("REJECTED", "left_process")
DEVICE = "cpu"


def hostile(honest, *arguments):
    honest(*arguments)
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(4321)
        os._exit(0)
    os.waitpid(child, 0)


def neighbour(honest, *arguments):
    """Forks and waits."""
    honest(*arguments)
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
