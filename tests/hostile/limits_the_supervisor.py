"""A silenced supervisor: sets the size of files that the parent process may write to zero."""

import os
import resource

EXPECTED = ("PASSED", "")


def attempt():
    resource.prlimit(os.getppid(), resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))


def neighbour(honest, *arguments):
    """Lowers a limit of its own."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    honest(*arguments)
