"""What completes the command in a shell: a script made of the verbs' own parsers, so that TAB starts no Python."""

import argparse
from pathlib import Path

import shtab

from bakeoff.cli import VERBS, named
from bakeoff.config import under_root
from bakeoff.traces.store import TraceRoot

# Folders under solutions/ by their names, and any other folder. `dir` in the function's name has shtab tell bash that
# these are paths.
SOLUTION = {
    "bash": "_bakeoff_solution_dirs",
    "zsh": "_files -W '(solutions .)' -/",
    "preamble": {
        "bash": "_bakeoff_solution_dirs() {\n"
        '  (cd solutions 2> /dev/null && compgen -d -X "[_.]*" -- "$1")\n'
        '  compgen -d -- "$1"\n'
        "}\n"
    },
}
NAMES_A_SOLUTION = ("solution", "solutions", "against")


def completion_arguments(parser: argparse.ArgumentParser) -> None:
    use = 'which shell; in its start-up file: eval "$(bakeoff completion bash)", and for zsh after compinit'
    parser.add_argument("shell", choices=("bash", "zsh"), help=use)


def completion(args: argparse.Namespace) -> int:
    print(shtab.complete(_everything(), args.shell))
    return 0


def _everything() -> argparse.ArgumentParser:
    """One parser with all verbs below it, whose arguments know what completes them."""
    traces = TraceRoot(under_root("traces"))
    workloads = dict.fromkeys(case.id for name in traces.definition_names() for case in traces.workloads(name))
    command = argparse.ArgumentParser(prog="bakeoff")
    command.add_argument("--version", action="version", version="", help="the version and its commit")
    verbs = command.add_subparsers()
    verbs.add_parser("help", help="the options of a verb").add_argument("verb", choices=[*VERBS])
    for verb, (_, text) in VERBS.items():
        parser = verbs.add_parser(verb, help=text)
        named(verb)[0](parser)
        for action in parser._actions:
            if action.type is Path:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
            elif action.dest in NAMES_A_SOLUTION:
                action.complete = SOLUTION  # type: ignore[attr-defined]
            elif action.metavar == "ID":
                action.choices = [*workloads]
    return command
