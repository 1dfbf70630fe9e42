"""A brother in place of a child: a process whose parent is the supervisor, for nobody to find below the worker, so that
it goes on while others are measured."""

import ctypes
import os
import time

EXPECTED = ("PASSED", "")
DEVICE = "cpu"
CLONE, BROTHER, CHILD_ENDS = {"x86_64": 56, "aarch64": 220}[os.uname().machine], 0x8000, 17


def attempt():
    made = ctypes.CDLL(None, use_errno=True).syscall(CLONE, BROTHER | CHILD_ENDS, 0, 0, 0, 0)
    if made == 0:
        os.setsid()
        time.sleep(4321)
        os._exit(0)
    if made < 0:
        raise OSError(ctypes.get_errno(), "clone")


def neighbour(honest, *arguments):
    """Has a child that does nothing, and waits for it."""
    made = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(made, 0)
    honest(*arguments)
