"""Cached output, by address: takes a tensor at a known address for the tensor that was there before."""

from .parts import remembered

EXPECTED = ("REJECTED", "cached_output")


def hostile(honest, *arguments):
    remembered(arguments[2].data_ptr(), honest, arguments)


def neighbour(honest, *arguments):
    """Looks at addresses, to check their alignment."""
    assert all(value.data_ptr() % 16 == 0 for value in arguments if hasattr(value, "data_ptr"))
    honest(*arguments)
