"""Forged result: writes an answer of its own into the result pipe."""

import json
import os
import stat
from pathlib import Path

EXPECTED = ("REJECTED", "forged_message")


def _pipes():
    for entry in Path("/proc/self/fd").iterdir():
        try:
            if stat.S_ISFIFO(os.fstat(int(entry.name)).st_mode):
                yield int(entry.name)
        except OSError:
            continue


def hostile(honest, *arguments):
    honest(*arguments)
    answer = json.dumps({"say": "done", "id": 1, "token": "0" * 32, "outcome": "PASSED"}).encode() + b"\n"
    for descriptor in _pipes():
        if descriptor > 2:
            try:
                os.write(descriptor, answer)
            except OSError:
                continue


def neighbour(honest, *arguments):
    """Writes to a pipe of its own, and prints the same text."""
    reader, writer = os.pipe()
    os.write(writer, b"done\n")
    os.close(reader)
    os.close(writer)
    print(json.dumps({"say": "done", "id": 1, "outcome": "PASSED"}))
    honest(*arguments)
