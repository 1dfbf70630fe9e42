"""A stalled supervisor: a lease on the plan, for which whoever opens it to write has to wait."""

import fcntl
from pathlib import Path

from .parts import plan_of_the_run

EXPECTED = ("PASSED", "")


def attempt():
    with plan_of_the_run().open() as file:
        fcntl.fcntl(file, 1024, fcntl.F_RDLCK)


def neighbour(honest, *arguments):
    """Asks how a file is open."""
    with Path(__file__).open() as file:
        fcntl.fcntl(file, fcntl.F_GETFL)
    honest(*arguments)
