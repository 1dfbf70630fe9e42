"""A user namespace of a process's own, and one for the system's shared memory and queues: it keeps its user, and beside
its siblings it is a stranger.

Entry point: `enter`. What that is worth where Landlock is missing: the kernel lets nobody read, write or trace a
process of another user namespace than its own or one below it, so that memory, environment and open files of the other
workers and of the supervisor are out of reach; and where the harness is root, its workers have no right of root. Known
limit: signals between processes of one user stay allowed; Landlock and seccomp keep those inside.
"""

import ctypes
import os
import struct
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_NEW_USER, _NEW_IPC = 0x10000000, 0x08000000  # linux/sched.h
_NO_NEW_PRIVS = 38  # linux/prctl.h
_CAPABILITY_VERSION = 0x20080522  # linux/capability.h
DEVICES = ("nvidia*", "nvidia-caps/*", "dri/*")
# The driver makes this file when it is first used, with a right of root that a namespace takes away.
MADE_LATE = Path("/dev/nvidia-uvm")
_MOST = 500  # bytes of a reason


def enter(readable: Iterable[str], writable: Iterable[str], gpu: bool) -> str | None:
    """Leave the user namespace of whoever started this process; returns None, or why it stays there.

    A child tries first: what this process can read in `readable` (files, or folders with all that is in them), write in
    `writable` and open of a GPU's device files must stay so. Irreversible; to be called before there are threads.
    """
    if os.environ.get("BAKEOFF_UNCONFINED"):
        return "switched off by BAKEOFF_UNCONFINED"
    if len(list(Path("/proc/self/task").iterdir())) > 1:
        return "the process has threads already"
    if gpu and not MADE_LATE.exists():
        return f"the driver has not made {MADE_LATE} yet"
    devices = [path for pattern in DEVICES for path in Path("/dev").glob(pattern)]
    needed = [(path, os.R_OK) for path in (*_inside(readable), Path(sys.prefix), Path(sys.base_prefix), Path(__file__))]
    needed += [(path, os.R_OK | os.W_OK) for path in (*map(Path, writable), *devices)]
    return _rehearsed([(path, mode) for path, mode in needed if os.access(path, mode)]) or _enter()


def _inside(places: Iterable[str]) -> Iterator[Path]:
    for place in map(Path, places):
        yield place
        yield from place.rglob("*")


def _rehearsed(needed: list[tuple[Path, int]]) -> str | None:
    """What a child finds that enters first; None if it loses nothing."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        said = "a rehearsal failed"
        try:
            refused = _enter()
            lost = [path for path, mode in needed if not os.access(path, mode)]
            said = refused or (f"{lost[0]} would be out of reach" if lost else "")
        finally:
            os.write(writing, said.encode(errors="replace")[:_MOST])
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        said = stream.read().decode(errors="replace")
    os.waitpid(child, 0)
    return said or None


def _enter() -> str | None:
    user, group = os.geteuid(), os.getegid()
    if _libc.unshare(_NEW_USER | _NEW_IPC) != 0:
        return f"the kernel refuses one: {os.strerror(ctypes.get_errno())}"
    try:
        for name, line in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            Path("/proc/self", name).write_text(line)
    except OSError as error:
        return f"the kernel refuses its map: {error.strerror}"
    # It has every right inside and needs none, nor does what it starts.
    _libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    if _libc.capset(struct.pack("=Ii", _CAPABILITY_VERSION, 0), bytes(24)) != 0:
        return f"the kernel keeps its rights: {os.strerror(ctypes.get_errno())}"
    return None
