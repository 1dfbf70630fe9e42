"""A run's files with their digests, and when it was measured.

Entry points: `files`, `digests`, `period`, `measured_period`. A journal counts by its uncompressed bytes and under its
uncompressed name, so that a run and its recorded form have the same digests.
"""

import datetime
from collections.abc import Iterable
from pathlib import Path

from bakeoff.errors import InputError
from bakeoff.files import sha256_file
from bakeoff.runs.coverage import ANALYSED, inputs
from bakeoff.runs.journal import journal_path, read_journal
from bakeoff.schema.plan import Plan
from bakeoff.schema.sample import Record

# What is part of a run beside the files that an analysis rests on; pages, logs and caches are not.
BESIDE = ("traces*.jsonl", "verification.jsonl", "analysis.json")


def files(run: Path) -> list[Path]:
    """The run's files in the order of their paths."""
    return sorted({path for pattern in (*ANALYSED, *BESIDE) for path in run.glob(pattern) if path.is_file()})


def digests(run: Path) -> dict[str, str]:
    """sha256 by path in the run's folder; an InputError if there is none, or a journal that is no whole gzip file."""
    if not (run / "config.json").is_file():
        raise InputError(run, "no config.json", "a run's folder", "give results/runs/NAME or results/recorded/NAME")
    beside = sorted(path for pattern in BESIDE for path in run.glob(pattern))
    return inputs(run) | {path.relative_to(run).as_posix(): sha256_file(path) for path in beside}


def moment(text: str) -> datetime.datetime:
    """An ISO 8601 time with its zone; ValueError for another text."""
    found = datetime.datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError("a time without its zone")
    return found


def period(records: Iterable[Record]) -> tuple[datetime.datetime, datetime.datetime]:
    """From the first record's start to the end of the one that ended last; ValueError without any."""
    spans = [(moment(one.started), datetime.timedelta(seconds=one.seconds)) for one in records]
    if not spans:
        raise ValueError("no record")
    return min(start for start, _ in spans), max(start + length for start, length in spans)


def measured_period(run: Path, plan: Plan) -> tuple[str, str]:
    """When the first sample of the run began and the last one ended, ISO 8601; a run without any is an InputError."""
    paths = [journal_path(run, block, who.name) for block in range(plan.blocks) for who in plan.present(block)]
    try:
        started, ended = period(record for path in paths for record in read_journal(path))
    except ValueError as error:
        raise InputError(run, f"no time of a sample ({error})", "a measured run", "measure the run first") from error
    return started.isoformat(timespec="milliseconds"), ended.isoformat(timespec="milliseconds")
