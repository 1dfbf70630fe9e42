"""A way around: a child in a user namespace of its own, by a flag of clone, has all capabilities there."""

import ctypes
import os

EXPECTED = ("PASSED", "")
DEVICE = "cpu"
CLONE, NEW_USER, CHILD_ENDS = {"x86_64": 56, "aarch64": 220}[os.uname().machine], 0x10000000, 17


def attempt():
    made = ctypes.CDLL(None, use_errno=True).syscall(CLONE, NEW_USER | CHILD_ENDS, 0, 0, 0, 0)
    if made == 0:
        os._exit(0)
    if made < 0:
        raise OSError(ctypes.get_errno(), "clone")
    os.waitpid(made, 0)


def neighbour(honest, *arguments):
    """Forks and waits for the child."""
    made = os.fork()
    if made == 0:
        os._exit(0)
    os.waitpid(made, 0)
    honest(*arguments)
