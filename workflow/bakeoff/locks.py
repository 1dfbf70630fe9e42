"""Locks between processes: one supervisor per block of a run, one measurement per GPU.

Entry point: `hold`. A lock lives as long as the process that holds it, whatever ends that process.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from bakeoff.files import unwritable

GPU_LOCKS = Path("/tmp/bakeoff-gpu-locks")


@contextlib.contextmanager
def hold(path: Path, what: str, waiting: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock file `path`. If another process has it, wait, after saying so through `waiting`.

    It may be one that a killed Snakemake left at work: starting again at once must end well.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _open(path)
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        _acquire(descriptor, what, waiting)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    """The lock file, made if need be, for every user to open. Kernels refuse O_CREAT on another user's file in a folder
    for all."""
    with contextlib.suppress(FileNotFoundError):
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    with contextlib.suppress(PermissionError):  # somebody else made it at this moment
        os.fchmod(descriptor, 0o666)
    return descriptor


def _acquire(descriptor: int, what: str, waiting: Callable[[str], None]) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        waiting(f"waiting for process {owner}, which is at work on {what}")
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def gpu_lock(uuid: str) -> Path:
    """The lock file of a GPU: the same for every user, container and run of this host, hence not in a folder that
    settings can move.

    Side effect: makes the folder, which containers/run.sh shares with the containers that it starts.
    """
    with contextlib.suppress(FileExistsError):
        GPU_LOCKS.mkdir()
        GPU_LOCKS.chmod(0o1777)
    return GPU_LOCKS / f"{uuid}.lock"
