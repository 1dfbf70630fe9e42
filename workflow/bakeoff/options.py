"""Types of command-line options that a verb cannot use every number for; what they refuse is an InputError."""

import argparse
import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from bakeoff.errors import InputError

T = TypeVar("T")
LARGEST_SEED = 2**31 - 1


def seconds(option: str) -> Callable[[str], float]:
    """Reads a time limit, in seconds: a finite number above 0."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value > 0):
            raise InputError(option, repr(text), "a number of seconds above 0", hint=f"correct {option}")
        return value

    return read


def seed(text: str) -> int:
    """Reads a seed: a whole number from 0 to 2147483647."""
    if not (text.isascii() and text.isdigit() and int(text) <= LARGEST_SEED):
        raise InputError("--seed", repr(text), f"a whole number from 0 to {LARGEST_SEED}", hint="correct --seed")
    return int(text)


def whole(option: str, most: int) -> Callable[[str], int]:
    """Reads a number of things: a whole number from 1 to `most`."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= most):
            raise InputError(option, repr(text), f"a whole number from 1 to {most}", hint=f"correct {option}")
        return int(text)

    return read


def backend(parser: argparse.ArgumentParser, otherwise: str) -> None:
    """Adds `--backend`; otherwise: what `auto` takes where there is no GPU."""
    parser.add_argument(
        "--backend",
        choices=("auto", "cpu", "sm_90a", "sm_100a"),
        default="auto",
        help=f"where to run it (default: auto, this host's GPU, else {otherwise})",
    )


def output(parser: argparse.ArgumentParser, metavar: str, help: str, *, required: bool = True) -> None:
    """Adds `-o`, where a verb writes to."""
    parser.add_argument("-o", "--output", type=Path, required=required, metavar=metavar, help=help)


def limit(parser: argparse.ArgumentParser, what: str, default: float | None = None, option: str = "--timeout") -> None:
    """Adds a time limit in seconds, `--timeout`. what: its help."""
    parser.add_argument(option, type=seconds(option), default=default, metavar="S", help=what)


def several(parser: argparse.ArgumentParser, option: str, metavar: str, what: str, kind: type = str) -> None:
    """Adds an option that may be given several times. what: its help."""
    parser.add_argument(option, type=kind, action="append", metavar=metavar, help=what)


def folder(parser: argparse.ArgumentParser, option: str, default: Path, what: str) -> None:
    """Adds an option that names a folder. what: its help."""
    parser.add_argument(option, type=Path, default=default, metavar="DIR", help=what)


def chosen(where: str, wanted: Iterable[str] | None, available: Mapping[str, T]) -> list[T]:
    """What is wanted by name, or all of it; a name that is none is an InputError."""
    names = [*available] if wanted is None else [*wanted]
    if unknown := [name for name in names if name not in available]:
        hint = closest(unknown[0], available)
        raise InputError(where, ", ".join(unknown), f"out of {', '.join(available) or 'none'}", hint)
    return [available[name] for name in names]


def closest(given: str, names: Iterable[str], otherwise: str = "correct the name") -> str:
    """What to do about a name that is none: the most similar one, or else something else."""
    found = difflib.get_close_matches(given, [*names], 1, 0.5)
    return f"did you mean {found[0]}?" if found else otherwise
