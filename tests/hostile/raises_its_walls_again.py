"""Forged walls: says that nothing is missing of the walls around it, after they were raised."""

import inspect
from pathlib import Path

EXPECTED = ("REJECTED", "forged_message")


def attempt():
    frame = inspect.currentframe()
    while frame is not None:
        for value in tuple(frame.f_locals.values()):
            if type(value).__name__ == "Channel":
                value.send({"say": "confined", "missing": []})
                return
        frame = frame.f_back


def neighbour(honest, *arguments):
    """Looks at the walls that stand, and says nothing."""
    assert "Seccomp" in Path("/proc/self/status").read_text()
    honest(*arguments)
