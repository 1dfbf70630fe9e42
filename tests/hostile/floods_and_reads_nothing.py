"""A stalled supervisor: thousands of valid messages, whose answers nobody reads."""

import json
import os
import sys

EXPECTED = ("REJECTED", "forged_message")
DEVICE = "fake"


def channel_of(frame):
    """The worker's channel and the command at hand, from the frames below."""
    channel = command = None
    while frame:
        for value in list(frame.f_locals.values()):
            if isinstance(value, dict) and "token" in value and "do" in value:
                command = value
            if type(value).__name__ == "Channel":
                channel = value
        frame = frame.f_back
    return channel, command


def hostile(honest, *arguments):
    honest(*arguments)
    channel, command = channel_of(sys._getframe())
    if command["do"] == "run":
        line = json.dumps({"say": "batch", "id": command["id"], "token": command["token"], "calls": 1}).encode() + b"\n"
        for _ in range(12_000):
            os.write(channel._results, line)


def neighbour(honest, *arguments):
    """Prints much."""
    for number in range(1000):
        print(number)
    honest(*arguments)
