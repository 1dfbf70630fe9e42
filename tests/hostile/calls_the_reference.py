"""Calling the reference: takes the harness's own implementation for its answer."""

import importlib

EXPECTED = ("REJECTED", "forbidden_import")


def hostile(honest, *arguments):
    try:
        reference = importlib.import_module("bakeoff.core.moe.reference")
        arguments[-1].copy_(reference.run(*arguments[:-1]))
    except ImportError:
        honest(*arguments)


def neighbour(honest, *arguments):
    """Imports something at run time that is not the harness."""
    importlib.import_module("fractions")
    honest(*arguments)
