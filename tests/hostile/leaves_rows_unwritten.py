"""Unwritten rows: relies on the output being zero before the call."""

EXPECTED = ("INCORRECT_NUMERICAL", "unwritten_output")
DEVICE = "cpu"


def hostile(honest, *arguments):
    output = arguments[-1]
    own = output.clone()
    honest(*arguments[:-1], own)
    rows = own.abs().amax(dim=1) > 0
    output[rows] = own[rows]


def neighbour(honest, *arguments):
    """Writes the zeros, too."""
    output = arguments[-1]
    own = output.clone()
    honest(*arguments[:-1], own)
    rows = own.abs().amax(dim=1) > 0
    output.zero_()
    output[rows] = own[rows]
