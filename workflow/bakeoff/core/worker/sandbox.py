"""What a worker may touch: it writes to its own folders only, where the kernel can enforce that.

Entry points: `prefer_for_oom_killer`, `limit_memory`, `restrict_writes` (Landlock), `Audit` (what Python code tried).
Each changes the calling process for good. Known limits: Landlock needs Linux 5.13; without it `restrict_writes` returns
why, and only `Audit` and the supervisor's checks of the run's files remain. `Audit` sees Python code, not native code.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import struct
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil

from bakeoff.schema.outcomes import Reason

_libc = ctypes.CDLL(None, use_errno=True)

_PR_SET_NO_NEW_PRIVS = 38
# System call numbers are the same on x86-64 and arm64; linux/landlock.h has the bits.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_EXECUTE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 2, 1 << 3
_WRITE_FILE, _FS_ABI1 = 1 << 1, (1 << 13) - 1  # the 13 rights of the first version
_REFER, _TRUNCATE = 1 << 13, 1 << 14
_SCOPE_ABSTRACT_SOCKET, _SCOPE_SIGNAL = 1 << 0, 1 << 1
_NET_BIND, _NET_CONNECT = 1 << 0, 1 << 1
# Device files that CUDA and the C library write to; nothing else under /dev, where disks are.
DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "nvidia*", "nvidia-caps/*", "dri/*")


def prefer_for_oom_killer() -> None:
    """Of all processes of a run, the kernel shall end an untrusted one first."""
    with contextlib.suppress(OSError):  # some containers do not allow it
        Path("/proc/self/oom_score_adj").write_text("1000")


def limit_memory(share: float = 0.8) -> None:
    """Cap this process's data at a share of the memory that is free now: a huge allocation then fails instead of
    swapping."""
    limit = int(psutil.virtual_memory().available * share)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


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
    scoped = _SCOPE_ABSTRACT_SOCKET | _SCOPE_SIGNAL if version >= 6 else 0
    attributes = struct.pack("=QQQ", rights, network, scoped)[: 8 if version < 4 else 16 if version < 6 else 24]
    ruleset = _libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    if ruleset < 0:
        return f"Landlock refused the rule set: {os.strerror(ctypes.get_errno())}"
    try:
        _allow(ruleset, Path("/"), _EXECUTE | _READ_FILE | _READ_DIR)
        for pattern in DEVICES:
            for device in Path("/dev").glob(pattern):
                if not device.is_dir():
                    _allow(ruleset, device, _READ_FILE | _WRITE_FILE)
        for folder in writable:
            _allow(ruleset, folder, rights)
        _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if _libc.syscall(_RESTRICT_SELF, ruleset, 0) != 0:
            return f"Landlock refused to restrict the worker: {os.strerror(ctypes.get_errno())}"
    finally:
        os.close(ruleset)
    return None


def _allow(ruleset: int, path: Path, rights: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = struct.pack("=Qi", rights, descriptor)
        if _libc.syscall(_ADD_RULE, ruleset, 1, rule, 0) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
    finally:
        os.close(descriptor)


class AuditHook:
    """Notes what a solution's Python code tries while it runs: the attempt counts, whether or not it succeeds.

    `violation` is (reason, sentence) of the first attempt, or None. The hook cannot be removed for the life of the
    process.
    """

    def __init__(self, writable: Iterable[Path]) -> None:
        self._writable = (*(f"{path.resolve()}/" for path in writable), "/dev/")
        self._own = f"/proc/{os.getpid()}/"
        self._active = False
        self._hidden: dict[str, Any] = {}
        self._own_modules: list[str] = []
        self._count = -1  # of modules, when the last call ended
        self.violation: tuple[Reason, str] | None = None
        sys.addaudithook(self._hook)
        sys.meta_path.insert(0, self)  # for importlib.import_module, which raises no audit event

    def __enter__(self) -> AuditHook:
        # Hidden, not only blocked: what is in sys.modules is imported without a question.
        # Looked for again only where modules have come since: going through thousands takes longer than most calls
        # under test.
        if len(sys.modules) != self._count:
            self._own_modules = [name for name in list(sys.modules) if f"{name}.".startswith("bakeoff.")]
        self._hidden = {name: sys.modules.pop(name) for name in self._own_modules if name in sys.modules}
        self._active = True
        return self

    def __exit__(self, *_: object) -> None:
        self._active = False
        sys.modules.update(self._hidden)
        self._count = len(sys.modules)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """Of the import system's finders the first: refuses the harness's own package, leaves the rest to the
        others."""
        if self._active and name.split(".")[0] == "bakeoff":
            self._note(Reason.FORBIDDEN_IMPORT, f"the solution imports {name}")
            raise ImportError("a solution must not import bakeoff: it runs packed, with its own files only")

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if not self._active:
            return
        if event == "open":
            self._open(*args)
        elif event == "import":
            self.find_spec(str(args[0]))
        elif event in ("gc.get_objects", "gc.get_referrers"):
            self._note(Reason.READ_HARNESS, f"the solution calls {event}")

    def _open(self, path: Any, mode: Any, flags: Any) -> None:
        if not isinstance(path, (str, bytes)):
            return
        full = os.path.realpath(os.fsdecode(path))
        if full.startswith("/proc/") and full.endswith("/mem") and not full.startswith(self._own):
            self._note(Reason.READ_HARNESS, f"the solution opens {full}")
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        # With a slash, so that a folder counts as inside itself: a file without a name is opened through its folder.
        if writes and not f"{full}/".startswith(self._writable) and not full.startswith("/proc/self/"):
            self._note(Reason.EDITED_RUN, f"the solution opens {full} for writing")

    def _note(self, reason: Reason, sentence: str) -> None:
        self.violation = self.violation or (reason, sentence)
