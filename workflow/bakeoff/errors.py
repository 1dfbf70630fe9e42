"""Errors that end a command, each with its exit code.

0 is success, 1 a failed check (a wrong output, a missing cell, a supported regression), 2 an input that cannot be used,
3 a comparison in which not one cell could be compared.
The command line prints these errors without a traceback; any other exception is a bug and keeps its traceback.
"""

from pathlib import Path


class BakeoffError(Exception):
    """Base of the errors that the command line words for the user."""

    exit_code = 1


class CheckFailed(BakeoffError):
    """A check ran and its answer is no."""

    exit_code = 1


class InputError(BakeoffError):
    """Something given to a command cannot be used.

    where: file, line, field or option that is at fault; found, expected: in the user's words; hint: what to do next.
    """

    exit_code = 2

    def __init__(self, where: str | Path, found: str, expected: str, hint: str) -> None:
        self.where, self.found, self.expected, self.hint = str(where), found, expected, hint
        super().__init__(f"{where}\n  found:    {found}\n  expected: {expected}\n  to do:    {hint}")
