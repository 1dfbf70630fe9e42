"""Locks between processes: one supervisor per block of a run, one measurement per GPU.

Entry points: `hold` and `hold_gpu`. A lock lives as long as the process that holds it, whatever ends that
process. Lock files may lie on a file system that several hosts share, if it has locks.
"""

import contextlib
import errno
import os
import platform
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from bakeoff.errors import InputError
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
        # A soft lock would outlive a killed process, and stop all runs after it.
        owner, lock = _owner(path), FileLock(path, mode=0o666, fallback_to_soft=False)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            waiting(f"waiting for process {owner or _owner(path) or 'unknown'}, which is at work on {what}")
            lock.acquire()
        _own(path)
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
            raise InputError(
                path,
                found=f"a file system without locks ({error.strerror})",
                expected="flock between all hosts that see the folder",
                hint="mount it with locks (Lustre: `-o flock`; NFS: with its lock service), or run from another folder",
            ) from error
        raise unwritable(path, error) from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def hold_gpu(uuid: str, what: str, waiting: Callable[[str], None]) -> Iterator[None]:
    """Hold a GPU, like `hold`: against containers, which share the lock file's folder, and against jobs of a cluster,
    each of which may have a /tmp of its own and shares the host's abstract sockets."""
    with hold(gpu_lock(uuid), what, waiting), socket.socket(socket.AF_UNIX) as name:
        told = False
        while not _bound(name, f"\0bakeoff-gpu-{uuid}"):
            if not told:
                waiting(f"waiting for another job of this host, which is at work on {what}")
            told = True
            time.sleep(0.2)
        yield


def _bound(name: socket.socket, address: str) -> bool:
    """Take an abstract socket's name; whether nobody had it."""
    try:
        name.bind(address)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return False
    return True


def _owner(path: Path) -> str:
    """The process that has the lock, or had it last; empty if there was none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return ""
    with os.fdopen(descriptor, errors="replace") as stream:
        return stream.read(100).strip()


def _own(path: Path) -> None:
    """Name this process in the lock file, for those who wait."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_TRUNC), "w") as stream:
        stream.write(f"{os.getpid()} on {platform.node()}\n")


def gpu_lock(uuid: str) -> Path:
    """The lock file of a GPU: the same for every user, container and run of this host, hence not in a folder that
    settings can move.

    Side effect: makes the folder, which containers/run.sh shares with the containers that it starts.
    """
    with contextlib.suppress(FileExistsError):
        GPU_LOCKS.mkdir()
        GPU_LOCKS.chmod(0o1777)
    return GPU_LOCKS / f"{uuid}.lock"
