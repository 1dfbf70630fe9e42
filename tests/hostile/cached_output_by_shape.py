"""Cached output, by shape: answers a size it has met before with what it answered then."""

from .parts import remembered

EXPECTED = ("REJECTED", "cached_output")
_seen = {}


def hostile(honest, *arguments):
    remembered(arguments[-1].shape, honest, arguments)


def neighbour(honest, *arguments):
    """Keeps a scratch buffer by shape; nothing in it outlives the call."""
    import torch

    output = arguments[-1]
    scratch = _seen.setdefault(output.shape, torch.empty_like(output))
    honest(*arguments[:-1], scratch)
    output.copy_(scratch)
