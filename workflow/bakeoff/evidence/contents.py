"""A run's files with their digests, and when it was measured.

Entry points: `files`, `digests`, `period`, `measured_period`. A journal counts by its uncompressed bytes and under its
uncompressed name, so that a run and its recorded form have the same digests.
"""

import datetime
from collections.abc import Iterable
from pathlib import Path

from bakeoff.errors import InputError
from bakeoff.files import sha256_bytes, sha256_file
from bakeoff.runs.journal import COMPRESSED, journal_bytes, journal_path, read_journal
from bakeoff.schema.plan import Plan
from bakeoff.schema.sample import Record

# What a run is, as patterns of its folder; the rest (pages, logs, caches, binaries) follows from these, or is not kept.
FILES = (
    *("config.json", "host.json", "traces*.jsonl", "verification.jsonl", "analysis.json", "gate_power.json"),
    *("samples/block-*/manifest.json", "samples/block-*/*.jsonl", "samples/block-*/*.jsonl.gz"),
    *("profile/*.json", "build/**/build.json"),
)


def files(run: Path) -> list[Path]:
    """The run's files in the order of their paths."""
    return sorted({path for pattern in FILES for path in run.glob(pattern) if path.is_file()})


def name(run: Path, path: Path) -> str:
    """The file's path in the run, without what only compression adds."""
    return path.relative_to(run).as_posix().removesuffix(COMPRESSED)


def digests(run: Path) -> dict[str, str]:
    """sha256 by name; an InputError if there is none, or a journal that is no whole gzip file."""
    found = {name(run, path): _digest(path) for path in files(run)}
    if "config.json" not in found:
        raise InputError(run, "no config.json", "a run's folder", "give results/runs/NAME or results/recorded/NAME")
    return found


def _digest(path: Path) -> str:
    if path.suffix != COMPRESSED:
        return sha256_file(path)
    return sha256_bytes(journal_bytes(path.with_suffix("")) or b"")


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
    paths = [journal_path(run, block, who.name) for block in range(plan.blocks) for who in plan.participants]
    try:
        started, ended = period(record for path in paths for record in read_journal(path))
    except ValueError as error:
        raise InputError(run, f"no time of a sample ({error})", "a measured run", "measure the run first") from error
    return started.isoformat(timespec="milliseconds"), ended.isoformat(timespec="milliseconds")
