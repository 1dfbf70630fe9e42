"""Changed metadata: an attribute of the plan, in which data can be hidden for later."""

import ctypes
import os
from pathlib import Path

EXPECTED = ("PASSED", "")
DEVICE = "cpu"


def plan_of_the_run():
    return next(path for path in Path(__file__).resolve().parents if path.name == "scratch").parent / "config.json"


def attempt():
    plan = plan_of_the_run()
    result = ctypes.CDLL(None, use_errno=True).setxattr(str(plan).encode(), b"user.note", b"1", 1, 0)
    if result < 0:
        raise OSError(ctypes.get_errno(), "setxattr")


def neighbour(honest, *arguments):
    """Asks for attributes."""
    os.listxattr(Path(__file__))
    honest(*arguments)
