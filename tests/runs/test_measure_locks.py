"""Locks between processes of different users and containers of one host."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from bakeoff import locks
from bakeoff.errors import InputError
from support.measure_runs import environment

HOLD = (
    "import sys; from pathlib import Path; from bakeoff import locks\nwith locks.hold(Path(sys.argv[1]), 'the "
    "GPU', sys.exit): print('held')"
)


def test_the_lock_of_a_gpu_is_for_every_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "GPU_LOCKS", tmp_path / "locks")
    path = locks.gpu_lock("GPU-1")
    assert locks.gpu_lock("GPU-1") == path and locks.gpu_lock("GPU-2") != path
    with locks.hold(path, "GPU-1", sys.exit):
        pass
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o1777 and stat.S_IMODE(path.stat().st_mode) == 0o666


def test_a_link_in_a_locks_place_is_refused_and_what_it_points_to_is_left_alone(tmp_path: Path) -> None:
    """Anybody may write to the folder of the GPUs' locks, and what a lock file says is overwritten."""
    precious, path = tmp_path / "precious", tmp_path / "locks/GPU-1.lock"
    precious.write_text("kept")
    path.parent.mkdir()
    for target in (precious, tmp_path / "nothing"):
        path.symlink_to(target)
        with pytest.raises(InputError, match=r"GPU-1\.lock"), locks.hold(path, "GPU-1", sys.exit):
            pass
        path.unlink()
    assert precious.read_text() == "kept" and not (tmp_path / "nothing").exists()


def as_nobody(*words: str) -> subprocess.CompletedProcess[str]:
    become = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    return subprocess.run([*become, sys.executable, *words], env=environment(), text=True, capture_output=True)


def test_another_users_lock_is_held_and_waited_for() -> None:
    if shutil.which("setpriv") is None or as_nobody("-c", "import bakeoff.locks").returncode:
        pytest.skip("cannot become another user here, or that one cannot read this checkout")
    path = locks.gpu_lock(f"test-{os.getpid()}")
    try:
        with locks.hold(path, "the GPU", sys.exit):
            refused = as_nobody("-c", HOLD, str(path))
        assert f"process {os.getpid()} on " in refused.stderr, refused.stderr
        path.unlink()
        first = as_nobody("-c", HOLD, str(path))
        assert first.stdout == "held\n", first.stderr
        with locks.hold(path, "the GPU", sys.exit):
            assert path.stat().st_uid == 65534
    finally:
        path.unlink(missing_ok=True)
