"""Changed metadata: sets the plan's times, so that another participant seems to have edited the run."""

import ctypes
from pathlib import Path

EXPECTED = ("PASSED", "")
DEVICE = "cpu"


def plan_of_the_run():
    return next(path for path in Path(__file__).resolve().parents if path.name == "scratch").parent / "config.json"


def attempt():
    plan = plan_of_the_run()
    result = ctypes.CDLL(None, use_errno=True).utimensat(-100, str(plan).encode(), None, 0)
    if result < 0:
        raise OSError(ctypes.get_errno(), "utimensat")


def neighbour(honest, *arguments):
    """Asks for the plan's times."""
    assert plan_of_the_run().stat().st_mtime
    honest(*arguments)
