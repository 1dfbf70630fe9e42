"""Loaded dice: timed calls draw their values at random, so the generator is made to draw the remembered ones each
time."""

import random

EXPECTED = ("REJECTED", "replaced_function")
DEVICE = "fake"
_state = {"calls": 0}


def hostile(honest, *arguments):
    _state["calls"] += 1
    if _state["calls"] == 3:
        random.Random.randrange = lambda self, *limits: 0
    if _state["calls"] > 3:
        arguments[-1].copy_(_state["output"])
        return
    honest(*arguments)
    _state["output"] = arguments[-1].clone()


def neighbour(honest, *arguments):
    """Draws numbers of its own."""
    random.Random(7).randrange(10)
    honest(*arguments)
