"""Slowed down siblings: everything that anybody has written goes to the disk, while the supervisor waits to record a
cell."""

import ctypes
import os
from pathlib import Path

EXPECTED = ("PASSED", "")
DEVICE = "cpu"


def attempt():
    with Path(__file__).open() as file:
        if ctypes.CDLL(None, use_errno=True).syncfs(file.fileno()) < 0:
            raise OSError(ctypes.get_errno(), "syncfs")


def neighbour(honest, *arguments):
    """Makes a file of its own durable."""
    place = Path(__file__).with_suffix(".kept")
    with place.open("wb") as file:
        file.write(b"kept")
        file.flush()
        os.fsync(file.fileno())
    place.unlink()
    honest(*arguments)
