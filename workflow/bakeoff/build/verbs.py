"""The verbs of this package: build, export, new-solution."""

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bakeoff.errors import CheckFailed, InputError
from bakeoff.files import PROJECT_ROOT
from bakeoff.options import chosen, folder, limit, seed, several, whole

if TYPE_CHECKING:
    from bakeoff.build.spec import SolutionSpec
    from bakeoff.schema.build import BuildRecord

SOLUTIONS = PROJECT_ROOT / "solutions"
TRACES = PROJECT_ROOT / "traces"


def build_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = """\
several solutions are built side by side, and each that does not build costs itself only; -o then names the folder of
each by {solution}

writes into DIR:
  solution.json          the solution as one FlashInfer-Bench document, and nothing else of it is ever run; of one that
                         cannot be packed, with --keep-going, why
  build.json             status and, per kernel, registers, shared memory, tensor memory, stack, spills,
                         matrix instructions
  <kernel>.cubin, .ptx   machine code and PTX (GPU architectures)

exit code 0: built, or the solution has no such backend (status "unsupported"); 1: it does not build; 2: unusable input

examples:
  bakeoff build my_moe --arch cpu                    packs, imports, checks the entry point
  bakeoff build my_moe --arch sm_90a -o out/my_moe  compiles every kernel for Hopper, here, without a GPU
  bakeoff build a b c -o 'out/{solution}'            three at a time; torch is imported once"""
    parser.add_argument(
        "solution",
        metavar="SOLUTION",
        nargs="+",
        help="name of a folder in solutions/, or the path of a solution's folder",
    )
    parser.add_argument(
        "--arch", choices=("cpu", "sm_90a", "sm_100a"), default="cpu", help="what to build for (default: cpu)"
    )
    parser.add_argument(
        "--definition",
        metavar="NAME",
        help="definition to pack for: a name, full or narrow (default: narrow for cpu, else full)",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("build/{solution}/{arch}"),
        metavar="DIR",
        help="where to write; {solution} and {arch} in it stand for the names (default: build/{solution}/{arch})",
    )
    where = "folder of solutions to look for the names in; may be given several times (default: solutions/)"
    several(parser, "--root", "DIR", where, Path)
    at_once = "solutions that are built at a time (default: as many as there are cores)"
    parser.add_argument("--jobs", type=whole("--jobs", 1000), metavar="N", help=at_once)
    folder(parser, "--traces", TRACES, "folder with definitions/ (default: traces/)")
    parser.add_argument(
        "--cache", type=Path, metavar="DIR", help="where finished builds are kept, by content (default: .cache/build)"
    )
    limit(parser, "longest build of one solution, in seconds (default: 900, 60 for cpu, where nothing is compiled)")
    parser.add_argument(
        "--keep-going",
        action="store_true",
        help="exit 0 also if a solution does not build or cannot be packed; build.json says so",
    )


def build(args: argparse.Namespace) -> int:
    from bakeoff.build.compile import DEFAULT_CACHE, DEFAULT_TIMEOUT_S, IMPORT_S, build_all

    specs = [_spec(one, args.root or [SOLUTIONS]) for one in args.solution]
    definition = _definition(args.definition or ("narrow" if args.arch == "cpu" else "full"), args.traces)
    into = str(args.output).replace("{arch}", args.arch)
    places = [Path(into.replace("{solution}", spec.name)) for spec in specs]
    if twice := [place for place in places if places.count(place) > 1]:
        raise InputError(
            "option -o",
            found=f"{twice[0]} for {places.count(twice[0])} solutions",
            expected="a folder for each",
            hint="name it by the solution: -o 'DIR/{solution}'; and give each solution once",
        )
    started = time.monotonic()
    limit_s = args.timeout or (IMPORT_S if args.arch == "cpu" else DEFAULT_TIMEOUT_S)
    wanted = list(zip(specs, places, strict=True))
    built = build_all(wanted, args.arch, definition, args.cache or DEFAULT_CACHE, limit_s, args.jobs, args.keep_going)
    for (record, cached), place in zip(built, places, strict=True):
        print("\n".join(_table(record)))
        print(f"{place}: {'unchanged, from the cache' if cached else 'written'}", file=sys.stderr)
    print(f"{len(built)} built in {time.monotonic() - started:.1f} s", file=sys.stderr)
    failed = [record for record, _ in built if record.status == "failed"]
    if failed:
        told = "\n".join(f"{one.solution} does not build for {one.arch}: {one.message}" for one in failed)
        if not args.keep_going:
            raise CheckFailed(told)
        print(f"bakeoff: {told}", file=sys.stderr)
    return 0


