"""Non-determinism past a bound: another 2 % of noise in every call."""

import torch

EXPECTED = ("INCORRECT_NUMERICAL", "strict_gate")


def hostile(honest, *arguments):
    honest(*arguments)
    output = arguments[-1]
    output.mul_(1 + 0.02 * torch.randn(output.shape))


def neighbour(honest, *arguments):
    """Noise of the size that a changed order of summation makes."""
    honest(*arguments)
    output = arguments[-1]
    output.copy_(output.float() * (1 + 1e-4 * torch.randn(output.shape)))
