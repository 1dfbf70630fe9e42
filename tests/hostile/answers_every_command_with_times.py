"""Forged verdicts with times: is prepared like any other, then answers PASSED to each cell, with a microsecond for
every call."""

import os
import time

from .parts import answer, harness

EXPECTED = ("REJECTED", "forged_message")
DEVICE = "fake"
_seconds = []


def hostile(honest, *arguments):
    command, channel = harness()
    tiers = dict.fromkeys(("wall_us", "event_us", "cupti_busy_us", "cupti_span_us"), [1.0] * 24)
    while command:
        verdict = {"outcome": None} if command["do"] == "warm" else {"outcome": "PASSED", "tiers": tiers}
        answer(channel, command, **verdict)
        command = channel.receive()
    os._exit(0)


def neighbour(honest, *arguments):
    """Times its own calls, and keeps the times to itself."""
    begun = time.perf_counter()
    honest(*arguments)
    _seconds.append(time.perf_counter() - begun)