def _table(record: "BuildRecord") -> list[str]:
    """What was built, as lines of text: one line, and one per kernel."""
    lines = [
        f"{record.solution} {record.arch}: {record.status}"
        + (f" ({record.message})" if record.status == "unsupported" else "")
    ]
    if record.kernels:
        lines.append(
            f"{'kernel':40} {'stage':16} {'regs':>5} {'shared B':>9} {'TMEM':>5} {'stack B':>8} {'spill B':>8}  MMA"
        )
    for kernel in record.kernels:
        mma = ", ".join(f"{count} {family}" for family, count in kernel.mma.items()) or "-"
        shared, tmem = (("?" if value is None else value) for value in (kernel.shared_bytes, kernel.tmem_columns))
        numbers = f"{kernel.registers:5} {shared:>9} {tmem:>5} {kernel.stack_bytes:8} {kernel.spill_bytes:8}"
        lines.append(f"{kernel.name:40} {kernel.stage:16} {numbers}  {mma}")
    return lines


def _spec(solution: str, roots: list[Path]) -> "SolutionSpec":
    from bakeoff.build.names import solution_folder
    from bakeoff.build.spec import SPEC_FILE, read_spec

    root = next((root for root in roots if (root / solution / SPEC_FILE).is_file()), roots[0])
    return read_spec(solution_folder(solution, root))


def _definition(name: str, traces: Path) -> Path:
    from bakeoff.traces.definitions import WIDTHS, definition_name
    from bakeoff.traces.store import TraceRoot

    widths = dict(zip(("full", "narrow"), WIDTHS, strict=True))
    # Absolute: the process that imports the solution runs in a folder of its own.
    root = TraceRoot(traces.resolve())
    return root.definition_path(definition_name(*widths[name]) if name in widths else name)


def export_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = """\
The folder holds the definition, its workloads with synthetic routing as safetensors, and the packed solutions;
about 30 MB.
FlashInfer-Bench then runs it on a GPU host with the published tolerances:
  flashinfer-bench run --local DIR --rtol 0.2 --atol 0.1 --required-matched-ratio 0.85"""
    parser.add_argument("--fib", type=Path, required=True, metavar="DIR", help="folder to write, new or empty")
    parser.add_argument("--definition", default="full", metavar="NAME", help="a name, full or narrow (default: full)")
    parser.add_argument(
        "--solutions", nargs="+", metavar="NAME", help="which solutions (default: all, contestants and peers)"
    )
    parser.add_argument("--workloads", nargs="+", metavar="ID", help="which workloads, such as T901_o96 (default: all)")
    parser.add_argument(
        "--seed", type=seed, metavar="N", help="routing seed of every workload (default: each one's own)"
    )
    folder(parser, "--traces", TRACES, "folder of the workloads (default: traces/)")
    folder(parser, "--root", SOLUTIONS, "folder of the solutions (default: solutions/)")


def export(args: argparse.Namespace) -> int:
    from bakeoff.build.export import export as write_folder
    from bakeoff.build.spec import discover
    from bakeoff.traces.store import TraceRoot

    root, name = TraceRoot(args.traces), _definition(args.definition, args.traces).stem
    cases = chosen("--workloads", args.workloads, {case.id: case for case in root.workloads(name, further=True)})
    specs = chosen("--solutions", args.solutions, {spec.name: spec for spec in discover(args.root)})
    files = write_folder(args.fib, root.definition(name), cases, specs, args.seed)
    print(f"{args.fib}: {name}, {len(cases)} workloads, {len(specs)} solutions, {len(files)} files")
    print(f"next: flashinfer-bench run --local {args.fib} --rtol 0.2 --atol 0.1 --required-matched-ratio 0.85")
    return 0


def new_solution_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", metavar="NAME", help="name of the solution and its folder: lower-case letters, digits, underscores"
    )
    parser.add_argument(
        "--role",
        choices=("contestant", "peer"),
        default="peer",
        help="contestants count for winners and claims, peers stand beside them (default: peer)",
    )
    parser.add_argument(
        "--template",
        default="torch",
        metavar="WHICH",
        help="what to start from: torch, triton, cutedsl, or a solution's name (default: torch)",
    )
    parser.add_argument(
        "--author", default="unknown", metavar="WHO", help="your name, for the packed solution (default: unknown)"
    )
    folder(parser, "--into", SOLUTIONS, "folder of the solutions (default: solutions/)")


def new_solution(args: argparse.Namespace) -> int:
    from bakeoff.build.spec import new_solution as make

    spec = make(args.into, args.name, args.role, args.author, args.template)
    print(f"{spec.folder}: {', '.join(path.name for path in spec.own_files())}")
    print(f"next: bakeoff build {spec.name} --arch cpu, then bakeoff check {spec.name}")
    return 0
