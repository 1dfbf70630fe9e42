"""The `bakeoff` command: one verb per step of the pipeline.

A verb's code lives in its package and is imported only when the verb runs, so that help is instant.
"""

import argparse
import contextlib
import importlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn

from bakeoff import __version__
from bakeoff.errors import BakeoffError, InputError
from bakeoff.options import closest

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

# Groups of verbs by who needs them; verb: (module with <verb>_arguments and <verb>, one line of help).
GROUPS = {
    "write a kernel": {
        "new-solution": ("bakeoff.build.verbs", "make a new solution folder that runs"),
        "check": ("bakeoff.runs.verbs", "is this solution correct?"),
        "time": ("bakeoff.runs.verbs", "how long does it take, beside another one? in a minute"),
        "explain": ("bakeoff.profile.verbs", "where does this solution's time go?"),
    },
    "meet a new GPU": {
        "first-contact": ("bakeoff.contact.verbs", "climb from one tile to whole layers, each step against float64"),
    },
    "judge results": {
        "compare": ("bakeoff.stats.verbs", "compare two runs, or a run with a published one"),
        "audit": ("bakeoff.stats.verbs", "test every figure and conclusion of a published report"),
        "export": ("bakeoff.build.verbs", "write a flashinfer-trace folder that FlashInfer-Bench runs"),
    },
    "steps of a run, in their order; Snakemake calls them": {
        "probe": ("bakeoff.runs.verbs", "describe this host: GPU, driver, clocks, packages -> host.json"),
        "build": ("bakeoff.build.verbs", "pack a solution and compile its kernels, without a GPU"),
        "plan": ("bakeoff.plan", "resolve the configuration into the cells a run must have -> config.json"),
        "measure": ("bakeoff.runs.verbs", "run one block: every participant, every workload, timed and verified"),
        "profile": ("bakeoff.profile.verbs", "profile a run's cells with Nsight or CUPTI, apart from timing"),
        "gate-power": ("bakeoff.verify.verbs", "run the mutants: how much the correctness gates catch"),
        "assemble": ("bakeoff.runs.verbs", "journals -> traces.jsonl and verification.jsonl"),
        "verify": ("bakeoff.evidence.verbs", "is a run whole, is its attestation true, is a stranger's run sound?"),
        "analyse": ("bakeoff.stats.verbs", "traces -> analysis.json: intervals, verdicts, summaries"),
        "select": ("bakeoff.stats.verbs", "a screening's leading solutions, to be confirmed on fresh blocks"),
        "report": ("bakeoff.report.verbs", "analysis.json -> report.html, report.md, tables"),
        "index": ("bakeoff.report.verbs", "the landing page over several reports"),
        "record": ("bakeoff.runs.verbs", "a finished GPU run -> a folder to commit"),
        "attest": ("bakeoff.evidence.verbs", "the in-toto statement over a run's bytes, to be signed"),
        "crate": ("bakeoff.evidence.verbs", "a run -> a Workflow Run RO-Crate, to be deposited"),
    },
    "keep the project": {
        "image": ("bakeoff.containers.verbs", "what the lock file says of the container images"),
        "preflight": ("bakeoff.containers.verbs", "can this container image run here? or the reason and the fix"),
        "generate": ("bakeoff.generate", "write what is generated from the models, or check that it is current"),
    },
    "type less": {
        "completion": ("bakeoff.completion", "print what completes verbs, options and names at TAB, for bash or zsh"),
    },
}
VERBS = {name: verb for group in GROUPS.values() for name, verb in group.items()}
SAME = {"analyze": "analyse"}
# Verbs that go on where they were interrupted.
RESUMED = ("measure", "profile")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code (0 done, 1 a check failed, 2 unusable input)."""
    words = [SAME.get(word, word) for word in (sys.argv[1:] if argv is None else argv)]
    verb = words[0] if words and not words[0].startswith("-") else None
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
    try:
        if verb == "help":
            if len(words) > 2 or words[-1].startswith("-"):
                raise InputError("arguments", " ".join(words[1:]), "one verb, or nothing", "see `bakeoff --help`")
            words, verb = [*words[1:], "--help"], next(iter(words[1:]), None)
        if verb is None:
            parser = _command()
            parser.parse_args(words)
            parser.print_help()
            return 2
        if verb not in VERBS:
            hint = closest(verb, VERBS, "see `bakeoff --help`")
            raise InputError("verb", verb, f"one of {', '.join(VERBS)}", hint)
        args, run = _arguments(verb).parse_args(words[1:]), named(verb)[1]
        return int(run(args) or 0)
    except BakeoffError as error:
        _say(verb, str(error))
        return error.exit_code
    except KeyboardInterrupt:
        kept = "finished cells are kept: run the same command again" if verb in RESUMED else "nothing is kept"
        _say(verb, f"interrupted; {kept}")
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
    """A parser whose help is an error where it cannot be written, which argparse's own passes over; a wrong use is an
    InputError, below the verb's usage."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        raise self._refusal(message)

    def _refusal(self, message: str) -> InputError:
        """What argparse says of a wrong use, in the words of every other error."""
        see = f"see `{self.prog} --help`"
        by_name = {"/".join(one.option_strings) or str(one.metavar or one.dest): one for one in self._actions}
        if found := re.fullmatch(r"the following arguments are required: (.*)", message):
            named = [f"{name} ({by_name[name].help})" for name in found[1].split(", ") if name in by_name]
            return InputError("arguments", f"no {found[1]}", "; ".join(named) or found[1], see)
        if found := re.fullmatch(r"unrecognized arguments: (.*)", message, re.DOTALL):
            option = found[1].split()[0].partition("=")[0]
            hint = closest(option, self._option_string_actions, see) if option.startswith("--") else see
            known = [name for name in self._option_string_actions if name.startswith("--")]
            return InputError("arguments", found[1], f"no more arguments than the usage has, {', '.join(known)}", hint)
        if found := re.fullmatch(r"argument (.*?): invalid choice: (.*?) \(choose from .*\)", message, re.DOTALL):
            choices = [str(choice) for choice in by_name[found[1]].choices or ()]
            hint = closest(found[2].strip("'"), choices, see)
            return InputError(found[1], found[2], f"one of {', '.join(choices)}", hint)
        if found := re.fullmatch(r"argument (.*?): (.*)", message, re.DOTALL):
            said = "nothing after it" if found[2].startswith("expected ") else found[2]
            action = by_name.get(found[1])
            return InputError(found[1], said, (action and action.help) or "what the usage says", see)
        return InputError("arguments", message, "what the usage says", see)

    def _print_message(self, message: str, file: "SupportsWrite[str] | None" = None) -> None:
        if message and (file := file or sys.stderr):
            file.write(message)


