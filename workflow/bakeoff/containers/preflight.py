"""Checks that a container can run here, before it starts (`before`) and inside it (`inside`): each failure with its
fix.

Nothing is changed. NVML is asked for the driver; no GPU work is done.
"""

import os
import platform
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from bakeoff.containers.lock import LOCK_FILE, Image, archive_digest, archive_path, load
from bakeoff.errors import InputError
from bakeoff.files import PROJECT_ROOT, read_bytes, sha256_bytes

PREFIX = Path("/opt/bakeoff")
# Where containers/run.sh mounts the checkout.
MOUNT = Path("/bakeoff")
MACHINES = {"linux/amd64": "x86_64"}


@dataclass(frozen=True)
class Driver:
    """What NVML says; version is None where there is no driver."""

    version: str | None = None
    cuda: str | None = None
    """Newest CUDA release that the driver offers."""
    gpus: int = 0


def before(name: str, gpu: bool) -> None:
    """On the host, before an image starts. gpu: whether it is started with a GPU (`--nv`, `--gpus all`)."""
    images = load()
    image = images.image(name)
    check_platform(images.platform, platform.machine())
    check_archive(name, image)
    check_gpu(name, image, driver(), gpu=gpu)


def inside(name: str, gpu: bool | None = None) -> None:
    """In a running container of an image: its Python, its locks and its GPU. gpu: None checks the driver where there is
    one."""
    images = load()
    image = images.image(name)
    check_platform(images.platform, platform.machine())
    check_python(Path(sys.prefix), [Path(entry) for entry in sys.path if entry], os.environ.get("PYTHONNOUSERSITE", ""))
    check_locks(name, image, PREFIX / "locks.sha256")
    here = driver()
    check_gpu(name, image, here, gpu=here.version is not None and image.cuda is not None if gpu is None else gpu)


def check_platform(expected: str, machine: str) -> None:
    """The images and locks are of one platform."""
    if machine != MACHINES[expected]:
        raise InputError(
            LOCK_FILE,
            found=f"a host with {machine}; images and package locks are for {expected}",
            expected=f"a host with {MACHINES[expected]}",
            hint="run on such a host; for another platform, lock the packages for it (containers/lock.sh) and add its "
            "images",
        )


def check_archive(name: str, image: Image) -> None:
    """An image that is not published must lie here, with the locked digest."""
    if image.digest is None:
        raise InputError(
            f"{LOCK_FILE}: {name}",
            found="no digest: this image has not been built",
            expected="a digest, and a repository or an archive to take it from",
            hint=f"make image record-image IMAGE={name}",
        )
    if image.repository:
        return  # the registry's client verifies the digest
    archive = archive_path(name, image.digest)
    if not archive.is_file():
        raise InputError(
            archive,
            found="no such file, and the image is published nowhere",
            expected=f"the archive of {image.digest}",
            hint=f"make image IMAGE={name}; if its digest differs (newer Debian packages), also make record-image "
            f"IMAGE={name}",
        )
    found = archive_digest(archive)
    if found != image.digest:
        raise InputError(
            archive,
            found=f"digest {found}",
            expected=f"{image.digest}, as {LOCK_FILE.name} says",
            hint=f"delete the file and run make image IMAGE={name}; do not use it",
        )


def check_gpu(name: str, image: Image, here: Driver, gpu: bool) -> None:
    """A GPU is asked for, and the driver runs the image's CUDA."""
    if not gpu:
        return
    where = f"image {name}"
    if image.cuda is None or image.min_driver is None:
        raise InputError(where, "a GPU is asked for", "an image with CUDA", "use cu130, or leave --nv / --gpus out")
    if here.version is None:
        raise InputError(
            where,
            found="no NVIDIA driver answers",
            expected="a GPU that this process can reach",
            hint="on the host: `nvidia-smi` must list the GPU. In a container: start it with --nv (Apptainer), --gpus "
            "all (Docker, after "
            "installing nvidia-container-toolkit and `nvidia-ctk runtime configure`) or --device nvidia.com/gpu=all "
            "(Podman, after "
            "`nvidia-ctk cdi generate`). Without a GPU, use the image cpu",
        )
    if here.gpus == 0:
        raise InputError(
            where,
            found=f"driver {here.version}, but no GPU is visible",
            expected="at least one GPU",
            hint="check CUDA_VISIBLE_DEVICES and NVIDIA_VISIBLE_DEVICES, and that the job was given a GPU",
        )
    if _numbers(here.version) < _numbers(image.min_driver):
        raise InputError(
            where,
            found=f"driver {here.version}, which offers CUDA {here.cuda}",
            expected=f"driver {image.min_driver} or later, for the image's CUDA {image.cuda}",
            hint="update the host's driver (the image cannot bring one), or run an image with an older CUDA",
        )


def check_python(prefix: Path, path: list[Path], no_user_site: str) -> None:
    """The interpreter and every module come from the image or the checkout, never from the host."""
    if prefix != PREFIX:
        raise InputError(
            "the container's Python",
            found=f"an interpreter of {prefix}",
            expected=f"the image's own, {PREFIX}",
            hint="start the container with --cleanenv (Apptainer), and do not set BAKEOFF_PYTHON or PATH from outside",
        )
    own = (prefix, PROJECT_ROOT, MOUNT, *(Path(sysconfig.get_path(kind)) for kind in ("stdlib", "platstdlib")))
    for entry in path:
        if entry.exists() and not any(entry.is_relative_to(place) for place in own):
            raise InputError(
                "the container's Python",
                found=f"modules from {entry}, which is not part of the image",
                expected=f"modules from {PREFIX} and {PROJECT_ROOT} only",
                hint="start the container with --cleanenv (Apptainer) and without PYTHONPATH",
            )
    if not no_user_site:
        raise InputError(
            "the container's Python",
            found="PYTHONNOUSERSITE is not set, so packages of the host's home folder may be found first",
            expected="the image's own setting",
            hint="start the container with --cleanenv (Apptainer)",
        )


def check_locks(name: str, image: Image, built: Path) -> None:
    """The image was built from the locks of this checkout."""
    found = read_bytes(built).decode().strip()
    expected = sha256_bytes(b"".join(read_bytes(PROJECT_ROOT / lock) for lock in image.locks))
    if found != expected:
        raise InputError(
            f"image {name}",
            found=f"built from package locks with sha256 {found[:12]}",
            expected=f"{expected[:12]}, the locks of this checkout ({', '.join(image.locks)})",
            hint=f"make image record-image IMAGE={name}, or check out the commit that the image belongs to",
        )


def driver() -> Driver:
    """The NVIDIA driver of this host, as far as this process sees it."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return Driver()
    try:
        cuda = pynvml.nvmlSystemGetCudaDriverVersion_v2()
        return Driver(
            version=pynvml.nvmlSystemGetDriverVersion(),
            cuda=f"{cuda // 1000}.{cuda % 1000 // 10}",
            gpus=pynvml.nvmlDeviceGetCount(),
        )
    finally:
        pynvml.nvmlShutdown()


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]
