"""The `bakeoff` command: one verb per step of the pipeline.

A verb's code lives in its package and is imported only when the verb runs, so that help is instant.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bakeoff import __version__
from bakeoff.errors import BakeoffError

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

# verb: (module with <verb>_arguments and <verb>, one line of help); the order is the order of the pipeline.
VERBS = {
    "probe": ("bakeoff.runs.verbs", "describe this host: GPU, driver, clocks, packages -> host.json"),
    "build": ("bakeoff.build.verbs", "pack a solution and compile its kernels, without a GPU"),
    "plan": ("bakeoff.plan", "resolve the configuration into the cells a run must have -> config.json"),
    "measure": (
        "bakeoff.runs.verbs",
        "run one block of a run: every participant, every workload, timed and verified",
    ),
    "profile": ("bakeoff.profile.verbs", "profile a run's cells with Nsight or CUPTI, apart from timing"),
    "gate-power": ("bakeoff.verify.verbs", "run the mutants: how much the correctness gates catch"),
    "assemble": ("bakeoff.runs.verbs", "journals -> traces.jsonl and verification.jsonl"),
    "record": (
        "bakeoff.runs.verbs",
        "a finished GPU run -> a folder to commit: samples compressed, traces made from them",
    ),
    "verify": ("bakeoff.complete", "check that a run has every cell it must have, and that each PASSED"),
    "analyse": ("bakeoff.stats.verbs", "traces -> analysis.json: intervals, verdicts, summaries"),
    "audit": ("bakeoff.stats.verbs", "test every figure and conclusion of a published report"),
    "compare": ("bakeoff.stats.verbs", "compare two runs, or a run with a published one"),
    "report": ("bakeoff.report.verbs", "analysis.json -> report.html, report.md, tables"),
    "index": ("bakeoff.report.verbs", "the landing page over several reports"),
    "export": ("bakeoff.build.verbs", "write a flashinfer-trace folder that FlashInfer-Bench runs"),
    "check": ("bakeoff.runs.verbs", "is this solution correct? (for a kernel developer)"),
    "explain": ("bakeoff.profile.verbs", "where does this solution's time go? (for a kernel developer)"),
    "new-solution": ("bakeoff.build.verbs", "make a new solution folder that runs"),
    "image": ("bakeoff.containers.verbs", "what the lock file says of the container images"),
    "preflight": ("bakeoff.containers.verbs", "can this container image run here? or the reason and the fix"),
    "generate": ("bakeoff.generate", "write what is generated from the models, or check that it is current"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code (0 done, 1 a check failed, 2 unusable input)."""
    words = list(sys.argv[1:] if argv is None else argv)
    verb = next((word for word in words if not word.startswith("-")), None)
    try:
        try:
            return _run(words, verb)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # here, where a full disk can still be said
    except BrokenPipeError:
        _drop_output()
        return 0
    except OSError as error:
        if not _drop_output():
            raise
        from bakeoff.files import unwritable

        refused = unwritable("standard output", error)
        _say(verb, str(refused))
        return refused.exit_code


def _run(words: list[str], verb: str | None) -> int:
    parser = _parser(verb)
    if not words:
        parser.print_help()
        return 2
    try:
        args = parser.parse_args(words)
        return int(args.run(args) or 0)
    except BakeoffError as error:
        _say(verb, str(error))
        return error.exit_code
    except KeyboardInterrupt:
        _say(verb, "interrupted; finished cells are kept")
        return 130


def _say(verb: str | None, text: str) -> None:
    """Say why a command ends; where nobody can be told, its exit code still does."""
    with contextlib.suppress(OSError):
        print(f"bakeoff{f' {verb}' if verb else ''}: {text}", file=sys.stderr)


def _drop_output() -> bool:
    """Whether standard output cannot be written, by one more empty line; what it then still holds goes nowhere, or
    Python would try it again, and complain, at its end."""
    try:
        sys.stdout.write("\n")
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


class _Parser(argparse.ArgumentParser):
    """A parser whose help is an error where it cannot be written; argparse's own passes that over."""

    def _print_message(self, message: str, file: SupportsWrite[str] | None = None) -> None:
        if message and (file := file or sys.stderr):
            file.write(message)


def _parser(verb: str | None) -> argparse.ArgumentParser:
    parser = _Parser(prog="bakeoff", description="A reproducible bake-off of FP8 mixture-of-experts GPU kernels.")
    parser.add_argument("--version", action="version", version=f"bakeoff {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, (module_name, text) in VERBS.items():
        sub = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name == verb:
            module, stem = importlib.import_module(module_name), name.replace("-", "_")
            getattr(module, f"{stem}_arguments")(sub)
            sub.set_defaults(run=getattr(module, stem))
    return parser
