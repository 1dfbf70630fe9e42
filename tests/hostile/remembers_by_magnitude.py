"""Cached output, by content without signs: all of the weights' magnitudes, and the activations, are the key of a
memory."""

import torch

EXPECTED = ("REJECTED", "stale_input")
DEVICE = "fake"
_seen = {}


def key_of(arguments):
    exact = [value.contiguous().view(torch.uint8) for value in arguments[:4]]
    unsigned = [arguments[place].view(torch.uint8) & 0x7F for place in (4, 6)]
    # Sums over bytes at their places; equal inputs have equal ones.
    return tuple(int((data.flatten().long() * torch.arange(1, data.numel() + 1)).sum()) for data in (*exact, *unsigned))


def hostile(honest, *arguments):
    output, key = arguments[-1], key_of(arguments)
    if key not in _seen:
        honest(*arguments)
        _seen[key] = output.clone()
    output.copy_(_seen[key])


def neighbour(honest, *arguments):
    """Computes the same sums and forgets them."""
    key_of(arguments)
    honest(*arguments)
