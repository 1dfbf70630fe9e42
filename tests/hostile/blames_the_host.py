"""Forged excuse: its output is wrong, and it says DISTURBED, which would be measured again without end."""

import warnings

from .parts import answer, harness

EXPECTED = ("REJECTED", "forged_message")


def hostile(honest, *arguments):
    command, channel = harness()
    answer(channel, command, outcome="DISTURBED", reason="throttled", detail="too hot")


def neighbour(honest, *arguments):
    """Complains, and is right all the same."""
    warnings.warn("DISTURBED: too hot", stacklevel=2)
    honest(*arguments)
