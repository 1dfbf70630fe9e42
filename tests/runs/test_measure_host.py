"""host.json: what a host is, written only when it changes; locks between processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from bakeoff import host, locks
from bakeoff.files import canonical_json, sha256_bytes
from bakeoff.host import probe, write_host
from bakeoff.schema.host import Host
from support.measure_runs import bakeoff, environment


def test_the_fingerprint_covers_everything_and_is_the_same_twice() -> None:
    found = probe()
    # All but which host of its kind it is.
    left_out = {"fingerprint", "node", "kernel", "cores"}
    assert found.comparable().keys() == found.model_dump(by_alias=True).keys() - left_out
    assert found.fingerprint == sha256_bytes(canonical_json(found.comparable())) == probe().fingerprint
    assert found.packages["torch"] and found.cores == len(os.sched_getaffinity(0))


def test_a_driver_or_package_that_changes_changes_the_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    before = probe().fingerprint
    monkeypatch.setattr(host, "_gpus", lambda: ([], "580.1", "13.0"))
    driver = probe().fingerprint
    monkeypatch.setattr(host, "_packages", lambda: {"torch": "0"})
    assert len({before, driver, probe().fingerprint}) == 3


def test_the_file_is_rewritten_only_when_its_content_changes(tmp_path: Path) -> None:
    path, found = tmp_path / "host.json", probe()
    assert write_host(path, found)
    os.utime(path, (1, 1))
    assert not write_host(path, found) and path.stat().st_mtime == 1
    assert write_host(path, found.model_copy(update={"kernel": "other"})) and path.stat().st_mtime > 1


@pytest.mark.parametrize(
    ("variable", "left"),
    [
        (None, ["GPU-aa1", "GPU-ab2", "GPU-b3"]),
        ("", []),
        ("2,0", ["GPU-b3", "GPU-aa1"]),
        ("GPU-ab", ["GPU-ab2"]),
        ("GPU-a", []),
        ("1,7,0", ["GPU-ab2"]),
        ("0,0", ["GPU-aa1"]),
        ("-1", []),
        (" 1 ,GPU-b3", ["GPU-ab2", "GPU-b3"]),
    ],
)
def test_cuda_visible_devices_decides_which_gpus_are_this_process_s(
    variable: str | None, left: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if variable is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    gpus = [
        host.Gpu(
            name="NVIDIA H100",
            uuid=uuid,
            memory_mib=81559,
            capability="9.0",
            vbios=None,
            power_limit_w=None,
            max_sm_mhz=None,
            max_memory_mhz=None,
            ecc=None,
            mig=None,
        )
        for uuid in ("GPU-aa1", "GPU-ab2", "GPU-b3")
    ]
    assert [gpu.uuid for gpu in host.visible(gpus)] == left


def test_the_verb_writes_and_prints_the_same_document(tmp_path: Path) -> None:
    assert bakeoff("probe", "-o", str(tmp_path / "host.json")).returncode == 0
    printed = json.loads(bakeoff("probe").stdout)
    assert printed == json.loads((tmp_path / "host.json").read_text())
    assert Host.model_validate(printed).schema_ == "bakeoff/host/1"


def test_a_lock_is_held_by_one_process_and_free_again_when_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    code = (
        "import sys, time; from pathlib import Path; from bakeoff.locks import hold\n"
        "with hold(Path(sys.argv[1]), 'it', sys.exit):\n    print('held', flush=True); time.sleep(600)"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], env=environment(), stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout and owner.stdout.readline() == "held\n"
    with (
        pytest.raises(SystemExit, match=f"process {owner.pid} on .*, which is at work on it"),
        locks.hold(path, "it", sys.exit),
    ):
        pass
    owner.kill()
    owner.wait()
    said: list[str] = []
    with locks.hold(path, "it", said.append):
        assert not said
