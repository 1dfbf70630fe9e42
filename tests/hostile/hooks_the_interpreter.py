"""Work between the calls: a profile function that the call leaves behind runs at every function of the harness."""

import sys

EXPECTED = ("REJECTED", "left_hook")


def hostile(honest, *arguments):
    honest(*arguments)
    sys.setprofile(lambda frame, event, argument: None)


def neighbour(honest, *arguments):
    """Profiles itself."""
    before = sys.getprofile()
    sys.setprofile(lambda frame, event, argument: None)
    honest(*arguments)
    sys.setprofile(before)
