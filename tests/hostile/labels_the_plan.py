"""Changed metadata: an attribute of the plan, in which data can be hidden for later."""

import os
from pathlib import Path

from .parts import call, plan_of_the_run

EXPECTED = ("PASSED", "")


def attempt():
    call("setxattr", bytes(plan_of_the_run()), b"user.note", b"1", 1, 0)


def neighbour(honest, *arguments):
    """Asks for attributes."""
    os.listxattr(Path(__file__))
    honest(*arguments)
