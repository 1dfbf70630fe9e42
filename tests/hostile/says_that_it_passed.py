"""Forged verdict: leaves zeros, and sends PASSED with the cell's own token before the worker answers."""

import inspect

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
    arguments[-1].fill_(0)
    command, channel = _harness()
    channel.send({"say": "done", "id": command["id"], "token": command["token"], "outcome": "PASSED"})


def neighbour(honest, *arguments):
    """Fills with zeros first, and looks up in which function it is."""
    arguments[-1].fill_(0)
    assert inspect.currentframe().f_code.co_name == "neighbour"
    honest(*arguments)
