"""The verbs analyse, audit and compare."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from bakeoff.files import write_atomic

if TYPE_CHECKING:
    from bakeoff.stats.model import Analysis
    from bakeoff.stats.rundata import RunData


def load(folder: Path) -> RunData:
    """A run's folder or a published one."""
    if (folder / "meta.yaml").is_file():
        from bakeoff.stats.published import load_published

        return load_published(folder)
    from bakeoff.stats.runs import load_run

    return load_run(folder)


def analysis_of(folder: Path) -> Analysis:
    """The analysis of a folder."""
    from bakeoff.stats.analyse import analyse

    return analyse(load(folder))


def analyse_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a run's folder, or one of results/published/")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="where to write analysis.json")


def analyse(args: argparse.Namespace) -> int:
    from bakeoff.stats.analyse import document_bytes

    write_atomic(args.output, document_bytes(analysis_of(args.folder)))
    return 0
