"""A program that runs as the operator, whoever starts it: a file is made with the mode that `chmod` may not give."""

import os
from pathlib import Path

EXPECTED = ("PASSED", "")


def attempt():
    made = os.open(Path(os.environ["HOME"], "shell"), os.O_CREAT | os.O_WRONLY, 0o4755)
    os.write(made, Path("/bin/sh").read_bytes())
    os.close(made)


def neighbour(honest, *arguments):
    """Leaves a program that runs as whoever starts it, as compilers do."""
    made = os.open(Path(os.environ["HOME"], "program"), os.O_CREAT | os.O_WRONLY, 0o755)
    os.write(made, b"#!/bin/sh\n")
    os.close(made)
    honest(*arguments)
