"""Locks between processes: one supervisor per block of a run, one measurement per GPU.

Entry point: `hold`. A lock lives as long as the process that holds it, whatever ends that process.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from bakeoff.files import unwritable

GPU_LOCKS = Path("/tmp/bakeoff-gpu-locks")


@contextlib.contextmanager
def hold(path: Path, what: str, waiting: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock file `path`, which is for every user to open; a link in its place is an InputError. If another
    process has it, wait, after saying so through `waiting`.

    That may be one that a killed Snakemake left at work: starting again at once must end well.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        owner, lock = _owner(path), FileLock(path, mode=0o666)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            waiting(f"waiting for process {owner or _owner(path) or 'unknown'}, which is at work on {what}")
            lock.acquire()
        _own(path)
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        yield
    finally:
        lock.release()


def _owner(path: Path) -> str:
    """The process that has the lock, or had it last; empty if there was none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return ""
    with os.fdopen(descriptor, errors="replace") as stream:
        return stream.read(32).strip()


def _own(path: Path) -> None:
    """Name this process in the lock file, for those who wait."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_TRUNC), "w") as stream:
        stream.write(f"{os.getpid()}\n")


def gpu_lock(uuid: str) -> Path:
    """The lock file of a GPU: the same for every user, container and run of this host, hence not in a folder that
    settings can move.

    Side effect: makes the folder, which containers/run.sh shares with the containers that it starts.
    """
    with contextlib.suppress(FileExistsError):
        GPU_LOCKS.mkdir()
        GPU_LOCKS.chmod(0o1777)
    return GPU_LOCKS / f"{uuid}.lock"
