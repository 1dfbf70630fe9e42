"""A way out: datagrams to another host, which may know the answer."""

import socket

EXPECTED = ("PASSED", "")


def attempt():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.sendto(b"x", ("127.0.0.1", 9))


def neighbour(honest, *arguments):
    """Sends a datagram to itself, through a pair of sockets."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    one.send(b"x")
    assert other.recv(1) == b"x"
    one.close()
    other.close()
    honest(*arguments)
