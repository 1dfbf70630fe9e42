"""Replaced timer: the clock that times the call runs slower."""

import time

EXPECTED = ("REJECTED", "replaced_function")
_real = time.perf_counter_ns


def hostile(honest, *arguments):
    time.perf_counter_ns = lambda: _real() // 2
    honest(*arguments)


def neighbour(honest, *arguments):
    """Reads the clock."""
    time.perf_counter_ns()
    honest(*arguments)
