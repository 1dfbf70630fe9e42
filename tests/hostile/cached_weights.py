"""Cached weights: keeps the weights of the first call, where the definition dequantizes them on every call."""

EXPECTED = ("REJECTED", "stale_input")
_kept = []


def hostile(honest, *arguments):
    values = list(arguments)
    if not _kept:
        _kept.extend(value.clone() for value in values[4:8])
    values[4:8] = _kept
    honest(*values)


def neighbour(honest, *arguments):
    """Copies the weights, anew on every call."""
    values = list(arguments)
    values[4:8] = [value.clone() for value in values[4:8]]
    honest(*values)
