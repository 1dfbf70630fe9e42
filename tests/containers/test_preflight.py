"""What a user is told when a container cannot run here."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from bakeoff import locks
from bakeoff.containers import lock, preflight
from bakeoff.containers.preflight import Driver
from bakeoff.errors import InputError
from bakeoff.files import PROJECT_ROOT, sha256_bytes

DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
CU130 = lock.load().images["cu130"]
CPU = lock.load().images["cpu"].model_copy(update={"digest": DIGEST, "repository": None})
GOOD = Driver("580.95.05", "13.0", 1)


def refused(found: str, hint: str):  # type: ignore[no-untyped-def]
    """An InputError whose text names what was found and what to do, in that order."""
    return pytest.raises(InputError, match=f"(?s)found: .*{re.escape(found)}.*to do: .*{re.escape(hint)}")


def write_archive(path: Path, digest: str) -> None:
    content = json.dumps({"manifests": [{"digest": digest}]}).encode()
    member = tarfile.TarInfo("index.json")
    member.size = len(content)
    with tarfile.open(path, "w") as archive:
        archive.addfile(member, io.BytesIO(content))


def test_a_host_of_another_platform_is_refused() -> None:
    preflight.check_platform("linux/amd64", "x86_64")
    with refused("aarch64", "containers/lock.sh"):
        preflight.check_platform("linux/amd64", "aarch64")


def test_an_image_that_nobody_built_is_refused() -> None:
    with refused("no digest", "make image"):
        preflight.check_archive("cu130", CU130.model_copy(update={"digest": None}))


def test_a_missing_archive_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "ARCHIVES", tmp_path)
    with refused("no such file", "make image IMAGE=cpu"):
        preflight.check_archive("cpu", CPU)


def test_an_archive_with_another_digest_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "ARCHIVES", tmp_path)
    path = lock.archive_path("cpu", DIGEST)
    write_archive(path, DIGEST)
    preflight.check_archive("cpu", CPU)
    write_archive(path, OTHER)
    with refused(OTHER, "do not use it"):
        preflight.check_archive("cpu", CPU)
    path.write_bytes(b"no archive")
    with refused("no OCI archive", "make image"):
        preflight.check_archive("cpu", CPU)


def test_a_published_image_needs_no_archive() -> None:
    preflight.check_archive("cpu", CPU.model_copy(update={"repository": "ghcr.io/x/y"}))


@pytest.mark.parametrize(
    ("here", "found", "hint"),
    [
        (Driver(), "no NVIDIA driver", "nvidia-container-toolkit"),
        (Driver("580.95.05", "13.0", 0), "no GPU is visible", "CUDA_VISIBLE_DEVICES"),
        (Driver("570.172.08", "12.8", 1), "driver 570.172.08, which offers CUDA 12.8", "update the host's driver"),
    ],
)
def test_a_gpu_that_cannot_serve_is_refused(here: Driver, found: str, hint: str) -> None:
    with refused(found, hint):
        preflight.check_gpu("cu130", CU130, here, gpu=True)
    preflight.check_gpu("cu130", CU130, here, gpu=False)


def test_a_good_driver_serves_and_an_image_without_cuda_takes_no_gpu() -> None:
    preflight.check_gpu("cu130", CU130, GOOD, gpu=True)
    preflight.check_gpu("cu130", CU130, Driver("580", "13.0", 1), gpu=True)
    with refused("a GPU is asked for", "cu130"):
        preflight.check_gpu("cpu", CPU, GOOD, gpu=True)


def test_the_hosts_python_must_not_leak_in(tmp_path: Path) -> None:
    own = [preflight.PREFIX / "lib", PROJECT_ROOT / "workflow"]
    preflight.check_python(preflight.PREFIX, own, "1")
    with refused("/usr/local", "--cleanenv"):
        preflight.check_python(Path("/usr/local"), own, "1")
    with refused(str(tmp_path), "without PYTHONPATH"):
        preflight.check_python(preflight.PREFIX, [*own, tmp_path], "1")
    with refused("PYTHONNOUSERSITE", "--cleanenv"):
        preflight.check_python(preflight.PREFIX, own, "")


def test_an_image_of_other_locks_is_refused(tmp_path: Path) -> None:
    built = tmp_path / "locks.sha256"
    built.write_text(sha256_bytes(b"".join((PROJECT_ROOT / name).read_bytes() for name in CPU.locks)) + "\n")
    preflight.check_locks("cpu", CPU, built)
    built.write_text("0" * 64)
    with refused("000000000000", "make image record-image IMAGE=cpu"):
        preflight.check_locks("cpu", CPU, built)


def test_the_verb_refuses_a_gpu_on_a_host_without_one() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bakeoff", "preflight", "cpu", "--gpu"],
        env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT / "workflow")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "to do:" in done.stderr and "Traceback" not in done.stderr


def run_script(
    tmp_path: Path,
    *words: str,
    runtime: str | None,
    root: Path = PROJECT_ROOT,
    skopeo: str = "exit 1",
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    """containers/run.sh of a checkout, with a runtime of the test's own on PATH, and no other."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("bash", "sh", "dirname", "awk", "grep", "id", "tr", "paste", "realpath", "cat", "mkdir"):
        (folder / tool).symlink_to(f"/usr/bin/{tool}")
    for name, script in (("docker", runtime), ("skopeo", skopeo)):
        if script is not None:
            (folder / name).write_text(f"#!/bin/sh\n{script}\n")
            (folder / name).chmod(0o755)
    return subprocess.run(
        [str(root / "containers/run.sh"), *words],
        env={"PATH": str(folder), **environment},
        capture_output=True,
        text=True,
    )


