"""Confinement of a worker: what the kernel refuses, what is noted, and that a child dies with its parent."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bakeoff.core.worker.__main__ import map_slots
from bakeoff.core.worker.sandbox import AuditHook, landlock_version
from bakeoff.schema.outcomes import Reason
from bakeoff.supervisor import children, workers
from bakeoff.supervisor.children import Slots, descendants
from support.measure_runs import environment

landlock = pytest.mark.skipif(
    landlock_version() == 0, reason="this kernel has no Landlock (Linux 5.13 or later, enabled at boot)"
)


def confined(tmp_path: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process that may write to tmp_path/own only."""
    (tmp_path / "own").mkdir()
    (tmp_path / "file").write_text("before")
    head = (
        "import os, sys; from pathlib import Path; from bakeoff.core.worker import sandbox\nroot = "
        "Path(sys.argv[1])\nprint(sandbox.restrict_writes([root / 'own']))\n"
    )
    words = [sys.executable, "-c", head + code, str(tmp_path)]
    return subprocess.run(words, env=environment(), text=True, capture_output=True, check=False)


@landlock
@pytest.mark.parametrize(
    "attempt",
    [
        "(root / 'file').write_text('after')",
        "(root / 'new').write_text('')",
        "os.truncate(root / 'file', 0)",
        "(root / 'file').unlink()",
        "os.rename(root / 'file', root / 'own/file')",
        "os.mkdir(root / 'folder')",
        "open(f'/proc/{os.getppid()}/mem', 'rb').read(1)",
        "os.kill(os.getppid(), 0)",
        "import socket; socket.create_connection(('127.0.0.1', 9))",
        "import ctypes; libc = ctypes.CDLL(None, use_errno=True)\n"
        "if libc.open(str(root / 'file').encode(), os.O_WRONLY) < 0: raise PermissionError(ctypes.get_errno())",
    ],
)
def test_the_kernel_refuses_what_reaches_outside(tmp_path: Path, attempt: str) -> None:
    done = confined(tmp_path, attempt)
    assert done.stdout == "None\n" and done.returncode == 1, done
    assert "PermissionError" in done.stderr or "Operation not permitted" in done.stderr, done.stderr
    assert (tmp_path / "file").read_text() == "before" and sorted(path.name for path in tmp_path.iterdir()) == [
        "file",
        "own",
    ]


@landlock
def test_reading_and_writing_inside_still_work_also_for_children(tmp_path: Path) -> None:
    code = (
        "(root / 'own/a').write_text((root / 'file').read_text())\nimport "
        "subprocess\nsys.exit(subprocess.run(['cp', root / 'own/a', root / 'own/b']).returncode)"
    )
    done = confined(tmp_path, code)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "own/b").read_text() == "before"


def test_audit_notes_attempts_inside_its_context_only(tmp_path: Path) -> None:
    audit = AuditHook([tmp_path / "own"])
    (tmp_path / "own").mkdir()
    with audit:
        (tmp_path / "own/file").write_text("allowed")
    (tmp_path / "outside").write_text("not watched now")
    assert audit.violation is None
    with audit, pytest.raises(ImportError):
        import bakeoff.core.moe.reference
    assert audit.violation and audit.violation[0] == Reason.FORBIDDEN_IMPORT
    import bakeoff.core.moe.geometry  # noqa: F401

    other = AuditHook([tmp_path / "own"])
    with other:
        (tmp_path / "outside").write_text("watched")
    assert other.violation and other.violation[0] == Reason.EDITED_RUN and "outside" in other.violation[1]


def test_a_child_dies_with_its_parent(tmp_path: Path) -> None:
    child = (
        "import os, sys, time; from bakeoff.core.messages import tie_to_parent; "
        "tie_to_parent(int(sys.argv[1])); print(os.getpid(), flush=True); time.sleep(600)"
    )
    parent = (
        f"import os, subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}, "
        f"str(os.getpid())], start_new_session=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", parent], env=environment(), stdout=subprocess.PIPE, text=True)
    assert process.stdout
    pid = int(process.stdout.readline())
    assert pid in set(descendants(os.getpid()))
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 10
    while (
        Path(f"/proc/{pid}").exists()
        and " Z " not in Path(f"/proc/{pid}/stat").read_text()
        and time.monotonic() < deadline
    ):
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists() or ") Z" in Path(f"/proc/{pid}/stat").read_text()


def test_nobody_can_shrink_the_shared_memory_under_a_reader() -> None:
    slots = Slots(2, 5000)
    assert slots.size % 4096 == 0 and slots.free == [0, 1]
    for size in (0, slots.size, 1 << 30):
        with pytest.raises(PermissionError):
            os.ftruncate(slots.descriptor, size)
    slots.close()


def test_processes_of_a_cell_are_looked_up_once_however_many_workers_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each look reads a file for every process of the host, while the GPU has nothing to do."""
    looks: list[int] = []
    tree = {os.getpid(): [], 10: [], 11: [], 12: []}
    monkeypatch.setattr(workers, "process_tree", lambda: looks.append(1) or tree)
    monkeypatch.setattr(children, "process_tree", lambda: looks.append(1) or tree)
    crew: Any = object.__new__(workers.Workers)
    crew.sessions = [SimpleNamespace(child=SimpleNamespace(pid=pid)) for pid in (10, 11, 12)]
    crew._own = set()
    assert crew.left_processes(crew.sessions[0]) == ""
    assert len(looks) == 1


def test_outputs_have_their_memory_before_the_first_cell() -> None:
    slots = Slots(2, 1 << 20)
    try:
        with map_slots(slots.descriptor):
            maps = Path("/proc/self/smaps").read_text()
            place = maps[maps.index("bakeoff-outputs") :]
            assert re.search(r"Rss: +(\d+) kB", place).group(1) == "2048"  # type: ignore[union-attr]
    finally:
        slots.close()


def test_the_harness_is_hidden_during_each_call_also_what_it_has_loaded_since() -> None:
    code = (
        "import sys, types, bakeoff.files\n"
        "from bakeoff.core.worker.sandbox import AuditHook\n"
        "audit = AuditHook([])\n"
        "for fresh in ('bakeoff.first', 'bakeoff.second', None, 'bakeoffs'):\n"
        "    if fresh:\n"
        "        sys.modules[fresh] = types.ModuleType(fresh)\n"
        "    with audit:\n"
        "        seen = [name for name in sys.modules if name.startswith('bakeoff')]\n"
        "    print(seen, 'bakeoff.files' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), text=True, capture_output=True, check=True)
    assert done.stdout.splitlines() == ["[] True", "[] True", "[] True", "['bakeoffs'] True"]
