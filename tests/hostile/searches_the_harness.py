"""Reading the harness: searches this process for objects that know what is expected."""

import gc

EXPECTED = ("REJECTED", "read_harness")


def hostile(honest, *arguments):
    honest(*arguments)
    [each for each in gc.get_objects() if type(each).__name__ == "Bench"]


def neighbour(honest, *arguments):
    """Collects garbage."""
    gc.collect()
    honest(*arguments)
