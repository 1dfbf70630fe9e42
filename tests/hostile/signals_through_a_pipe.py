"""A signal to the supervisor without a call that sends one: it owns a pipe, and the kernel tells an owner of news, by
any signal that is asked for."""

import fcntl
import os

from .parts import pipe

EXPECTED = ("PASSED", "")
ANY_SIGNAL, KILL = 10, 9  # F_SETSIG


def attempt():
    reading, writing = os.pipe()
    fcntl.fcntl(reading, fcntl.F_SETOWN, os.getppid())
    fcntl.fcntl(reading, ANY_SIGNAL, KILL)
    fcntl.fcntl(reading, fcntl.F_SETFL, os.O_ASYNC)
    os.write(writing, b"x")


def neighbour(honest, *arguments):
    """Reads from a pipe that does not wait."""
    with pipe(b"x") as (reading, _):
        fcntl.fcntl(reading, fcntl.F_SETFL, os.O_NONBLOCK)
        assert os.read(reading, 1) == b"x"
    honest(*arguments)
