"""Bill of materials of a built image, CycloneDX 1.6 in JSON: every Debian or Ubuntu package and every Python
distribution in it.

The list is taken from the image itself (`podman run`), not from the locks, so that it also shows what the base brought
along. The same image gives the same bytes.
"""

import json
import subprocess
import uuid
from datetime import UTC, datetime
from pathlib import Path

from cyclonedx.model import Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from bakeoff.containers.lock import Image
from bakeoff.errors import InputError
from bakeoff.files import write_atomic

LIST = (
    "dpkg-query -W -f '${Package} ${Version} ${Architecture}\\n'; echo; "
    "site=$(echo /opt/bakeoff/lib/python3*/site-packages); "
    # Packages of a version of their own stand in folders of site-packages.
    "beside=$(ls -d $site/*/*.dist-info 2>/dev/null | sed 's|/[^/]*$||' | sort -u | sed 's/^/--path /'); "
    "/opt/bakeoff/bin/pip list --disable-pip-version-check --format json --path $site $beside"
)


def write(name: str, image: Image, folder: Path) -> Path:
    """Write folder/NAME.cdx.json for the local image `bakeoff-NAME`; returns the path."""
    tag = f"localhost/bakeoff-{name}"
    digest = _output("podman", "image", "inspect", "--format", "{{.Digest}}", tag).strip()
    system, _, python = _output("podman", "run", "--rm", "--network=none", tag, "sh", "-c", LIST).rpartition("\n\n")
    release = _output("podman", "run", "--rm", "--network=none", tag, "sh", "-c", ". /etc/os-release; echo $ID")
    parts = [_system_package(line, release.strip()) for line in system.splitlines()]
    parts += [_distribution(entry) for entry in json.loads(python)]
    path = folder / f"{name}.cdx.json"
    write_atomic(path, render(name, image, digest, parts))
    return path


def render(name: str, image: Image, digest: str, parts: list[Component]) -> bytes:
    """The document; its time is the package snapshot's and its serial number follows from the digest."""
    subject = Component(
        name=f"bakeoff-{name}",
        type=ComponentType.CONTAINER,
        version=digest,
        bom_ref=digest,
        properties=[Property(name="base", value=image.base_digest or f"Debian {image.base_suite}")],
    )
    bom = Bom(
        components=parts,
        serial_number=uuid.uuid5(uuid.NAMESPACE_OID, digest),
        metadata=BomMetaData(
            component=subject, timestamp=datetime.strptime(image.snapshot, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        ),
    )
    bom.register_dependency(subject, parts)
    return (JsonV1Dot6(bom).output_as_string(indent=1) + "\n").encode()


def _system_package(line: str, distribution: str) -> Component:
    name, version, architecture = line.split()
    url = PackageURL("deb", distribution, name, version, {"arch": architecture})
    return Component(name=name, version=version, type=ComponentType.LIBRARY, purl=url, bom_ref=str(url))


def _distribution(entry: dict[str, str]) -> Component:
    url = PackageURL("pypi", None, entry["name"].lower().replace("_", "-"), entry["version"])
    return Component(
        name=entry["name"], version=entry["version"], type=ComponentType.LIBRARY, purl=url, bom_ref=str(url)
    )


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise InputError(command[0], "no such command", "podman", "apt-get install podman") from error
    if done.returncode:
        raise InputError(
            " ".join(command[:3]),
            found=done.stderr.strip()[-300:],
            expected="the built image",
            hint="make image, then try again",
        )
    return done.stdout
