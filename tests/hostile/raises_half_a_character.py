"""Text that acts, and text that is none: an exception with half of a pair of surrogates and a terminal's sequences."""

import contextlib

EXPECTED = ("RUNTIME_ERROR", "")


def hostile(honest, *arguments):
    raise RuntimeError("half \ud800, NUL \x00, screen \x1b[2J, turned \u202e")


def neighbour(honest, *arguments):
    """Raises it, and handles it."""
    with contextlib.suppress(RuntimeError):
        raise RuntimeError("half \ud800")
    honest(*arguments)
