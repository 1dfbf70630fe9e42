"""What a process with foreign code may do, as far as the kernel can enforce it: confined for good, before the code
comes.

Entry points: `confine`, `limit_memory`, `prefer_for_oom_killer`, `adopt_orphans`. Two walls: Landlock (writing below
the process's own folders only, no TCP, no signals to and no memory of processes outside) and seccomp, for what Landlock
has no right for: limits, priority and cores of processes, metadata of files, sockets of other kinds, shared memory of
the system, namespaces, and everything that changes the host. `confine` says which wall is missing. Known limit: the
tables of system calls are those of x86-64 and arm64.
"""

import contextlib
import ctypes
import os
import platform
import resource
import shutil
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

from bakeoff.core.syscalls import ARCHITECTURES, CLONE3, OPENAT2, SystemCalls

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_NO_NEW_PRIVS, _PR_SET_CHILD_SUBREAPER, _PR_SET_PDEATHSIG = 38, 36, 1
_PR_SCHED_CORE = 62  # who runs on the other half of a core: siblings would have to leave it
# System call numbers are the same on x86-64 and arm64; linux/landlock.h has the bits.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_EXECUTE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 2, 1 << 3
_WRITE_FILE, _FS_ABI1 = 1 << 1, (1 << 13) - 1  # the 13 rights of the first version
_REFER, _TRUNCATE = 1 << 13, 1 << 14
_SCOPE_ABSTRACT_SOCKET, _SCOPE_SIGNAL = 1 << 0, 1 << 1
_NET_BIND, _NET_CONNECT = 1 << 0, 1 << 1
SCOPES_SIGNALS = 6  # Landlock's first version that keeps signals inside
# Device files that CUDA and the C library write to; nothing else under /dev, where disks are.
DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "nvidia*", "nvidia-caps/*", "dri/*")
# The walls around a worker, and how a sentence begins that says why one does not stand.
WALLS = {
    "Landlock": "writes are not confined",
    "seccomp": "system calls are not filtered",
    "user namespace": "no user namespace of its own",
}
FILE_SHARE, FILE_MOST = 4, 8 << 30  # a file may take this part of the free space, and so many bytes at the most

# Flags of clone that make a namespace: of users, mounts, processes, the network and so on; and the one that makes a
# brother in place of a child, whom nobody would look for below this process.
NAMESPACES, _BROTHER = 0x7E020000, 0x8000
_MAKE_DEVICE = 1 << 6 | 1 << 11  # rights of Landlock: a disk in one's own folder is the host's disk
_DEVICE_MODES = (0o020000, 0o060000)
_CREATES = 0o100 | 0o20000000  # O_CREAT, __O_TMPFILE
_AS_OWNER = 0o6000  # mode bits with which a file runs as its owner, whoever starts it
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050001, 0x80000000  # SECCOMP_RET_*; refused with EPERM
_NOT_THERE = 0x00050026  # ENOSYS: the C library takes `clone` in place of `clone3`, whose flags no filter can see
_SET_MODE_FILTER, _TSYNC = 1, 1


def confine(writable: Iterable[Path]) -> list[str]:
    """Raise both walls around this process, all its threads and all that it starts; returns what is missing of them.

    writable: the only folders below which files may be written. Irreversible.
    """
    folders = list(writable)
    _limit_files(folders)
    if os.environ.get("BAKEOFF_UNCONFINED"):
        return [f"{WALLS[wall]}: switched off by BAKEOFF_UNCONFINED" for wall in ("Landlock", "seccomp")]
    version = landlock_version()
    flaws = {
        WALLS["Landlock"]: restrict_writes(folders),
        WALLS["seccomp"]: filter_calls(scoped=version >= SCOPES_SIGNALS),
    }
    return [f"{what}: {why}" for what, why in flaws.items() if why]


def prefer_for_oom_killer() -> None:
    """Of all processes of a run, the kernel shall end an untrusted one first."""
    with contextlib.suppress(OSError):  # some containers do not allow it
        Path("/proc/self/oom_score_adj").write_text("1000")


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends: whoever leaves a process behind can be named."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def limit_memory(share: float = 0.8) -> None:
    """Cap this process's data at a share of the memory that is free now: a huge allocation then fails instead of
    swapping."""
    limit = int(psutil.virtual_memory().available * share)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _limit_files(writable: list[Path]) -> None:
    """No file larger than a part of the space that is free, and no dump of memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if writable:
        most = min(FILE_MOST, shutil.disk_usage(writable[0]).free // FILE_SHARE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


def landlock_version() -> int:
    """Version of the kernel's Landlock interface; 0 where there is none."""
    return max(0, _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1))


