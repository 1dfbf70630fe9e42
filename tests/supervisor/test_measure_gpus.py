"""Several GPUs of one host: whole blocks go round them, only as many as the configuration asks for."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
from bakeoff import host, locks
from bakeoff.core.protocols import block_order
from bakeoff.errors import InputError
from bakeoff.runs.block_run import BlockJournals, settings_of
from bakeoff.schema.plan import Plan
from bakeoff.supervisor.surveillance import Surveillance
from support.measure_runs import make_run, plan_of


def plan_with(folder: Path, gpus: int, monkeypatch: pytest.MonkeyPatch, found: int = 2) -> tuple[Plan, Path]:
    run = make_run(folder, {"honest": None})
    uuids = [SimpleNamespace(uuid=f"GPU-{letter}", capability="9.0") for letter in "abcd"[:found]]
    monkeypatch.setattr(host, "probe", lambda: SimpleNamespace(gpus=uuids))
    return plan_of(run).model_copy(update={"backend": "sm_90a", "gpus": gpus, "blocks": 4}), run


def test_blocks_alternate_between_the_gpus_that_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, run = plan_with(tmp_path, 2, monkeypatch)
    settings = [settings_of(plan, run, block) for block in range(4)]
    assert [setting.gpu for setting in settings] == ["GPU-a", "GPU-b", "GPU-a", "GPU-b"]
    # Blocks that run at the same time must not share what a worker writes to.
    assert len({setting.scratch for setting in settings}) == 4


def test_one_gpu_is_used_where_one_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, run = plan_with(tmp_path, 1, monkeypatch)
    assert {settings_of(plan, run, block).gpu for block in range(4)} == {"GPU-a"}


def test_more_gpus_than_the_host_has_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, run = plan_with(tmp_path, 3, monkeypatch)
    with pytest.raises(InputError, match="3 are asked for, this host has 2"):
        settings_of(plan, run, 0)


def test_the_manifest_says_which_gpu_a_block_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, run = plan_with(tmp_path, 2, monkeypatch)
    for block, gpu in ((0, "GPU-a"), (1, "GPU-b")):
        journals = BlockJournals(run, plan, block, [], False, print)
        assert journals.manifest({}).gpu == gpu
        journals.close()


@pytest.mark.parametrize("participants", [4, 5, 10])
def test_the_order_is_balanced_over_blocks(participants: int) -> None:
    names = [f"solution_{number}" for number in range(participants)]
    cycle = participants * (1 + participants % 2)
    orders = [block_order("run", block, names) for block in range(cycle)]
    places = Counter((name, place) for order in orders[:participants] for place, name in enumerate(order))
    neighbours = Counter(pair for order in orders for pair in pairwise(order))
    assert len(places) == participants**2 and set(places.values()) == {1}
    assert len(neighbours) == participants * (participants - 1) and len(set(neighbours.values())) == 1
    assert orders[0] == block_order("run", 0, names) != names and block_order("other", 0, names) != orders[0]


HOLDS = "import fcntl, os, sys, time; fcntl.flock(os.open(sys.argv[1], 0), 2); print(flush=True); time.sleep(60)"


def test_a_worker_that_holds_the_lock_of_the_gpu_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "GPU_LOCKS", tmp_path)
    path, told = locks.gpu_lock("GPU-0"), list[str]()
    path.touch()
    holder = subprocess.Popen([sys.executable, "-c", HOLDS, str(path)], stdout=subprocess.PIPE)
    assert holder.stdout and holder.stdout.readline()
    device = Surveillance(MagicMock(gpu="GPU-0", lock_clocks_mhz=None, tell=told.append), MagicMock())
    device.take()
    device.close()
    assert holder.wait(10) == -signal.SIGKILL and "ended for holding its lock: " in told[0]
