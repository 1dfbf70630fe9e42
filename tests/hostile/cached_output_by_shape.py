"""Cached output, by shape: answers a size it has met before with what it answered then."""

EXPECTED = ("REJECTED", "cached_output")
DEVICE = "cpu"
_seen = {}


def hostile(honest, *arguments):
    output = arguments[-1]
    if output.shape not in _seen:
        honest(*arguments)
        _seen[output.shape] = output.clone()
    output.copy_(_seen[output.shape])


def neighbour(honest, *arguments):
    """Keeps a scratch buffer by shape; nothing in it outlives the call."""
    import torch

    output = arguments[-1]
    scratch = _seen.setdefault(output.shape, torch.empty_like(output))
    honest(*arguments[:-1], scratch)
    output.copy_(scratch)
