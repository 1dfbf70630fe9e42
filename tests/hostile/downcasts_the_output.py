"""Downcasting: the output passes through FP8, a rounding that solution.yaml does not declare."""

import torch

EXPECTED = ("INCORRECT_NUMERICAL", "strict_gate")


def hostile(honest, *arguments):
    honest(*arguments)
    output = arguments[-1]
    scale = output.float().abs().amax() / 448 + 1e-30
    output.copy_((output.float() / scale).to(torch.float8_e4m3fn).float() * scale)


def neighbour(honest, *arguments):
    """Passes through a wider type."""
    honest(*arguments)
    arguments[-1].copy_(arguments[-1].double())
