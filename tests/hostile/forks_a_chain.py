"""Framed neighbours: processes that fork and end, again and again, each in a session of its own."""

import os

from .parts import child

EXPECTED = ("REJECTED", "left_process")


def hostile(honest, *arguments):
    honest(*arguments)
    if os.fork() == 0:
        os.setsid()
        for _ in range(5000):
            if os.fork():
                os._exit(0)
            os.setsid()
        os._exit(0)


def neighbour(honest, *arguments):
    """Forks twice and waits."""
    honest(*arguments)
    for _ in range(2):
        child()
