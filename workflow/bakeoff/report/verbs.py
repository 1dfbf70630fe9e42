"""The verbs report and index: files in, files out; everything between is pure."""

import argparse
import os
import sys
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING

from bakeoff.errors import InputError
from bakeoff.files import PROJECT_ROOT, read_json, unwritable, write_atomic
from bakeoff.options import output, several

if TYPE_CHECKING:
    from bakeoff.schema.analysis import Analysis


def report_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Render an analysis: report.html (one file, offline, no scripts), report.md (for GitHub and job summaries) "
        "and tables/*.csv. "
        "The same analysis gives the same bytes on every machine."
    )
    parser.add_argument("source", type=Path, metavar="ANALYSIS", help="an analysis.json, or a folder that holds one")
    output(
        parser,
        "DIR",
        "where to write (default: the folder report/ beside the analysis); tables/*.csv of an earlier report "
        "there are removed",
        required=False,
    )
    for name, what in (("home", "the landing page"), ("previous", "the report before"), ("next", "the report after")):
        parser.add_argument(f"--{name}", default="", metavar="HREF", help=f"link to {what} (default: none)")


def report(args: argparse.Namespace) -> int:
    from bakeoff.report.render import render

    source = _analysis_file(args.source)
    files = render(_read(source), args.home, args.previous, args.next)
    target: Path = args.output or source.parent / "report"
    for name, content in files.items():
        write_atomic(target / name, content)
    _remove_stale(target, set(files))
    print(target / "report.html")
    return 0


def index_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Write the landing page over several reports. A report is looked for in report/report.html and report.html "
        "beside its analysis; "
        "links are relative, so the results folder can be moved as a whole."
    )
    parser.add_argument(
        "analyses", type=Path, nargs="+", metavar="ANALYSIS", help="an analysis.json, or a folder that holds one"
    )
    parser.add_argument(
        "--others",
        type=Path,
        nargs="*",
        default=[],
        metavar="ANALYSIS",
        help="further ones, which are left out with a word if they cannot be read, are of another version or have no "
        "report",
    )
    where = "the page to write; given more than once, the same page at each place (default: results/index.html)"
    several(parser, "--out", "FILE", where, Path)


def index(args: argparse.Namespace) -> int:
    from bakeoff.report.index import Source, render_landing

    places = args.out or [PROJECT_ROOT / "results" / "index.html"]
    found = [(path, _read(path), _report_of(path)) for path in map(_analysis_file, args.analyses)]
    for path in map(_analysis_file, args.others):
        try:
            found.append((path, _read(path), _report_of(path)))
        except InputError as error:
            print(f"left out of the landing page: {error.where}: {error.found}", file=sys.stderr)
    for place in places:
        links = [(_link(path, place.parent), _link(page, place.parent)) for path, _, page in found]
        pages = render_landing([Source(read[1], *link) for read, link in zip(found, links, strict=True)])
        write_atomic(place, pages.pop("index.html"))
        for name, page in pages.items():
            write_atomic(place.parent / name, page)
        print(place)
    return 0


def _analysis_file(source: Path) -> Path:
    return source / "analysis.json" if source.is_dir() else source


def _read(source: Path) -> "Analysis":
    from bakeoff.schema.analysis import Analysis

    return read_json(source, Analysis)


def _report_of(source: Path) -> Path:
    places = [source.parent / "report" / "report.html", source.parent / "report.html"]
    for place in places:
        if place.is_file():
            return place
    raise InputError(
        source,
        found="no report beside this analysis",
        expected=" or ".join(str(place) for place in places),
        hint=f"run `bakeoff report {source}` first",
    )


def _link(target: Path, here: Path) -> str:
    """A relative link; signs that mean something in one are written as their bytes."""
    return urllib.parse.quote(os.path.relpath(target.resolve(), here.resolve()))


def _remove_stale(target: Path, kept: set[str]) -> None:
    """A table that this report no longer has must not stay beside it."""
    for path in sorted((target / "tables").glob("*.csv")):
        if f"tables/{path.name}" not in kept:
            try:
                path.unlink()
            except OSError as error:
                raise unwritable(path, error) from error
