"""A garbled message: brackets on every pipe, nested deeper than a parser can follow."""

import contextlib
import json
import os
import stat
from pathlib import Path

EXPECTED = ("REJECTED", "forged_message")


def hostile(honest, *arguments):
    honest(*arguments)
    for entry in list(Path("/proc/self/fd").iterdir()):
        with contextlib.suppress(OSError):
            if int(entry.name) > 2 and stat.S_ISFIFO(os.fstat(int(entry.name)).st_mode):
                os.write(int(entry.name), b"[" * 60_000 + b"\n")


def neighbour(honest, *arguments):
    """Parses nested text of its own."""
    json.loads("[" * 50 + "]" * 50)
    honest(*arguments)
