"""Forged verdict: leaves zeros, and sends PASSED with the cell's own token before the worker answers."""

import inspect

from .parts import answer, harness

EXPECTED = ("REJECTED", "forged_message")


def hostile(honest, *arguments):
    arguments[-1].fill_(0)
    command, channel = harness()
    answer(channel, command, outcome="PASSED")


def neighbour(honest, *arguments):
    """Fills with zeros first, and looks up in which function it is."""
    arguments[-1].fill_(0)
    assert inspect.currentframe().f_code.co_name == "neighbour"
    honest(*arguments)
