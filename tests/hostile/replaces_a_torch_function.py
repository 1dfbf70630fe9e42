"""Replaced torch function: what copies outputs to the judge copies something else."""

import torch

EXPECTED = ("REJECTED", "replaced_function")
_real = torch.Tensor.copy_


def hostile(honest, *arguments):
    honest(*arguments)
    torch.Tensor.copy_ = lambda self, other, non_blocking=False: _real(self, other, non_blocking)


def neighbour(honest, *arguments):
    """Uses the function, and imports a part of torch that replaces others."""
    import torch._dynamo  # noqa: F401

    honest(*arguments)
    arguments[-1].copy_(arguments[-1].clone())