def test_run_without_a_container_runtime_says_so(tmp_path: Path) -> None:
    done = run_script(tmp_path, "cpu", "true", runtime=None)
    assert done.returncode == 2 and "neither podman nor docker" in done.stderr


def test_run_of_an_unknown_image_names_the_known_ones(tmp_path: Path) -> None:
    done = run_script(tmp_path, "cu12", "true", runtime="exit 0")
    assert done.returncode == 2 and "cpu cu130 cu130-profile published-2026-02" in done.stderr


def test_run_without_the_image_says_how_to_build_it(tmp_path: Path) -> None:
    done = run_script(tmp_path, "published-2026-02", "true", runtime='[ "$1" = image ] && exit 1; exit 0')
    assert done.returncode == 2 and "make image IMAGE=published-2026-02" in done.stderr


def locked_checkout(tmp_path: Path) -> tuple[Path, str]:
    """A checkout with an archive of the locked CPU image, DIGEST, and the name that this image has in a runtime's
    store."""
    root = tmp_path / "checkout"
    shutil.copytree(PROJECT_ROOT / "containers", root / "containers")
    path = root / "containers/images.lock.yaml"
    entry, rest = path.read_text().split("  cu130:", 1)
    entry = re.sub(r"    digest: .*", f"    digest: {DIGEST}", re.sub(r"repository: .*", "repository: null", entry))
    path.write_text(f"{entry}  cu130:{rest}")
    short = "a" * 12
    (root / ".cache/images").mkdir(parents=True)
    (root / f".cache/images/cpu-{short}.tar").write_text("")
    return root, f"localhost/bakeoff-cpu:{short}"


STORE = 'case $1 in image) grep -qx -- "$3" {store} ;; *) echo "$@" ;; esac'


def test_a_local_image_of_another_digest_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("localhost/bakeoff-cpu\nlocalhost/bakeoff-cpu:latest\n")
    root, _ = locked_checkout(tmp_path)
    (archive,) = (root / ".cache/images").glob("*.tar")
    archive.unlink()
    done = run_script(tmp_path, "cpu", "true", root=root, runtime=STORE.format(store=tmp_path / "store"))
    assert done.returncode == 2 and done.stdout == ""
    assert f"no image with the digest {DIGEST}" in done.stderr and "make record-image IMAGE=cpu" in done.stderr


def test_docker_gets_the_locked_image_from_its_archive_once(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.touch()
    root, image = locked_checkout(tmp_path)
    copy = f'echo "$@" >&2; echo "${{4#docker-daemon:}}" >> {store}'
    done = run_script(tmp_path, "cpu", "true", root=root, runtime=STORE.format(store=store), skopeo=copy)
    assert done.returncode == 0 and f"docker-daemon:{image}" in done.stderr
    assert done.stdout.rstrip().endswith(f"{image} true") and f"BAKEOFF_IMAGE_DIGEST={DIGEST}" in done.stdout
    shutil.rmtree(tmp_path / "bin")
    again = run_script(tmp_path, "cpu", "true", root=root, runtime=STORE.format(store=store), skopeo=copy)
    assert again.returncode == 0 and again.stderr == ""


def test_a_runtime_without_the_nvidia_toolkit_is_explained(tmp_path: Path) -> None:
    refusal = '[ "$1" = image ] && exit 0; echo "could not select device driver" >&2; exit 125'
    done = run_script(tmp_path, "cu130", "true", runtime=refusal, STANDIN="1")
    assert done.returncode == 125 and "install nvidia-container-toolkit" in done.stderr


def test_run_asks_for_no_privileges(tmp_path: Path) -> None:
    runtime = '[ "$1" = image ] && exit 0; echo "$@"'
    done = run_script(tmp_path, "cu130", "make", "reproduce", runtime=runtime, GPUS="0", STANDIN="1")
    for option in (
        "--read-only",
        "--network=none",
        "--cap-drop=all",
        "--security-opt=no-new-privileges",
        "--gpus 0",
        f"--volume {locks.GPU_LOCKS}:{locks.GPU_LOCKS}",
    ):
        assert option in done.stdout
    assert "--privileged" not in done.stdout and "--cap-add" not in done.stdout
    assert done.stdout.rstrip().endswith("make reproduce")
