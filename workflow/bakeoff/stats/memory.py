"""Holding large documents. Entry point: `trees_only`."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def trees_only() -> Iterator[None]:
    """Suspend the search for reference cycles while documents are read and made; also a decorator.

    Documents are trees: for 10,000 cells the search visits a million objects over and over, a third of the time, and
    finds nothing.
    """
    searching = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if searching:
            gc.enable()
