"""Which files a submission may hold: those that `bakeoff record` writes, as plain files of a bounded size.

Entry point: `flaws`. Nothing of a submission is opened before this has passed, and a link is never followed.
"""

import gzip
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from bakeoff.schema.evidence import Ground, Refusal

_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}"
_ALLOWED = re.compile(
    r"config\.json|host\.json|traces(\.[a-z0-9.-]{1,40})?\.jsonl|verification\.jsonl|analysis\.json|gate_power\.json"
    r"|DISCLOSURE\.md|attestation\.json"
    rf"|samples/block-\d\d/(manifest\.json|host\.json|{_NAME}\.jsonl(\.gz)?)|profile/{_NAME}\.json"
    rf"|build/{_NAME}(/sm_\d{{2,3}}a)?/build\.json",
    re.ASCII,
)
_FOLDERS = re.compile(rf"samples|samples/block-\d\d|profile|build|build/{_NAME}|build/{_NAME}/sm_\d{{2,3}}a", re.ASCII)
# What to do where no more can be advised.
AGAIN = "measure and record the run again; what was measured is never edited"
MOST_FILES = 5000
LARGEST = 32_000_000
"""Bytes of a file, and of a journal once unpacked."""
WHOLE = 256_000_000
"""Bytes of all files together, unpacked."""


def flaws(folder: Path) -> list[Refusal]:
    """What of the folder is not as a run's folder may be; at most twenty."""
    if folder.is_symlink() or not folder.is_dir():
        what = "a link" if folder.is_symlink() else "no folder"
        return [_refusal(".", what, "a folder with a run", "give the folder that `bakeoff record` wrote")]
    found: list[Refusal] = []
    size = 0
    for count, (path, flaw) in enumerate(_walk(folder, ""), 1):
        if flaw is None:
            bytes_there, flaw = _measured(folder / path, path)
            size += bytes_there
        found += [flaw] if flaw else []
        if count > MOST_FILES or size > WHOLE:
            limit = f"at most {MOST_FILES} files and {WHOLE // 1_000_000} MB unpacked"
            found.append(_refusal(".", f"more than {limit[8:]}", limit, "submit what `bakeoff record` writes"))
        if len(found) >= 20 or count > MOST_FILES or size > WHOLE:
            break
    return found


def _walk(folder: Path, inside: str) -> Iterator[tuple[str, Refusal | None]]:
    """Paths below the folder, each with what is wrong with its name or kind; only folders that may be are entered."""
    with os.scandir(folder / inside) as entries:
        for entry in sorted(entries, key=lambda one: one.name):
            path = f"{inside}/{entry.name}" if inside else entry.name
            if entry.is_symlink():
                yield path, _refusal(path, "a link", "plain files and folders", "put the file itself there")
            elif entry.is_dir(follow_symlinks=False):
                if _FOLDERS.fullmatch(path):
                    yield from _walk(folder, path)
                else:
                    yield path, _refusal(path, "a folder that no run has", "samples, profile, build", "leave it out")
            elif not entry.is_file(follow_symlinks=False):
                yield path, _refusal(path, "no plain file", "plain files and folders", "leave it out")
            elif not _ALLOWED.fullmatch(path):
                yield path, _refusal(path, "a file that no run has", "what `bakeoff record` writes", "leave it out")
            else:
                yield path, None


def _measured(path: Path, shown: str) -> tuple[int, Refusal | None]:
    """How many bytes the file has, unpacked, as far as that is allowed."""
    size = path.stat().st_size
    if path.suffix == ".gz" and size <= LARGEST:
        try:
            with gzip.open(path) as stream:
                size = 0
                while size <= LARGEST and (piece := stream.read(1 << 20)):
                    size += len(piece)
        except (OSError, EOFError, zlib.error) as error:
            found = f"no whole gzip file ({error})"
            return size, _refusal(shown, found, "a journal as `bakeoff record` writes it", "record the run again")
    if size > LARGEST:
        most = f"{LARGEST // 1_000_000} MB"
        fix = "submit what `bakeoff record` writes"
        return size, _refusal(shown, f"more than {most}", f"at most {most}, unpacked", fix)
    return size, None


def _refusal(where: str, found: str, expected: str, fix: str) -> Refusal:
    return refusal(Ground.FILES, where.encode("utf-8", "backslashreplace").decode()[:200], found, expected, fix)


def refusal(ground: Ground, where: str, found: str, expected: str, fix: str = AGAIN) -> Refusal:
    return Refusal(ground=ground, where=where, found=found, expected=expected, fix=fix)
