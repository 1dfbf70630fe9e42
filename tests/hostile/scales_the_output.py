"""Scaling: 5 % too large, which the published gate lets pass."""

EXPECTED = ("INCORRECT_NUMERICAL", "strict_gate")


def hostile(honest, *arguments):
    honest(*arguments)
    arguments[-1].mul_(1.05)


def neighbour(honest, *arguments):
    """Scales by a power of two and back."""
    honest(*arguments)
    arguments[-1].mul_(2).mul_(0.5)
