"""Zeroed columns: 5 % of the output is never computed."""

EXPECTED = ("INCORRECT_NUMERICAL", "strict_gate")


def hostile(honest, *arguments):
    honest(*arguments)
    arguments[-1][:, ::20] = 0


def neighbour(honest, *arguments):
    """Writes the columns in two halves."""
    honest(*arguments)
    half = arguments[-1].shape[1] // 2
    arguments[-1][:, :half] = arguments[-1][:, :half].clone()
