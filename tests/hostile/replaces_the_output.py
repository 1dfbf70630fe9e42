"""Aliased output: points `output` at storage of its own."""

from .parts import aside

EXPECTED = ("REJECTED", "replaced_output")


def hostile(honest, *arguments):
    arguments[-1].set_(aside(honest, arguments))


def neighbour(honest, *arguments):
    """Computes elsewhere and copies."""
    arguments[-1].copy_(aside(honest, arguments))
