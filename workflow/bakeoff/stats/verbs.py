"""The verbs analyse, audit and compare.

`analysis_of` is `analyse` without the file. Numerical libraries are imported only when a verb runs, so that help is
instant.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bakeoff.errors import InputError
from bakeoff.files import model_json, write_atomic
from bakeoff.options import limit, output, several, whole

if TYPE_CHECKING:
    from bakeoff.schema.analysis import Analysis
    from bakeoff.schema.analysis_findings import Relation
    from bakeoff.schema.analysis_outside import Comparison, ReportAudit


# Of `compare`: 2 is unusable input, as everywhere.
EXIT_CODES = {"OK": 0, "FAILED": 1, "NOTHING COMPARED": 3}


def analysis_of(folder: Path, earlier: Sequence[Path] = (), others: Sequence[Path] = ()) -> "Analysis":
    """The analysis of a folder, with the runs that stand beside it: published tables by themselves, `earlier` runs on
    request. others: runs of the same GPU model that are analysed together with it."""
    from bakeoff.runs.coverage import inputs
    from bakeoff.runs.published import published_folder
    from bakeoff.stats.analyse import analyse, other_protocol
    from bakeoff.stats.audit import audit_report
    from bakeoff.stats.beside import compared, load
    from bakeoff.stats.findings import against
    from bakeoff.stats.runs import load_run
    from bakeoff.stats.together import together

    data = load(folder)
    if others:
        data = together([data, *(load(other, data.header.protocol) for other in others)])
    analysis = analyse(data)
    protocols = data.header.other_protocols if data.performance_shown else []
    beside: list[tuple[Path, Relation]] = [(published_folder(other.id), other.relation) for other in data.beside]
    beside += [(path, "previous") for path in earlier]
    comparisons = [compared(other, folder, data) for other, _ in beside]
    previous = [
        against(comparison, relation, data.contestants)
        for comparison, (_, relation) in zip(comparisons, beside, strict=True)
    ]
    claims = folder / "claims.yaml"
    return analysis.model_copy(
        update={
            "inputs": inputs(folder)
            | {f"{other.name}/{name}": digest for other in others for name, digest in inputs(other).items()},
            "other_protocols": [other_protocol(data, load_run(folder, name, data.journals)) for name in protocols],
            "comparisons": comparisons,
            "findings": analysis.findings.model_copy(update={"previous": previous}),
            "audit": audit_report(folder, claims) if claims.is_file() else None,
        }
    )


def analyse_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Turn a run's samples (or a published table) into analysis.json: intervals, verdicts, winners, summaries, "
        "comparisons, audit. "
        "The rules are docs/statistics.md. On the cpu backend only correctness is analysed."
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a run's folder, or one of results/published/")
    parser.add_argument(
        "others",
        type=Path,
        nargs="*",
        metavar="RUN",
        help="further runs on GPUs of the same model, analysed together with the first; from three GPUs on, a GPU is "
        "one sample, and intervals speak for the model (needs -o)",
    )
    output(parser, "FILE", "where to write (default: FOLDER/analysis.json)", required=False)
    earlier = "also compare with this earlier run; may be given several times (default: the published run only)"
    several(parser, "--against", "FOLDER", earlier, Path)
    late = "longest time to wait for a profile that a shared file system shows late, seconds (default: none)"
    limit(parser, late, option="--wait")


def analyse(args: argparse.Namespace) -> int:
    from bakeoff.schema.analysis import document_bytes

    if args.output is None and (args.folder / "meta.yaml").is_file():
        raise InputError(
            "-o",
            found="nothing",
            expected="a file outside results/published/, which holds only what was published",
            hint=f"add e.g. `-o results/rendered/{args.folder.name}/analysis.json`",
        )
    if args.output is None and args.others:
        raise InputError("-o", "nothing", "a file, since the analysis is of several runs", "add `-o FILE`")
    if args.wait:
        from bakeoff.planned import read_plan
        from bakeoff.profile.due import wait_for_documents

        wait_for_documents(args.folder, read_plan(args.folder), args.wait, lambda said: print(said, file=sys.stderr))
    path = args.output or args.folder / "analysis.json"
    write_atomic(path, document_bytes(analysis_of(args.folder, args.against or (), args.others)))
    print(f"written: {path}", file=sys.stderr)
    return 0


def select_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Take the leading solutions of a screening, a run of few blocks of many solutions, into selection.json. A run "
        "with `--config selection=FILE` and another name then measures them on fresh blocks, beside the anchors; what "
        "is concluded rests on those alone (docs/candidates.md)."
    )
    parser.add_argument("folder", type=Path, metavar="RUN", help="the screening run's folder, analysed")
    most = "how many to take (default: `leading` of the run's configuration, 10)"
    parser.add_argument("-k", "--leading", type=whole("--leading", 100), metavar="K", help=most)
    output(parser, "FILE", "where to write (default: RUN/selection.json)", required=False)


def select(args: argparse.Namespace) -> int:
    from bakeoff.files import read_bytes, read_json, sha256_bytes
    from bakeoff.planned import read_plan
    from bakeoff.schema.analysis import Analysis
    from bakeoff.stats.select import select as take

    source = args.folder / "analysis.json"
    screening = read_json(source, Analysis)
    found = take(screening, sha256_bytes(read_bytes(source)), args.leading or read_plan(args.folder).leading)
    path = args.output or args.folder / "selection.json"
    write_atomic(path, model_json(found))
    print(f"written: {path}: {len(found.selected)} of {found.screened}, {found.unfit} unfit", file=sys.stderr)
    return 0


def compare_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Compare run B with run A, the older one, cell by cell. If one of them is a published table: REPRODUCED, "
        "DIFFERS or NOT COMPARABLE, by a 95 % prediction interval. Between two runs: what differs (GPU, driver, "
        "packages, digests), then FASTER, SLOWER, SAME or AMBIGUOUS, from latencies relative to what did not change, "
        "corrected over the workloads of a solution. "
        "Exit code 0 if cells were compared; 1 for a wrong output in B or a regression that the statistics support; "
        "3 if not one cell could be compared."
    )
    parser.add_argument("old", type=Path, metavar="A", help="the older run's folder, or one of results/published/")
    parser.add_argument("new", type=Path, metavar="B", help="the newer run's folder")
    _outputs(parser, "comparison", "cell, not only those that moved")


def compare(args: argparse.Namespace) -> int:
    from bakeoff.stats import text
    from bakeoff.stats.beside import compared

    if args.old.resolve() == args.new.resolve():
        raise InputError(
            "A and B",
            found=f"the same folder, {args.old}",
            expected="two runs, or a run and a published one",
            hint="give two folders; what noise alone produces shows in an A/A run (`twins` in config/config.yaml)",
        )
    published = [(folder / "meta.yaml").is_file() for folder in (args.old, args.new)]
    old, new = (args.new, args.old) if published == [False, True] else (args.old, args.new)
    comparison = compared(old, new)
    _say(args, comparison, text.comparison_lines(comparison, every=args.all))
    return EXIT_CODES[comparison.result]


def audit_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Test every figure and conclusion of a published report against its own values: CONFIRMED, CONTRADICTED, or "
        "NOT TESTABLE with what would test it. "
        "A printed figure sets its own tolerance: half a unit of its last digit, one unit after a ~. Exit code 0 "
        "whatever is found."
    )
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="one of results/published/, with speedups.csv and claims.yaml"
    )
    parser.add_argument("--claims", type=Path, metavar="FILE", help="the claims (default: FOLDER/claims.yaml)")
    _outputs(parser, "audit", "claim, not only the contradicted ones")


def audit(args: argparse.Namespace) -> int:
    from bakeoff.stats import text
    from bakeoff.stats.audit import audit_report

    if not (args.folder / "meta.yaml").is_file():
        raise InputError(args.folder, "no meta.yaml", "a published report's folder", "give results/published/NAME")
    result = audit_report(args.folder, args.claims or args.folder / "claims.yaml")
    _say(args, result, text.audit_lines(result, every=args.all))
    return 0


def _say(args: argparse.Namespace, document: "Comparison | ReportAudit", lines: Sequence[str]) -> None:
    """Write the document where `-o` says, and print it, as JSON or in words."""
    made = model_json(document)
    if args.output is not None:
        write_atomic(args.output, made)
        print(f"written: {args.output}", file=sys.stderr)
    print(made.decode().rstrip() if args.json else "\n".join(lines))


def _outputs(parser: argparse.ArgumentParser, what: str, rows: str) -> None:
    """How a verb shows what it found. rows: which lines `--all` adds to."""
    output(parser, "FILE", f"also write the {what} as JSON", required=False)
    parser.add_argument("--all", action="store_true", help=f"list every {rows}")
    parser.add_argument("--json", action="store_true", help=f"print the {what} as JSON")