def restrict_writes(writable: Iterable[Path]) -> str | None:
    """Allow writing below the given folders only; no TCP, no signals to and no memory of processes outside.
    Irreversible.

    Returns None if the kernel enforces it, else the reason why not.
    """
    version = landlock_version()
    if version == 0:
        return "this kernel has no Landlock (Linux 5.13 or later, enabled at boot)"
    rights = _FS_ABI1 | (_REFER if version >= 2 else 0) | (_TRUNCATE if version >= 3 else 0)
    network = _NET_BIND | _NET_CONNECT if version >= 4 else 0
    scoped = _SCOPE_ABSTRACT_SOCKET | _SCOPE_SIGNAL if version >= SCOPES_SIGNALS else 0
    attributes = struct.pack("=QQQ", rights, network, scoped)[: 8 if version < 4 else 16 if version < 6 else 24]
    ruleset = _libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    if ruleset < 0:
        return f"Landlock refused the rule set: {_error()}"
    try:
        _allow(ruleset, Path("/"), _EXECUTE | _READ_FILE | _READ_DIR)
        for pattern in DEVICES:
            for device in Path("/dev").glob(pattern):
                if not device.is_dir():
                    _allow(ruleset, device, _READ_FILE | _WRITE_FILE)
        for folder in writable:
            _allow(ruleset, folder, rights & ~_MAKE_DEVICE)
        _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if _libc.syscall(_RESTRICT_SELF, ruleset, 0) != 0:
            return f"Landlock refused to restrict the worker: {_error()}"
    finally:
        os.close(ruleset)
    return None


def _allow(ruleset: int, path: Path, rights: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = struct.pack("=Qi", rights, descriptor)
        if _libc.syscall(_ADD_RULE, ruleset, 1, rule, 0) != 0:
            raise OSError(ctypes.get_errno(), _error(), str(path))
    finally:
        os.close(descriptor)


def filter_calls(scoped: bool) -> str | None:
    """Refuse the system calls of `syscalls` with EPERM, in all threads; signals to other processes too unless Landlock
    keeps them inside (`scoped`). Returns None if the kernel does, else the reason why not. Irreversible."""
    calls = ARCHITECTURES.get(platform.machine())
    if calls is None:
        return f"the rules are written for {' and '.join(ARCHITECTURES)}, this is {platform.machine()}"
    program = b"".join(struct.pack("=HBBI", *instruction) for instruction in _program(calls, os.getpid(), scoped))
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("=HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if _libc.syscall(calls.seccomp, _SET_MODE_FILTER, _TSYNC, header) != 0:
        return f"seccomp refused the filter: {_error()}"
    return None


def _program(calls: SystemCalls, own: int, scoped: bool) -> Iterator[tuple[int, int, int, int]]:
    """The filter in instructions of BPF (code, jump if true, jump if false, constant); own: this process's id."""
    load, jump, equal, at_least, and_, give = 0x20, 0x05, 0x15, 0x35, 0x54, 0x06
    number, architecture, arguments = 0, 4, 16  # offsets in struct seccomp_data
    yield from ((load, 0, 0, architecture), (equal, 1, 0, calls.audit), (give, 0, 0, _KILL))
    yield (load, 0, 0, number)
    if calls.wide is not None:
        yield from ((at_least, 0, 1, calls.wide), (give, 0, 0, _REFUSE))
    for unseen in (CLONE3, OPENAT2):
        yield from ((equal, 0, 1, unseen), (give, 0, 0, _NOT_THERE))
    for refused in (call for group in calls.refused.values() for call in group):
        yield from ((equal, 0, 1, refused), (give, 0, 0, _REFUSE))
    # (system call, argument, mask, values, whether these values are refused, or all others)
    by_argument = (
        (calls.socket, 0, 0xFFFFFFFF, (1,), False),  # AF_UNIX
        (calls.socket, 1, 0xF, (1,), False),  # SOCK_STREAM: without `connect` it reaches nobody
        (calls.prctl, 0, 0xFFFFFFFF, (_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER, _PR_SCHED_CORE), True),
        # typing into terminals, immutable files, and FIOSETOWN and SIOCSPGRP, as F_SETOWN below
        (calls.ioctl, 1, 0xFFFFFFFF, (0x5412, 0x541C, 0x40086602, 0x401C5820, 0x8901, 0x8902), True),
        # F_SETLEASE: others would wait to open the file; F_SETOWN, F_SETSIG, F_SETOWN_EX: the kernel would send any
        # process of the user any signal
        (calls.fcntl, 1, 0xFFFFFFFF, (1024, 8, 10, 15), True),
        (calls.clone, 0, NAMESPACES | _BROTHER, (0,), False),
        *((call, place, 0o170000, _DEVICE_MODES, True) for call, place in calls.makes),
        *((call, place, _AS_OWNER, (0,), False) for call, place in calls.makes),
    )
    others = () if scoped else calls.signals
    own_only = tuple((call, 0, 0xFFFFFFFF, (0, own), False) for call in (calls.prlimit, *others))
    for call, argument, mask, values, refuses in (*by_argument, *own_only):
        count, end = len(values), ((jump, 0, 0, 1), (give, 0, 0, _REFUSE))[0 if refuses else 1 :]
        yield from ((load, 0, 0, number), (equal, 0, 2 + count + len(end), call))
        yield from ((load, 0, 0, arguments + 8 * argument), (and_, 0, 0, mask))
        # A value that is found leads to the refusal behind the jump, or past the refusal.
        yield from ((equal, count - place, 0, value) for place, value in enumerate(values))
        yield from end
    for call, flags in calls.opens:  # the mode counts only where a file is made: else it may be anything
        yield from ((load, 0, 0, number), (equal, 0, 7, call))
        yield from ((load, 0, 0, arguments + 8 * flags), (and_, 0, 0, _CREATES), (equal, 4, 0, 0))
        yield from ((load, 0, 0, arguments + 8 * flags + 8), (and_, 0, 0, _AS_OWNER), (equal, 1, 0, 0))
        yield (give, 0, 0, _REFUSE)
    yield (give, 0, 0, _ALLOW)


def _error() -> str:
    return os.strerror(ctypes.get_errno())
