"""Cached output, by content: some bytes of every input are the key of a memory."""

import torch

from .parts import remembered

EXPECTED = ("REJECTED", "stale_input")
DEVICE = "fake"


def key_of(arguments):
    tensors = [value.reshape(-1).view(torch.uint8) for value in arguments[:8]]
    return tuple(tuple(data[:: max(1, len(data) // 64)][:64].tolist()) for data in tensors)


def hostile(honest, *arguments):
    remembered(key_of(arguments), honest, arguments)


def neighbour(honest, *arguments):
    """Reads the same bytes and forgets them."""
    key_of([value.contiguous().clone() if torch.is_tensor(value) else value for value in arguments])
    honest(*arguments)
