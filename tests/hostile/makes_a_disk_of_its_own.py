"""A device file in the solution's own folder: who may write there would write to the host's memory or disk."""

import os
import stat
from pathlib import Path

EXPECTED = ("PASSED", "")


def attempt():
    for kind, major, minor in ((stat.S_IFCHR, 1, 1), (stat.S_IFBLK, 1, 0)):
        try:
            os.mknod("disk", kind | 0o600, os.makedev(major, minor))
        except OSError:
            continue
        return
    raise PermissionError("no device")


def neighbour(honest, *arguments):
    """Makes a file and a named pipe there."""
    os.mkfifo("pipe")
    Path("pipe").unlink()
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, 0o600))
    honest(*arguments)
