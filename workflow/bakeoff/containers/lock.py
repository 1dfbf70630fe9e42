"""containers/images.lock.yaml: the one place where image digests stand.

Entry points: `load`, `Images.image`, `reference` (what a rule's `container:` holds) and `archive_digest`. Nothing is
written and no registry is asked. `containers/lock.bash` reads the same file on hosts without Python packages.
"""

import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, StringConstraints, model_validator

from bakeoff.errors import InputError
from bakeoff.files import PROJECT_ROOT, read_bytes, validate
from bakeoff.schema.base import Part

LOCK_FILE = PROJECT_ROOT / "containers/images.lock.yaml"
ARCHIVES = PROJECT_ROOT / ".cache/images"
PROFILERS = "cu130-profile"  # the image with Nsight; what measures has none

Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Version = Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)*$")]


@dataclass(frozen=True)
class Component:
    """A part of an image and what was done with it."""

    name: str
    version: str
    state: Literal["executed", "imported", "built", "not exercised"]
    where: str
    """On what it was executed, imported or built."""


class Image(Part):
    """One image: what it is made of and where it is."""

    purpose: str
    recipe: str | None = None
    """Image whose Containerfile and Apptainer definition build this one, with other packages; null: those of its own
    folder."""
    base_suite: str | None = None
    """Debian suite that mmdebstrap makes the base of; null for a base from a registry."""
    base_name: str | None = None
    base_tag: str | None = None
    base_index: Digest | None = None
    """Digest of the base's multi-platform index."""
    base_digest: Digest | None = None
    """Digest of the base's manifest for this platform."""
    snapshot: Annotated[str, StringConstraints(pattern=r"^\d{8}T\d{6}Z$")]
    """Moment of the distribution's archive that packages come from, UTC."""
    packages: list[str]
    """Packages of the distribution, with a version where the archive has no snapshots."""
    python: Version
    cuda: Version | None = None
    """CUDA release of the image; null where nothing needs a GPU."""
    min_driver: Version | None = None
    """Oldest NVIDIA driver branch that runs this CUDA release."""
    locks: list[str] = Field(min_length=1)
    """Hash-locked package lists, in the order of installation."""
    repository: str | None
    """Where the image is published; null: nowhere."""
    digest: Digest | None
    """Digest of the image's manifest; null: nobody has built it yet."""
    components: list[Component]

    @model_validator(mode="after")
    def _one_base(self) -> "Image":
        registry = [self.base_name, self.base_tag, self.base_index, self.base_digest]
        if registry.count(None) != (len(registry) if self.base_suite else 0):
            raise ValueError("either base_suite alone, or base_name, base_tag, base_index and base_digest")
        return self


class Images(Part):
    """The whole lock file."""

    schema_: Literal["bakeoff/images/1"] = Field(alias="schema")
    platform: Literal["linux/amd64"]
    """Platform of every image and of every lock."""
    images: dict[str, Image]

    @model_validator(mode="after")
    def _known_recipes(self) -> "Images":
        for name, image in self.images.items():
            if image.recipe and image.recipe not in self.images:
                raise ValueError(f"{name}: recipe {image.recipe} is none of {', '.join(self.images)}")
        return self

    def image(self, name: str) -> Image:
        """One image; an unknown name is an InputError."""
        if name in self.images:
            return self.images[name]
        raise InputError(LOCK_FILE, f"image {name}", f"one of {', '.join(self.images)}", "name one of these")


def load(path: Path = LOCK_FILE) -> Images:
    """Read and validate the lock file; any mistake is an InputError that names the field."""
    try:
        document = yaml.safe_load(read_bytes(path))
    except yaml.YAMLError as error:
        raise InputError(path, f"not YAML: {error}", "the image lock", "restore the file from git") from error
    return validate(document, Images, path)


def image_for(backend: str, profile: bool = False) -> str:
    """The image that runs a backend: without profilers what measures, and apart from it one that has them."""
    return "cpu" if backend == "cpu" else PROFILERS if profile else "cu130"


def archive_path(name: str, digest: str) -> Path:
    """Where an image that was built here lies; the name changes with the digest, so that nothing caches an older
    one."""
    return ARCHIVES / f"{name}-{digest.removeprefix('sha256:')[:12]}.tar"


def reference(name: str, image: Image) -> str | None:
    """What Apptainer is told to run: the published image by its digest, else the archive that was built here; None if
    neither is."""
    if image.digest is None:
        return None
    if image.repository:
        return f"docker://{image.repository}@{image.digest}"
    return f"oci-archive:{archive_path(name, image.digest)}"


def archive_digest(path: Path) -> str:
    """Digest of the one manifest in an OCI archive; an unreadable archive is an InputError."""
    try:
        with tarfile.open(path) as archive:
            member = archive.extractfile("index.json")
            manifests = json.load(member)["manifests"] if member else []
        return str(manifests[0]["digest"])
    except (OSError, KeyError, IndexError, ValueError, tarfile.TarError) as error:
        raise InputError(
            path,
            found=f"no OCI archive ({error})",
            expected="an image archive",
            hint="make image, which writes it anew",
        ) from error
