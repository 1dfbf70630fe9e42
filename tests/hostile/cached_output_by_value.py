"""Cached output, by value: takes an input that often stays the same for a sign that all of them did."""

EXPECTED = ("REJECTED", "cached_output")
DEVICE = "cpu"
_seen = {}


def hostile(honest, *arguments):
    output, key = arguments[-1], bytes(arguments[1].float().numpy().tobytes())
    if key not in _seen:
        honest(*arguments)
        _seen[key] = output.clone()
    output.copy_(_seen[key])


def neighbour(honest, *arguments):
    """Reads the same input and forgets it."""
    float(arguments[1].float().sum())
    honest(*arguments)
