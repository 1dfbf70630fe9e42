"""A brother in place of a child: a process whose parent is the supervisor, for nobody to find below the worker, so that
it goes on while others are measured."""

import os
import time

from .parts import clone

EXPECTED = ("PASSED", "")
BROTHER = 0x8000


def attempt():
    if clone(BROTHER) == 0:
        os.setsid()
        time.sleep(4321)
        os._exit(0)


def neighbour(honest, *arguments):
    """Has a child that does nothing, and waits for it."""
    made = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(made, 0)
    honest(*arguments)
