"""The host of a block: what must be alike, what is only recorded, and one GPU for all of a block."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from bakeoff import host, locks
from bakeoff.errors import InputError
from bakeoff.files import canonical_json, read_json, sha256_bytes
from bakeoff.runs import block_host
from bakeoff.runs.block_run import measure_block
from bakeoff.schema.host import Gpu, Host
from bakeoff.schema.sample import Manifest, Spent
from support.measure_runs import make_run, plan_of

PROBED = host.probe()
H100 = Gpu(
    name="NVIDIA H100",
    uuid="GPU-a",
    memory_mib=81559,
    capability="9.0",
    vbios="96",
    power_limit_w=700.0,
    max_sm_mhz=1980,
    max_memory_mhz=2619,
    ecc=True,
    mig=False,
)


def node(**changed: object) -> Host:
    made = PROBED.model_copy(update={"gpus": [H100], "driver": "570.1", "node": "node1", **changed})
    return made.model_copy(update={"fingerprint": sha256_bytes(canonical_json(made.comparable()))})


def other(**changed: object) -> list[Gpu]:
    return [H100.model_copy(update=changed)]


@pytest.mark.parametrize(
    "instance",
    [
        *({"node": "node2"}, {"kernel": "6.9"}, {"cores": 3}),
        *({"gpus": gpus} for gpus in (other(uuid="GPU-b"), [H100, *other(uuid="GPU-b")])),
    ],
)
def test_nodes_of_one_kind_have_one_fingerprint(instance: dict[str, object]) -> None:
    assert node(**instance).fingerprint == node().fingerprint and host.differences(node(**instance), node()) == []


@pytest.mark.parametrize(
    ("difference", "said"),
    [
        ({"driver": "580.2"}, "driver 580.2 instead of 570.1"),
        ({"cpu": "Another CPU"}, "cpu Another CPU instead of"),
        ({"gpus": other(power_limit_w=350.0)}, "GPU power limit w 350.0 instead of 700.0"),
        ({"gpus": other(name="NVIDIA A100")}, "GPU name NVIDIA A100 instead of NVIDIA H100"),
        ({"gpus": []}, "gpus none instead of NVIDIA H100"),
        ({"packages": {**PROBED.packages, "torch": "1.0"}}, "torch 1.0 instead of"),
    ],
)
def test_a_node_that_differs_is_refused_with_its_name_and_what_differs(
    difference: dict[str, object], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path, {"honest": None}, workloads=["T1_o32"])
    plan = plan_of(run).model_copy(update={"host_fingerprint": node().fingerprint})
    host.write_host(run / "host.json", node())
    monkeypatch.setattr(host, "probe", lambda: node(**{"node": "node7", **difference}))
    with pytest.raises(InputError, match=rf"this one \(node7\) is .*{said}"):
        block_host.require_alike(run, plan)


def test_a_block_keeps_its_gpu_and_begins_anew_where_that_is_not_visible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path, {"honest": None})
    plan = plan_of(run).model_copy(update={"backend": "sm_90a"})
    folder = run / "samples/block-00"
    here = node(gpus=[*other(uuid="GPU-b"), H100])
    monkeypatch.setattr(host, "probe", lambda: here)
    assert block_host.gpu_of(run, plan, 0) == "GPU-b" and block_host.begun_on(run, 0) is None
    folder.mkdir(parents=True)
    block_host.write(run, 0, here, "GPU-a")
    assert block_host.gpu_of(run, plan, 0) == "GPU-a" == block_host.begun_on(run, 0)
    assert [gpu.uuid for gpu in read_json(folder / "host.json", Host).gpus] == ["GPU-a"]

    monkeypatch.setattr(host, "probe", lambda: node(gpus=other(uuid="GPU-c"), node="node2"))
    assert block_host.gpu_of(run, plan, 0) == "GPU-c"
    (folder / "honest.jsonl").write_text("finished\n")
    said: list[str] = []
    block_host.set_aside(run, 0, "GPU-a", said.append)
    assert sorted(path.name for path in folder.iterdir()) == ["GPU-a"] and "begins anew" in said[0]
    assert (folder / "GPU-a/honest.jsonl").read_text() == "finished\n"
    assert block_host.begun_on(run, 0) is None and block_host.begun_on(run, 1) is None
    # Of an older run, only the manifest tells.
    spent = Spent(total=0, lock=0, timed=0, judged=0)
    older = Manifest(block=0, order=[], journals={}, outcomes={}, gpu="GPU-a", spent=spent)
    (folder / "manifest.json").write_text(older.model_dump_json(by_alias=True))
    assert block_host.begun_on(run, 0) == "GPU-a"


def test_a_measured_block_says_which_host_it_was(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"honest": None}, workloads=["T1_o32"])
    measure_block(run, 0, tell=lambda text: None)
    found = read_json(run / "samples/block-00/host.json", Host)
    assert found.node and found.gpus == [] and found.fingerprint == plan_of(run).host_fingerprint


def test_a_gpu_is_one_job_s_though_each_job_has_a_tmp_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "GPU_LOCKS", tmp_path / "mine")
    code = (
        "import sys; from pathlib import Path; from bakeoff import locks\n"
        f"locks.GPU_LOCKS = Path({str(tmp_path / 'other')!r})\n"
        "with locks.hold_gpu('test-tmp', 'it', sys.exit): print('taken')"
    )
    with locks.hold_gpu("test-tmp", "it", sys.exit):
        refused = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert refused.returncode == 1 and "another job of this host, which is at work on it" in refused.stderr
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "taken\n"


def test_a_file_system_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno
    import fcntl
    import os

    def missing(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", missing)
    with (
        pytest.raises(InputError, match=r"(?s)a file system without locks.*-o flock"),
        locks.hold(tmp_path / "a.lock", "it", sys.exit),
    ):
        raise AssertionError


def test_a_node_whose_tmp_is_full_says_so_where_its_gpu_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = tmp_path / "tmp"
    full.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "none", full], capture_output=True).returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        (full / "large").write_bytes(bytes(4096))
        monkeypatch.setattr(locks, "GPU_LOCKS", full / "locks")
        with (
            pytest.raises(InputError, match=r"(?s)GPU-a\.lock.*No space left on device.*to do: "),
            locks.hold_gpu("GPU-a", "it", sys.exit),
        ):
            raise AssertionError
    finally:
        subprocess.run(["umount", "--lazy", full], check=True)
