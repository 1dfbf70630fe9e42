"""Reading the reference's output: looks into the memory of the process that judges."""

import os
from pathlib import Path

EXPECTED = ("REJECTED", "read_harness")


def hostile(honest, *arguments):
    honest(*arguments)
    try:
        with Path(f"/proc/{os.getppid()}/mem").open("rb") as stream:
            stream.read(1)
    except OSError:
        pass


def neighbour(honest, *arguments):
    """Reads about itself."""
    with Path("/proc/self/status").open("rb") as stream:
        stream.read(100)
    honest(*arguments)
