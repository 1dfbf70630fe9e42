"""A crashed clean-up: folders in folders, deeper than a function may call itself."""

import os
from pathlib import Path

EXPECTED = ("CRASHED", "exited")


def hostile(honest, *arguments):
    os.chdir(os.environ["TMPDIR"])
    for _ in range(2000):
        Path("d").mkdir()
        os.chdir("d")
    os._exit(3)


def neighbour(honest, *arguments):
    """Leaves a few."""
    Path(os.environ["TMPDIR"], *"abcdefgh").mkdir(parents=True, exist_ok=True)
    honest(*arguments)
