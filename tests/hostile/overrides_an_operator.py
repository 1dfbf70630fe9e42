"""Overridden operator: torch's functions stay as they are, but Python code stands behind the copy to the judge."""

import warnings

import torch
from torch import library as operators

EXPECTED = ("REJECTED", "left_hook")
_state = []


def hostile(honest, *arguments):
    honest(*arguments)
    if not _state:
        library = operators.Library("aten", "IMPL")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            library.impl("copy_", lambda target, source, non_blocking=False: target.set_(source), "CPU")
        _state.append(library)


def neighbour(honest, *arguments):
    """Has an operator of its own."""
    if not _state:
        library = operators.Library("neighbourly", "DEF")
        library.define("twice(Tensor x) -> Tensor")
        library.impl("twice", lambda x: x + x, "CPU")
        _state.append(library)
    torch.ops.neighbourly.twice(arguments[-1])
    honest(*arguments)
