"""A way around: a user namespace of its own, in which it may mount and change owners."""

import os

from .parts import call

EXPECTED = ("PASSED", "")


def attempt():
    call("unshare", 0x10000000)


def neighbour(honest, *arguments):
    """Asks who it is."""
    os.getuid()
    honest(*arguments)
