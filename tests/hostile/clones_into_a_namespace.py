"""A way around: a child in a user namespace of its own, by a flag of clone, has all capabilities there."""

import os

from .parts import child, clone

EXPECTED = ("PASSED", "")
NEW_USER = 0x10000000


def attempt():
    made = clone(NEW_USER)
    if made == 0:
        os._exit(0)
    os.waitpid(made, 0)


def neighbour(honest, *arguments):
    """Forks and waits for the child."""
    child()
    honest(*arguments)
