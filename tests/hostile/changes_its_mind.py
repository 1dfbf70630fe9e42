"""Non-determinism past a bound: noise that both gates let pass, but another one in every call."""

import torch

EXPECTED = ("REJECTED", "unstable_output")
DEVICE = "fake"


def hostile(honest, *arguments):
    honest(*arguments)
    output = arguments[-1]
    output.copy_(output.float() * (1 + 0.0095 * torch.randn(output.shape)))


def neighbour(honest, *arguments):
    """Noise that is the same in every call."""
    honest(*arguments)
    output = arguments[-1]
    noise = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    output.copy_(output.float() * (1 + 0.005 * noise))
