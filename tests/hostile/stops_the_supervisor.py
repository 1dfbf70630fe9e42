"""A stopped supervisor: a signal to the parent process."""

import os
import signal
import subprocess

EXPECTED = ("PASSED", "")


def attempt():
    os.kill(os.getppid(), signal.SIGSTOP)


def neighbour(honest, *arguments):
    """Ends a program of its own."""
    child = subprocess.Popen(["sleep", "60"])
    child.kill()
    assert child.wait() == -signal.SIGKILL
    honest(*arguments)
