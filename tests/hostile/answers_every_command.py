"""Forged verdicts: never returns from its first call, and answers PASSED to each command itself."""

import inspect
import os

EXPECTED = ("REJECTED", "forged_message")
DEVICE = "cpu"


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
    while command:
        verdict = {"outcome": "PASSED", "tiers": {"wall_us": [2.0]}}
        channel.send({"say": "done", "id": command["id"], "token": command["token"], **verdict})
        command = channel.receive()
    os._exit(0)


def neighbour(honest, *arguments):
    """Talks over pipes of its own, with itself."""
    reader, writer = os.pipe()
    os.write(writer, b"PASSED")
    assert os.read(reader, 6) == b"PASSED"
    os.close(reader)
    os.close(writer)
    honest(*arguments)
