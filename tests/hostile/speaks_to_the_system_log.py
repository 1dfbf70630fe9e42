"""A way out: a datagram to a service of the host."""

import socket

EXPECTED = ("PASSED", "")


def attempt():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.sendto(b"<9>x", "/dev/log")


def neighbour(honest, *arguments):
    """Opens a socket and closes it."""
    socket.socket(socket.AF_UNIX).close()
    honest(*arguments)
