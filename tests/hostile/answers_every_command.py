"""Forged verdicts: never returns from its first call, and answers PASSED to each command itself."""

import os

from .parts import answer, harness, pipe

EXPECTED = ("REJECTED", "forged_message")


def hostile(honest, *arguments):
    command, channel = harness()
    while command:
        answer(channel, command, outcome="PASSED", tiers={"wall_us": [2.0]})
        command = channel.receive()
    os._exit(0)


def neighbour(honest, *arguments):
    """Talks over pipes of its own, with itself."""
    with pipe(b"PASSED") as (reading, _):
        assert os.read(reading, 6) == b"PASSED"
    honest(*arguments)
