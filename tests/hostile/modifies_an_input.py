"""Modified input: zeroes the weights behind itself, so that the next call has less to do."""

EXPECTED = ("REJECTED", "modified_input")


def hostile(honest, *arguments):
    honest(*arguments)
    arguments[5].zero_()


def neighbour(honest, *arguments):
    """Zeroes a copy."""
    honest(*arguments)
    arguments[5].clone().zero_()
