"""The verbs `image` (what the lock says of an image) and `preflight` (can it run here?)."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from bakeoff.containers import lock
from bakeoff.containers import preflight as checks
from bakeoff.files import PROJECT_ROOT


def image_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="an image of containers/images.lock.yaml (default: list them)")
    parser.add_argument(
        "--sbom",
        metavar="DIR",
        type=Path,
        help="write the CycloneDX bill of materials of the local image bakeoff-NAME there",
    )


def image(args: argparse.Namespace) -> int:
    images = lock.load()
    if args.name is None:
        for name, entry in images.images.items():
            print(f"{name:18} {lock.reference(name, entry) or 'not built yet'}\n{'':18} {entry.purpose}")
        return 0
    entry = images.image(args.name)
    if args.sbom:
        from bakeoff.containers import sbom

        print(sbom.write(args.name, entry, args.sbom))
        return 0
    for field, value in entry.model_dump(exclude={"components"}).items():
        print(f"{field:14} {', '.join(value) if isinstance(value, list) else value}")
    print(f"{'reference':14} {lock.reference(args.name, entry)}")
    for part in entry.components:
        print(f"{'component':14} {part.name} {part.version}: {part.state} ({part.where})")
    return 0


def preflight_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", nargs="?", help="image to check for (default: the one that this process runs in)")
    parser.add_argument("--gpu", action="store_true", help="the container is started with a GPU")


def preflight(args: argparse.Namespace) -> int:
    running = os.environ.get("BAKEOFF_IMAGE")
    name = args.image or running or lock.image_for("cpu")
    if running:
        checks.inside(name, gpu=args.gpu or None)
    else:
        checks.before(name, gpu=args.gpu)
        attested = subprocess.run([PROJECT_ROOT / "containers/image.sh", "attested", name], check=False)
        if attested.returncode:
            return attested.returncode
    print(f"preflight: image {name} can run here", file=sys.stderr)
    return 0
