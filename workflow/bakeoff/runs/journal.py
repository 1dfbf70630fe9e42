"""The journal of a participant in a block: one sealed line per finished cell, appended with fsync.

Entry points: `Journal.open` (repairs a torn end and reads what is there), `.append`, and `read_journal` (changes
nothing). A crash at any instant loses at most the line that was being written; such a line is cut when the journal is
opened again. Recorded runs hold their journals compressed, `NAME.jsonl.gz`; they are read, never written.
"""

import gzip
import os
import zlib
from collections.abc import Callable
from pathlib import Path

from bakeoff.errors import InputError
from bakeoff.files import read_bytes, sync_folder, unwritable
from bakeoff.schema.sample import Record, parse_line, seal

COMPRESSED = ".gz"


def block_folder(run: Path, block: int) -> Path:
    return run / "samples" / f"block-{block:02d}"


def journal_path(run: Path, block: int, participant: str) -> Path:
    return block_folder(run, block) / f"{participant}.jsonl"


class Journal:
    """An open journal; `records` are its lines in file order."""

    def __init__(self, path: Path, descriptor: int, size: int, records: list[Record]) -> None:
        self.path, self._descriptor, self._size = path, descriptor, size
        self.records = records

    @classmethod
    def open(cls, path: Path, notice: Callable[[str], None]) -> "Journal":
        """Open for appending, making the file if it is new. A torn last line is cut off and reported through
        `notice`."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            sync_folder(path.parent)
        except OSError as error:
            raise unwritable(path, error) from error
        records, size, torn = _parse(path, read_bytes(path), repair=True)
        if torn:
            notice(f"{path}:{torn}: the last line is torn (an interrupted write); it is cut and its cell runs again")
            _truncate(path, descriptor, size)
        return cls(path, descriptor, size, records)

    def last(self, key: str) -> Record | None:
        """The newest line of a key; earlier ones of an unfinished cell are history."""
        return next((record for record in reversed(self.records) if record.key == key), None)

    def append(self, record: Record) -> None:
        """Write a line and make it durable; on a full or failing disk the file is as before and an InputError says
        so."""
        data = seal(record)
        try:
            written = 0
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
            os.fsync(self._descriptor)
        except OSError as error:
            _truncate(self.path, self._descriptor, self._size)
            raise unwritable(self.path, error) from error
        self._size += len(data)
        self.records.append(record)

    def close(self) -> None:
        os.close(self._descriptor)


def read_journal(path: Path) -> list[Record]:
    """Every record of a journal that is not being written, compressed or not; any damage is an InputError. No file: no
    records."""
    data = journal_bytes(path)
    where = path if path.exists() else path.with_name(path.name + COMPRESSED)
    return [] if data is None else _parse(where, data, repair=False)[0]


def journal_bytes(path: Path) -> bytes | None:
    """A journal as it was written, compressed or not; None if there is none."""
    packed = path.with_name(path.name + COMPRESSED)
    if path.exists() or not packed.exists():
        return read_bytes(path) if path.exists() else None
    try:
        return gzip.decompress(read_bytes(packed))
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(
            packed,
            found=f"no whole gzip file ({error})",
            expected="a journal as `bakeoff record` compresses it",
            hint="restore the file from version control",
        ) from error


def _parse(path: Path, data: bytes, repair: bool) -> tuple[list[Record], int, int | None]:
    """Returns the records, the length of the sound part in bytes, and the number of a torn last line."""
    records: list[Record] = []
    lines = data.split(b"\n")
    if lines[-1] == b"":
        lines.pop()  # the newline that ends the last line
    size = 0
    for number, line in enumerate(lines, 1):
        last = number == len(lines)
        complete = not last or data.endswith(b"\n")
        try:
            record = parse_line(line if complete else line + b"\0", f"{path}:{number}")
        except InputError:
            if repair and last:
                return records, size, number
            raise
        records.append(record)
        size += len(line) + 1
    return records, size, None


def _truncate(path: Path, descriptor: int, size: int) -> None:
    try:
        os.ftruncate(descriptor, size)
        os.fsync(descriptor)
    except OSError as error:
        raise unwritable(path, error) from error
