"""A way in: a socket that another participant's process may connect to."""

import os
import socket

EXPECTED = ("PASSED", "")
DEVICE = "cpu"


def attempt():
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(f"{os.environ['TMPDIR']}/meet")
        one.listen()


def neighbour(honest, *arguments):
    """Speaks with itself through a pipe."""
    reading, writing = os.pipe()
    os.write(writing, b"x")
    assert os.read(reading, 1) == b"x"
    os.close(reading)
    os.close(writing)
    honest(*arguments)
