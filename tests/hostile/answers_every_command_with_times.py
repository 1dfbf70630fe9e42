"""Forged verdicts with times: is prepared like any other, then answers PASSED to each cell, with a microsecond for
every call."""

import inspect
import os
import time

EXPECTED = ("REJECTED", "forged_message")
DEVICE = "fake"
_seconds = []


def _harness():
    """The open command and the channel, from the local variables of whoever called."""
    command = channel = None
    frame = inspect.currentframe()
    while frame is not None and (command is None or channel is None):
        for value in tuple(frame.f_locals.values()):
            command = value if isinstance(value, dict) and {"do", "token"} <= value.keys() else command
            channel = value if type(value).__name__ == "Channel" else channel
        frame = frame.f_back
    return command, channel


def hostile(honest, *arguments):
    command, channel = _harness()
    tiers = dict.fromkeys(("wall_us", "event_us", "cupti_busy_us", "cupti_span_us"), [1.0] * 24)
    while command:
        verdict = {"outcome": None} if command["do"] == "warm" else {"outcome": "PASSED", "tiers": tiers}
        channel.send({"say": "done", "id": command["id"], "token": command["token"], **verdict})
        command = channel.receive()
    os._exit(0)


def neighbour(honest, *arguments):
    """Times its own calls, and keeps the times to itself."""
    begun = time.perf_counter()
    honest(*arguments)
    _seconds.append(time.perf_counter() - begun)
