"""Skipping by call count: is right when it is checked first, and repeats itself when it is timed."""

EXPECTED = ("REJECTED", "cached_output")
DEVICE = "fake"
_seen = {}


def hostile(honest, *arguments):
    output = arguments[-1]
    if output.shape not in _seen:
        honest(*arguments)
        _seen[output.shape] = output.clone()
    output.copy_(_seen[output.shape])


def neighbour(honest, *arguments):
    """Counts its calls and does the same in each."""
    _seen["calls"] = _seen.get("calls", 0) + 1
    honest(*arguments)
