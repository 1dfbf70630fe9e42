"""The verbs analyse, audit and compare.

`analysis_of` is `analyse` without the file; what stands beside a run (the published table, its repeat, the run before it) is read here.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bakeoff.errors import InputError
from bakeoff.files import pretty_json, write_atomic

if TYPE_CHECKING:
    from bakeoff.stats.compare import Between
    from bakeoff.stats.model import Analysis, Audit, Comparison
    from bakeoff.stats.rundata import RunData


def load(folder: Path) -> RunData:
    """A run's folder or a published one; anything else is an InputError."""
    if (folder / "meta.yaml").is_file():
        from bakeoff.stats.published import load_published

        return load_published(folder)
    if not (folder / "config.json").is_file():
        raise InputError(
            folder, found="neither config.json nor meta.yaml", expected="a run's folder, or one of results/published/",
            hint="give results/runs/NAME, results/recorded/NAME or results/published/NAME",
        )  # fmt: skip
    from bakeoff.stats.runs import load_run

    return load_run(folder)


def analysis_of(folder: Path, earlier: list[Path] | None = None) -> Analysis:
    """The analysis of a folder, with the runs that stand beside it: published tables by themselves, `earlier` runs on request."""
    from bakeoff.stats.analyse import analyse

    data = load(folder)
    analysis = analyse(data)
    for other, relation in _beside(data, earlier or []):
        _add(analysis, data, other, relation)
    claims = folder / "claims.yaml"
    if claims.is_file():
        analysis.audit = audit_of(folder, claims)
    return analysis


def _beside(data: RunData, earlier: list[Path]) -> list[tuple[RunData, str]]:
    from bakeoff.stats.published import load_published, published_folder

    known = [(load_published(published_folder(peer.id)), peer.relation) for peer in data.beside]
    return known + [(load(folder), "previous") for folder in earlier]


def _add(analysis: Analysis, data: RunData, other: RunData, relation: str) -> None:
    from bakeoff.stats.compare import compare
    from bakeoff.stats.findings import against

    comparison = compare(other, data, scatter(other, data))
    analysis.comparisons.append(comparison)
    analysis.findings.previous.append(against(comparison, relation, data.contestants))


def scatter(*sides: RunData) -> Between | None:
    """How much published cells move between runs: from a published side and its repeat, else from the tables that have one."""
    from bakeoff.stats.compare import between_runs
    from bakeoff.stats.published import load_published, published_folder
    from bakeoff.stats.runs import PUBLISHED

    published = [side for side in sides if side.header.kind == "published"]
    if not published:
        return None
    for side in [*published, load_published(published_folder(PUBLISHED))]:
        repeats = [peer.id for peer in side.beside if peer.relation == "repeat"]
        if repeats:
            return between_runs(side, load_published(published_folder(repeats[0])))
    return None


def analyse_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Turn a run's traces (or a published table) into analysis.json: intervals, verdicts, winners, summaries, comparisons, audit. "
        "The rules are docs/statistics.md. On the cpu backend only correctness is analysed."
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a run's folder, or one of results/published/")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="where to write (default: FOLDER/analysis.json)"
    )
    parser.add_argument("--against", type=Path, action="append", default=[], metavar="FOLDER",
                        help="also compare with this earlier run; may be given several times (default: the published run only)")  # fmt: skip


def analyse(args: argparse.Namespace) -> int:
    from bakeoff.stats.analyse import document_bytes

    if args.output is None and (args.folder / "meta.yaml").is_file():
        raise InputError(
            "-o", found="nothing", expected="a file outside results/published/, which holds only what was published",
            hint=f"add e.g. `-o results/rendered/{args.folder.name}/analysis.json`",
        )  # fmt: skip
    write_atomic(args.output or args.folder / "analysis.json", document_bytes(analysis_of(args.folder, args.against)))
    return 0


def compare_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Compare run B with run A, the older one, cell by cell. If one of them is a published table: REPRODUCED, DIFFERS or NOT COMPARABLE, by a 95 % "
        "prediction interval. Between two runs: FASTER, SLOWER, SAME or AMBIGUOUS, corrected over the workloads of a solution. "
        "Exit code 1 only for a wrong output in B or a regression that the statistics support."
    )
    parser.add_argument("old", type=Path, metavar="A", help="the older run's folder, or one of results/published/")
    parser.add_argument("new", type=Path, metavar="B", help="the newer run's folder")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="also write the comparison as JSON")
    parser.add_argument("--all", action="store_true", help="list every cell, not only those that differ")


def compare(args: argparse.Namespace) -> int:
    from bakeoff.stats import text
    from bakeoff.stats.compare import compare as compare_runs

    old, new = load(args.old), load(args.new)
    if new.header.kind == "published" and old.header.kind == "run":
        old, new = new, old
    comparison = compare_runs(old, new, scatter(old, new))
    _write(args.output, comparison)
    print("\n".join(text.comparison_lines(comparison, every=args.all)))
    return 1 if comparison.wrong or comparison.regressions else 0


def audit_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Test every figure and conclusion of a published report against its own values: CONFIRMED, CONTRADICTED, or NOT TESTABLE with what would test it. "
        "A printed figure sets its own tolerance: half a unit of its last digit, one unit after a ~. Exit code 0 whatever is found."
    )
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="one of results/published/, with speedups.csv and claims.yaml"
    )
    parser.add_argument("--claims", type=Path, metavar="FILE", help="the claims (default: FOLDER/claims.yaml)")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="also write the audit as JSON")
    parser.add_argument("--all", action="store_true", help="list every claim, not only the contradicted ones")


def audit(args: argparse.Namespace) -> int:
    from bakeoff.stats import text

    result = audit_of(args.folder, args.claims or args.folder / "claims.yaml")
    _write(args.output, result)
    print("\n".join(text.audit_lines(result, every=args.all)))
    return 0


def audit_of(folder: Path, claims: Path) -> Audit:
    """The audit of a published report."""
    from bakeoff.stats.audit import audit_report

    return audit_report(folder, claims)


def _write(path: Path | None, document: Comparison | Audit) -> None:
    if path is not None:
        write_atomic(path, pretty_json(document.model_dump(mode="json")))
        print(f"written: {path}", file=sys.stderr)
