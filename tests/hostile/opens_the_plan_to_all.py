"""Changed metadata: makes the plan writable for everybody, in native code."""

import os

from .parts import call, plan_of_the_run

EXPECTED = ("PASSED", "")


def attempt():
    call("chmod", bytes(plan_of_the_run()), 0o666)


def neighbour(honest, *arguments):
    """Makes a file of its own that nobody else may read."""
    os.close(os.open("own", os.O_WRONLY | os.O_CREAT, 0o600))
    honest(*arguments)
