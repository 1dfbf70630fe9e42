#!/usr/bin/env python3
"""Compares the figures that the pipeline computed with those that are frozen in figures/.

    python3 tests/golden/compare.py            after `make reproduce`; exit 0, or 1 and each figure that differs
    python3 tests/golden/compare.py --freeze   writes figures/RUN.csv of a run that has none yet

Nothing of the package is imported. Differences that are meant stand in intended.json, with their reason.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import extract

HERE = Path(__file__).resolve().parent
RELATIVE = 1e-9  # analysis.json prints ten digits


class Difference(NamedTuple):
    """One figure, RUN/TABLE/ROW/COLUMN, that is not what it was; None where it is not there."""

    figure: str
    was: str | None
    now: str | None

    def __str__(self) -> str:
        was, now = ("nothing" if text is None else repr(text) for text in (self.was, self.now))
        return f"{self.figure}: was {was}, is {now}"


def same(was: str | None, now: str | None, relative: float = RELATIVE) -> bool:
    """Whether two figures agree: as texts, or as numbers within a relative tolerance."""
    if was is None or now is None or was == now:
        return was == now
    try:
        return math.isclose(float(was), float(now), rel_tol=relative)
    except ValueError:
        return False


def differences(run: str, was: dict[str, extract.Table], now: dict[str, extract.Table]) -> Iterator[Difference]:
    """Every figure of a run that is another one, is gone or is new."""
    before, after = dict(_figures(run, was)), dict(_figures(run, now))
    for figure in before | after:
        if not same(before.get(figure), after.get(figure)):
            yield Difference(figure, before.get(figure), after.get(figure))


def _figures(run: str, tables: dict[str, extract.Table]) -> Iterator[tuple[str, str]]:
    for table, rows in tables.items():
        for row, columns in rows.items():
            for column, text in columns.items():
                yield f"{run}/{table}/{row}/{column}", text


def covers(intention: dict[str, Any], found: Difference) -> bool:
    """Whether a difference is one of those that an entry of intended.json means."""
    if not fnmatchcase(found.figure, intention["figures"]):
        return False
    return "within" not in intention or same(found.was, found.now, intention["within"])


def write(path: Path, tables: dict[str, extract.Table]) -> None:
    """A table is a header, whose first word is its name, and a line per row; an empty line ends it."""
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        for name, rows in tables.items():
            columns = list(dict.fromkeys(column for row in rows.values() for column in row))
            out.writerow([name, *columns])
            out.writerows([row, *(rows[row].get(column, "-") for column in columns)] for row in rows)
            file.write("\n")


def read(path: Path) -> dict[str, extract.Table]:
    """The tables that `write` wrote; "-" is a column that a row does not have."""
    tables: dict[str, extract.Table] = {}
    header: list[str] = []
    with path.open(encoding="utf-8", newline="") as file:
        for line in csv.reader(file):
            if not line:
                header = []
            elif not header:
                header, table = line, tables.setdefault(line[0], {})
            else:
                pairs = zip(header[1:], line[1:], strict=True)
                table[line[0]] = {column: text for column, text in pairs if text != "-"}
    return tables


def compare(results: Path, figures: Path, intended: list[dict[str, Any]]) -> list[str]:
    """What is wrong, a sentence each; what was compared and what is intended is printed."""
    frozen = {path.stem: read(path) for path in sorted(figures.glob("*.csv"))}
    wrong = [
        f"{run}: no figures are frozen; freeze them with --freeze" for run in extract.runs(results) if run not in frozen
    ]
    found = [one for run, was in frozen.items() for one in differences(run, was, extract.tables(results, run))]
    used = [sum(covers(intention, one) for one in found) for intention in intended]
    for intention, count in zip(intended, used, strict=True):
        if count:
            print(f"golden: {count} differences are intended: {intention['figures']}: {intention['reason']}")
        else:
            wrong.append(f"intended.json: no difference matches {intention['figures']!r}; take it out")
    wrong += [str(one) for one in found if not any(covers(intention, one) for intention in intended)]
    total = sum(1 for run, tables in frozen.items() for _ in _figures(run, tables))
    print(f"golden: {total} figures of {len(frozen)} runs compared, {len(found)} differ")
    return wrong


def main(argv: list[str] | None = None) -> int:
    """Exit code: 0 all as frozen or intended, 1 a difference, 2 a file is missing or of another form."""
    parser = argparse.ArgumentParser(description="Compare what the pipeline computed with the frozen figures.")
    parser.add_argument("--results", type=Path, default=HERE.parents[1] / "results", help="default: results/")
    parser.add_argument("--golden", type=Path, default=HERE, help="folder of figures/ and intended.json")
    parser.add_argument("--freeze", action="store_true", help="write the figures of runs that have none yet")
    args = parser.parse_args(argv)
    try:
        if args.freeze:
            for run in extract.runs(args.results):
                path = args.golden / f"figures/{run}.csv"
                if not path.exists():
                    write(path, extract.tables(args.results, run))
                    print(f"golden: frozen: {path}")
            return 0
        intended = json.loads((args.golden / "intended.json").read_text(encoding="utf-8"))
        wrong = compare(args.results, args.golden / "figures", intended)
    except FileNotFoundError as error:
        print(f"golden: found no {error.filename}; expected what `make reproduce` makes; run it first", file=sys.stderr)
        return 2
    except (LookupError, TypeError, AttributeError) as error:
        print(f"golden: a file has another form ({error!r}); teach tests/golden/extract.py to read it", file=sys.stderr)
        return 2
    for line in wrong:
        print(f"golden: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