def named(verb: str) -> tuple[Callable[..., None], Callable[..., int | None]]:
    """What adds a verb's arguments, and what runs it."""
    module, stem = importlib.import_module(VERBS[verb][0]), verb.replace("-", "_")
    return getattr(module, f"{stem}_arguments"), getattr(module, stem)


def _arguments(verb: str) -> argparse.ArgumentParser:
    text = VERBS[verb][1]
    parser = _Parser(
        prog=f"bakeoff {verb}", description=text[0].upper() + text[1:] + ("" if text.endswith("?") else ".")
    )
    named(verb)[0](parser)
    return parser


def _command() -> argparse.ArgumentParser:
    """The command without a verb; its help lists the verbs by who needs them."""
    lines = [
        line
        for group, verbs in GROUPS.items()
        for line in ["", f"{group}:", *(f"  {name:14}{text}" for name, (_, text) in verbs.items())]
    ]
    parser = _Parser(
        prog="bakeoff",
        usage="bakeoff VERB ...      (bakeoff help VERB: its options)",
        description="A reproducible bake-off of FP8 mixture-of-experts GPU kernels.\n" + "\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=_version(), help="the version and its commit")
    return parser


def _version() -> str:
    """The version, and in a checkout its commit."""
    from bakeoff.closure import commit  # what it imports takes longer than any other help

    here = commit()
    return f"bakeoff {__version__}" + (f" ({here})" if here else "")
