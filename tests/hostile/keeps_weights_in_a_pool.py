"""Remembered weights in a memory pool of its own: the copies outlive the call, and later calls read those."""

EXPECTED = ("REJECTED", "stale_input")
DEVICE = "gpu"
_state = {}


def _copies(weights):
    import torch

    pool = _state.setdefault("pool", torch.cuda.MemPool())
    with torch.cuda.use_mem_pool(pool):
        return [value.clone() for value in weights]


def hostile(honest, *arguments):
    place = arguments[4].data_ptr()
    if place not in _state:
        _state[place] = _copies(arguments[4:8])
    honest(*arguments[:4], *_state[place], *arguments[8:])


def neighbour(honest, *arguments):
    """Keeps the pool, and copies the weights in every call."""
    honest(*arguments[:4], *_copies(arguments[4:8]), *arguments[8:])
