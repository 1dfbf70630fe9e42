"""Confinement of a worker: what the kernel refuses, what is noted, and that a child dies with its parent."""

from __future__ import annotations

import os
import re
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bakeoff.core import confine
from bakeoff.core.confine import landlock_version
from bakeoff.core.syscalls import ARCHITECTURES, CLONE3, OPENAT2, SystemCalls
from bakeoff.core.worker.__main__ import map_slots
from bakeoff.core.worker.sandbox import AuditHook
from bakeoff.processes import children
from bakeoff.processes.children import Slots, descendants
from bakeoff.schema.outcomes import Reason
from support.measure_runs import environment

landlock = pytest.mark.skipif(
    landlock_version() == 0, reason="this kernel has no Landlock (Linux 5.13 or later, enabled at boot)"
)


def confined(tmp_path: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process that may write to tmp_path/own only."""
    (tmp_path / "own").mkdir()
    (tmp_path / "file").write_text("before")
    head = (
        "import os, sys; from pathlib import Path; from bakeoff.core.confine import confine\nroot = "
        "Path(sys.argv[1])\nprint(confine([root / 'own']))\n"
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
        "os.chmod(root / 'file', 0o666)",
        "os.utime(root / 'file')",
        "os.setxattr(root / 'file', 'user.note', b'1')",
        "os.chown(root / 'file', os.getuid(), os.getgid())",
        "os.fchmod(os.open(root / 'file', os.O_RDONLY), 0o666)",
        "import resource; resource.prlimit(os.getppid(), resource.RLIMIT_FSIZE, (0, 0))",
        "os.sched_setaffinity(os.getppid(), {0})",
        "os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)",
        "os.setpriority(os.PRIO_PROCESS, 0, 0)",
        "os.pidfd_open(os.getppid())",
        "import fcntl; fcntl.fcntl(os.open(root / 'file', os.O_RDONLY), 1024, fcntl.F_RDLCK)",
        "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
        "import socket; socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)",
        "import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
        "import socket; socket.socket(socket.AF_UNIX).connect('/dev/log')",
        "import ctypes; libc = ctypes.CDLL(None, use_errno=True)\n"
        "if libc.shmget(1, 4096, 0o1600) < 0: raise PermissionError(ctypes.get_errno())",
        "import ctypes; libc = ctypes.CDLL(None, use_errno=True)\n"
        "if libc.prctl(1, 0, 0, 0, 0) < 0: raise PermissionError(ctypes.get_errno())",
        "import ctypes; libc = ctypes.CDLL(None, use_errno=True)\n"
        "if libc.syscall(425, 8, 0) < 0: raise PermissionError(ctypes.get_errno())",
        "import ctypes; libc = ctypes.CDLL(None, use_errno=True)\n"
        "if libc.inotify_init1(0) < 0: raise PermissionError(ctypes.get_errno())",
        "import ctypes; libc = ctypes.CDLL(None, use_errno=True)\n"
        "if libc.syncfs(os.open(root, os.O_RDONLY)) < 0: raise PermissionError(ctypes.get_errno())",
        "os.mknod(root / 'own/disk', 0o060600, os.makedev(1, 0))",
        "os.mknod(root / 'own/memory', 0o020600, os.makedev(1, 3))",
        "os.open(root / 'own/shell', os.O_CREAT | os.O_WRONLY, 0o4755)",
        "os.open(root / 'own', os.O_TMPFILE | os.O_WRONLY, 0o2755)",
        "import fcntl; fcntl.fcntl(os.pipe()[0], fcntl.F_SETOWN, os.getppid())",
        "import fcntl; fcntl.fcntl(os.pipe()[0], fcntl.F_SETSIG, 9)",
        "import ctypes; libc = ctypes.CDLL(None, use_errno=True)\n"
        "if libc.open(str(root / 'file').encode(), os.O_WRONLY) < 0: raise PermissionError(ctypes.get_errno())",
    ],
)
def test_the_kernel_refuses_what_reaches_outside(tmp_path: Path, attempt: str) -> None:
    done = confined(tmp_path, attempt)
    assert done.stdout == "[]\n" and done.returncode == 1, done
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


@landlock
def test_an_honest_process_keeps_what_it_needs(tmp_path: Path) -> None:
    code = (
        "import resource, shutil, socket, subprocess, tempfile\n"
        "os.environ['TMPDIR'] = str(root / 'own'); tempfile.tempdir = None\n"
        "child = subprocess.Popen(['sleep', '60']); child.kill(); assert child.wait() == -9\n"
        "if os.fork() == 0: os._exit(0)\n"
        "os.wait()\n"
        "os.mkfifo(root / 'own/pipe'); os.close(os.open(root / 'own/run', os.O_CREAT | os.O_WRONLY, 0o755))\n"
        "import ctypes; os.close(ctypes.CDLL(None).syscall({'x86_64': 257, 'aarch64': 56}[os.uname().machine], -100, "
        "b'/etc/hostname', 0, 0o6777))\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))\n"
        "one, other = socket.socketpair(); one.send(b'x'); assert other.recv(1) == b'x'\n"
        "with tempfile.NamedTemporaryFile() as file: shutil.copyfile('/etc/hostname', root / 'own/copy')\n"
        "subprocess.run(['/bin/sh', '-c', 'echo 1 > $TMPDIR/made'], check=True)\n"
        "import torch; torch.ones(64, 64).matmul(torch.ones(64, 64)); print('done')\n"
    )
    done = confined(tmp_path, code)
    assert done.returncode == 0 and done.stdout == "[]\ndone\n", done


@landlock
def test_one_file_cannot_take_the_whole_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import resource, shutil\n"
        "most, _ = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
        "assert 0 < most <= shutil.disk_usage(root).free // 3, most\n"
        "os.truncate(os.open(root / 'own/big', os.O_RDWR | os.O_CREAT), most + 1)\n"
    )
    done = confined(tmp_path, code)
    assert "File too large" in done.stderr, done


def test_a_missing_wall_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confine, "_limit_files", lambda folders: None)
    monkeypatch.setattr(confine, "landlock_version", lambda: 0)
    monkeypatch.setattr(confine.platform, "machine", lambda: "riscv64")
    writes, calls = confine.confine([])
    assert writes.startswith("writes are not confined: this kernel has no Landlock")
    assert calls == "system calls are not filtered: the rules are written for x86_64 and aarch64, this is riscv64"


def test_without_a_scope_for_signals_the_filter_refuses_them() -> None:
    for calls in ARCHITECTURES.values():
        kill = calls.signals[0]
        assert answer(calls, kill, 8, scoped=False) == REFUSE and answer(calls, kill, 7, scoped=False) == ALLOW
        assert answer(calls, kill, 8, scoped=True) == ALLOW


ALLOW, REFUSE, NOT_THERE, KILL = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000


def answer(calls: SystemCalls, number: int, *arguments: int, scoped: bool = True, audit: int | None = None) -> int:
    """What the filter of a processor says to a system call, by a machine for the instructions that it uses."""
    data = struct.pack("=iIQ6Q", number, audit or calls.audit, 0, *arguments, *(0,) * (6 - len(arguments)))
    program, place, value = list(confine._program(calls, 7, scoped)), 0, 0
    while True:
        code, yes, no, constant = program[place]
        place += 1
        if code == 0x06:
            return constant
        if code == 0x20:
            (value,) = struct.unpack_from("=I", data, constant)
        elif code == 0x54:
            value &= constant
        elif code == 0x05:
            place += constant
        else:
            place += yes if (value == constant if code == 0x15 else value >= constant) else no


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_the_filter_of_each_processor_refuses_its_own_numbers_and_no_others(machine: str) -> None:
    calls, write, unix, stream = ARCHITECTURES[machine], {"x86_64": 1, "aarch64": 64}[machine], 1, 1
    for number in (number for group in calls.refused.values() for number in group):
        assert answer(calls, number) == REFUSE
    assert answer(calls, write, 1) == ALLOW and answer(calls, write, audit=1) == KILL
    assert answer(calls, calls.socket, unix, stream) == ALLOW
    assert answer(calls, calls.socket, 2, stream) == answer(calls, calls.socket, unix, 2) == REFUSE
    for namespace in (0x10000000, 0x40000000, 0x00020000):
        assert answer(calls, calls.clone, namespace | 17) == REFUSE
    assert answer(calls, calls.clone, 0x01200011) == ALLOW and answer(calls, calls.clone, 0x8000 | 17) == REFUSE
    assert answer(calls, CLONE3) == answer(calls, OPENAT2) == NOT_THERE
    for option in (1, 36, 62):
        assert answer(calls, calls.prctl, option) == REFUSE and answer(calls, calls.prctl, 15) == ALLOW
    for command in (8, 10, 15, 1024):
        assert answer(calls, calls.fcntl, 3, command) == REFUSE and answer(calls, calls.fcntl, 3, 2) == ALLOW
    for call, place in calls.makes:
        modes = {0o100644: ALLOW, 0o010600: ALLOW, 0o060600: REFUSE, 0o020600: REFUSE, 0o104755: REFUSE}
        for mode, expected in modes.items():
            assert answer(calls, call, *[0] * place, mode) == expected
    for call, place in calls.opens:
        for flags, mode, expected in ((0o101, 0o644, ALLOW), (0o101, 0o4755, REFUSE), (1, 0o4755, ALLOW)):
            assert answer(calls, call, *[0] * place, flags, mode) == expected
    assert answer(calls, calls.prlimit, 7) == ALLOW and answer(calls, calls.prlimit, 8) == REFUSE
    groups = [set(group) for group in calls.refused.values()]
    assert sum(map(len, groups)) == len(set().union(*groups)), "no number twice"


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_every_jump_of_the_filter_stays_inside(machine: str) -> None:
    program = list(confine._program(ARCHITECTURES[machine], 7, scoped=False))
    for place, (code, yes, no, value) in enumerate(program):
        if code in (0x15, 0x35):
            assert 0 <= yes < 256 and 0 <= no < 256 and place + 1 + max(yes, no) < len(program)
        if code == 0x05:
            assert place + 1 + value < len(program)


def test_processes_that_fork_and_end_again_and_again_are_ended() -> None:
    chain = "import os\nfor _ in range(100000):\n    if os.fork(): os._exit(0)\n    os.setsid()\n"
    confine.adopt_orphans()
    before = set(children.children_of(os.getpid()))
    subprocess.Popen([sys.executable, "-c", chain]).wait()
    assert children.end_below(os.getpid(), before)
    time.sleep(0.2)
    assert set(children.children_of(os.getpid())) <= before


def test_without_lists_of_children_the_kernel_is_asked_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    asleep = subprocess.Popen(["sleep", "60"])
    try:
        for lists in (True, False):
            monkeypatch.setattr(children, "LISTS_CHILDREN", lists)
            assert asleep.pid in children.children_of(os.getpid())
    finally:
        asleep.kill()
        asleep.wait()


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
