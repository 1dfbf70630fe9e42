"""Keeping the machine busy for the next one: a process goes on after the call."""

import subprocess

EXPECTED = ("REJECTED", "left_process")


def hostile(honest, *arguments):
    honest(*arguments)
    subprocess.Popen(["sleep", "4321"])


def neighbour(honest, *arguments):
    """Runs a process and waits for it."""
    subprocess.run(["true"], check=True)
    honest(*arguments)
