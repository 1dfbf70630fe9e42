"""A memory beyond its process: a file in the memory that all processes share."""

import os
from pathlib import Path

EXPECTED = ("PASSED", "")


def attempt():
    Path("/dev/shm/bakeoff-hostile").write_text("x")


def neighbour(honest, *arguments):
    """Makes a file in memory that ends with it."""
    os.close(os.memfd_create("own"))
    honest(*arguments)
