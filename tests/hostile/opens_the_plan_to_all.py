"""Changed metadata: makes the plan writable for everybody, in native code."""

import ctypes
import os
from pathlib import Path

EXPECTED = ("PASSED", "")
DEVICE = "cpu"


def plan_of_the_run():
    return next(path for path in Path(__file__).resolve().parents if path.name == "scratch").parent / "config.json"


def attempt():
    plan = plan_of_the_run()
    result = ctypes.CDLL(None, use_errno=True).chmod(str(plan).encode(), 0o666)
    if result < 0:
        raise OSError(ctypes.get_errno(), "chmod")


def neighbour(honest, *arguments):
    """Makes a file of its own that nobody else may read."""
    os.close(os.open("own", os.O_WRONLY | os.O_CREAT, 0o600))
    honest(*arguments)
