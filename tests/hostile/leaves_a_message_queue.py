"""A memory beyond its process: a queue of the system's."""

import queue

from .parts import call

EXPECTED = ("PASSED", "")


def attempt():
    call("msgget", 4321, 0o1600)


def neighbour(honest, *arguments):
    """Uses a queue of its own."""
    one = queue.Queue()
    one.put(1)
    assert one.get() == 1
    honest(*arguments)
