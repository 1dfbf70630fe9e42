"""A full disk: one file as large as what is free."""

import os
import shutil
from pathlib import Path

EXPECTED = ("PASSED", "")


def attempt():
    file = os.open(Path(os.environ["TMPDIR"], "fill"), os.O_RDWR | os.O_CREAT)
    try:
        os.posix_fallocate(file, 0, shutil.disk_usage(os.environ["TMPDIR"]).free // 2)
    finally:
        os.ftruncate(file, 0)
        os.close(file)


def neighbour(honest, *arguments):
    """Writes a megabyte and removes it."""
    path = Path(os.environ["TMPDIR"], "some")
    path.write_bytes(b"x" * (1 << 20))
    path.unlink()
    honest(*arguments)
