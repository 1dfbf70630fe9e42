"""Verbs of this package: probe, measure, assemble, record, check."""

import argparse
import os
from pathlib import Path

from bakeoff.options import backend, limit, output, seed, several, whole


def probe_arguments(parser: argparse.ArgumentParser) -> None:
    output(
        parser, "FILE", "where to write host.json; an unchanged file is left alone (default: print it)", required=False
    )


def probe(args: argparse.Namespace) -> int:
    from bakeoff import host
    from bakeoff.containers import preflight
    from bakeoff.files import model_json

    if image := os.environ.get("BAKEOFF_IMAGE"):
        preflight.inside(image)  # a leak or another lock would make the facts below wrong
    found = host.probe()
    if args.output is None:
        print(model_json(found).decode(), end="")
    else:
        host.write_host(args.output, found)
    return 0


def measure_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="RUN", help="run folder with config.json and build/")
    parser.add_argument("--block", type=int, required=True, metavar="K", help="which block to run, counted from 0")
    again = "also measure cells again that did not pass (default: every finished cell is kept)"
    parser.add_argument("--again", action="store_true", help=again)


def measure(args: argparse.Namespace) -> int:
    from bakeoff.runs.block_run import measure_block

    measure_block(args.folder, args.block, args.again)
    return 0


def assemble_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="RUN", help="run folder whose blocks are measured")
    late = "longest time to wait for journals that a shared file system shows late, seconds (default: none)"
    limit(parser, late, option="--wait")


def assemble(args: argparse.Namespace) -> int:
    from bakeoff.planned import read_plan
    from bakeoff.runs.assemble import assemble_run
    from bakeoff.runs.block_run import say
    from bakeoff.runs.late import wait_for_samples

    if args.wait:
        wait_for_samples(args.folder, read_plan(args.folder), args.wait, say)
    assemble_run(args.folder)
    return 0


def record_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="RUN", help="run folder, complete and assembled")
    output(parser, "FOLDER", "a new folder, say results/recorded/2026-11-23_h100")


def record(args: argparse.Namespace) -> int:
    from bakeoff.runs.recording import record_run

    record_run(args.folder, args.output)
    print(f"written: {args.output}\nnext: make recorded, which writes its traces and analysis; then commit the folder")
    return 0


def time_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "solutions", nargs="+", metavar="NAME", help="a solution: a folder's name or path, or a label of the reports"
    )
    parser.add_argument("--against", metavar="OTHER", help="a solution to compare with (default: none)")
    parser.add_argument(
        "--workload", default="T901_o96", metavar="ID", help="a workload, or its number of tokens (default: T901_o96)"
    )
    fresh = "fresh processes of each solution; the few give a range and no verdict (default: 2)"
    parser.add_argument("--blocks", type=whole("--blocks", 100), default=2, metavar="N", help=fresh)
    backend(parser, "cpu, which tells right from wrong only")
    parser.add_argument("--json", action="store_true", help="a line of JSON per solution, as soon as it is known")
    parser.add_argument(
        "--into",
        type=Path,
        metavar="FILE",
        help="append a line of JSON per solution to FILE, and leave out what stands there: the same command goes on "
        "where it was interrupted",
    )
    limit(parser, "longest time for a solution's cell, seconds (default: 120); one that hangs costs itself only", 120)


def time(args: argparse.Namespace) -> int:
    from bakeoff.runs.timing import time_solutions

    return time_solutions(args)


def check_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "solution", metavar="SOLUTION", help="a folder under solutions/ or a path to one, or a label of the reports"
    )
    several(
        parser,
        "--workload",
        "ID",
        "a workload such as T901_o96, or its number of tokens; may be repeated (default: all)",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="a line of JSON per cell, as soon as it is known; of wrong outputs at the end, with what they resemble",
    )
    parser.add_argument(
        "--family", choices=("fib", "realistic"), help="one value family (default: both, as a run verifies them)"
    )
    backend(parser, "cpu")
    parser.add_argument(
        "--definition", default="auto", help="full, narrow or a name (default: auto, full on a GPU, else narrow)"
    )
    parser.add_argument("--seed", type=seed, metavar="N", help="seed of the values (default: the one that runs use)")
    parser.add_argument(
        "--dataset", metavar="PATH", help="a flashinfer-trace checkout with the routing inputs (default: synthetic)"
    )
    limit(parser, "longest time for one workload, seconds (default: 1200)", 1200)


def check(args: argparse.Namespace) -> int:
    from bakeoff.runs.check import check_solution

    return check_solution(args)
