"""What a solution's Python code tries while it runs.

Entry point: `AuditHook`. What the kernel refuses stands in `core.confine`; known limit: native code is not seen here.
"""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bakeoff.schema.outcomes import Reason

# Events of Python that change a file's metadata; the path is their first argument.
METADATA = ("os.chmod", "os.chown", "os.utime", "os.setxattr", "os.removexattr")


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

    def __enter__(self) -> "AuditHook":
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
        elif event in METADATA and isinstance(args[0], (str, bytes)):
            self._writes(os.path.realpath(os.fsdecode(args[0])), f"calls {event} on")
        elif event in ("gc.get_objects", "gc.get_referrers"):
            self._note(Reason.READ_HARNESS, f"the solution calls {event}")

    def _open(self, path: Any, mode: Any, flags: Any) -> None:
        if not isinstance(path, (str, bytes)):
            return
        full = os.path.realpath(os.fsdecode(path))
        if full.startswith("/proc/") and full.endswith("/mem") and not full.startswith(self._own):
            self._note(Reason.READ_HARNESS, f"the solution opens {full}")
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        if writes and not full.startswith("/proc/self/"):
            self._writes(full, "opens for writing")

    def _writes(self, full: str, how: str) -> None:
        # With a slash, so that a folder counts as inside itself: a file without a name is opened through its folder.
        if not f"{full}/".startswith(self._writable):
            self._note(Reason.EDITED_RUN, f"the solution {how} {full}")

    def _note(self, reason: Reason, sentence: str) -> None:
        self.violation = self.violation or (reason, sentence)
