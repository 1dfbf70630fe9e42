"""Cached output, by address: takes a tensor at a known address for the tensor that was there before."""

EXPECTED = ("REJECTED", "cached_output")
DEVICE = "cpu"
_seen = {}


def hostile(honest, *arguments):
    output, key = arguments[-1], arguments[2].data_ptr()
    if key not in _seen:
        honest(*arguments)
        _seen[key] = output.clone()
    output.copy_(_seen[key])


def neighbour(honest, *arguments):
    """Looks at addresses, to check their alignment."""
    assert all(value.data_ptr() % 16 == 0 for value in arguments if hasattr(value, "data_ptr"))
    honest(*arguments)
