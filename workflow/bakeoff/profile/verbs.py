"""The verbs profile and explain."""

import argparse
from pathlib import Path

from bakeoff.options import limit, several


def profile_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="RUN", help="run folder with config.json and build/")
    several(parser, "--solution", "NAME", "a solution of the run; may be repeated (default: all)")
    which = "a workload such as T901_o96; may be repeated (default: what the configuration says)"
    several(parser, "--workload", "ID", which)
    parser.add_argument(
        "--tier",
        choices=("auto", "nsys", "cupti", "ncu"),
        help="auto: nsys timeline, else CUPTI, and ncu counters where permitted; ncu: the same, counters required; "
        "nsys, cupti: that timeline alone (default: what the configuration says)",
    )
    later = "start no further cell after S seconds; the next call goes on (default: no limit)"
    limit(parser, later, option="--time-limit")
    parser.add_argument("--dry-run", action="store_true", help="print the commands and run nothing")


def profile(args: argparse.Namespace) -> int:
    import shlex

    from bakeoff.profile import capture

    if args.dry_run:
        for command in capture.planned(args.folder, args.solution, args.workload, args.tier):
            print(shlex.join(command))
        return 0
    left = capture.profile_run(args.folder, args.solution, args.workload, args.tier, args.time_limit)
    if left:
        capture.say(f"profile  {left} cells are left; run the same command again")
    return 1 if left else 0


def explain_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("solution", metavar="SOLUTION", help="name of a solution")
    parser.add_argument(
        "--run",
        dest="folder",
        type=Path,
        metavar="RUN",
        help="a run folder with profile/ (default: the newest under results/recorded/ with the solution's profile)",
    )
    several(parser, "--workload", "ID", "only this workload, with its kernels; may be repeated (default: all)")
    parser.add_argument("--json", action="store_true", help="a line of JSON per cell")


def explain(args: argparse.Namespace) -> int:
    from bakeoff.profile.explain import explain_solution

    print(explain_solution(args.solution, args.folder, args.workload, args.json))
    return 0
