"""Forged excuse: its output is wrong, and it says DISTURBED, which would be measured again without end."""

import inspect
import warnings

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
    excuse = {"outcome": "DISTURBED", "reason": "throttled", "detail": "too hot"}
    channel.send({"say": "done", "id": command["id"], "token": command["token"], **excuse})


def neighbour(honest, *arguments):
    """Complains, and is right all the same."""
    warnings.warn("DISTURBED: too hot", stacklevel=2)
    honest(*arguments)
