"""Aliased output: points `output` at storage of its own."""

EXPECTED = ("REJECTED", "replaced_output")
DEVICE = "cpu"


def hostile(honest, *arguments):
    own = arguments[-1].clone()
    honest(*arguments[:-1], own)
    arguments[-1].set_(own)


def neighbour(honest, *arguments):
    """Computes elsewhere and copies."""
    own = arguments[-1].clone()
    honest(*arguments[:-1], own)
    arguments[-1].copy_(own)
