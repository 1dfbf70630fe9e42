"""Locks and digests: no drift between an input and its lock, every package hashed, one place for digests."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

import pytest
from bakeoff.containers import lock
from bakeoff.errors import InputError
from bakeoff.files import PROJECT_ROOT

INPUTS = sorted(
    path.relative_to(PROJECT_ROOT).as_posix()
    for folder in ("requirements", "containers")
    for path in (PROJECT_ROOT / folder).rglob("*.in")
)
IMAGES = lock.load().images
ENTRY = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;\\]+)", re.MULTILINE)


def input_digest(path: Path) -> str:
    """Digest of a requirements input and of those that it includes."""
    text = path.read_bytes()
    included = re.findall(r"^-r (\S+)$", text.decode(), re.MULTILINE)
    return hashlib.sha256(b"".join([text, *((path.parent / name).read_bytes() for name in included)])).hexdigest()


def locked(name: str) -> dict[str, str]:
    return dict(ENTRY.findall((PROJECT_ROOT / name).read_text()))


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("name", INPUTS)
def test_a_lock_is_of_its_input(name: str) -> None:
    first = (PROJECT_ROOT / name).with_suffix(".lock").read_text().splitlines()[0]
    assert first == f"# input: sha256:{input_digest(PROJECT_ROOT / name)}", f"{name} changed: make lock"


@pytest.mark.parametrize("name", INPUTS)
def test_a_lock_pins_what_its_input_asks_for(name: str) -> None:
    pins = {normal(key): value for key, value in locked(str(Path(name).with_suffix(".lock"))).items()}
    asked = {normal(key): value for key, value in locked(name).items()}
    assert asked.items() <= pins.items()


@pytest.mark.parametrize("name", INPUTS)
def test_every_locked_package_has_a_hash(name: str) -> None:
    text = (PROJECT_ROOT / name).with_suffix(".lock").read_text()
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    assert entries and not [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry]


def test_the_published_locks_date_is_that_of_the_published_run() -> None:
    script = (PROJECT_ROOT / "containers/lock.sh").read_text()
    snapshot = IMAGES["published-2026-02"].snapshot
    assert f"--exclude-newer {snapshot[:4]}-{snapshot[4:6]}-{snapshot[6:8]}" in script


@pytest.mark.parametrize("name", IMAGES)
def test_components_have_the_version_that_is_locked(name: str) -> None:
    image = IMAGES[name]
    pins = {
        normal(key) + " beside it" * ("/beside-" in path): value
        for path in image.locks
        for key, value in locked(path).items()
    }
    parts = {normal(part.name): part.version for part in image.components}
    assert parts, "each image says what was done with its parts"
    wrong = {part: version for part, version in parts.items() if part in pins and pins[part] != version}
    assert not wrong
    assert set(parts) - set(pins) <= {"debian", "python", "nvidia-cuda", "nsight-compute", "nsight-systems", "workflow"}


def test_digests_stand_in_one_place_only() -> None:
    digests = set(re.findall(r"sha256:([0-9a-f]{64})", lock.LOCK_FILE.read_text()))
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=PROJECT_ROOT, capture_output=True, check=True
    ).stdout.decode()
    assert len(digests) >= 4
    for path in (PROJECT_ROOT / name for name in filter(None, listed.split("\0"))):
        if path != lock.LOCK_FILE and path.is_file():
            content = path.read_bytes().decode(errors="ignore")
            assert not [digest for digest in digests if digest in content], path


@pytest.mark.parametrize("name", IMAGES)
def test_the_shells_reader_agrees_with_the_packages(name: str) -> None:
    values = IMAGES[name].model_dump(exclude={"components", "purpose"})
    script = f'source containers/lock.bash; for key in {" ".join(values)}; do echo "$key=$(items {name} "$key")"; done'
    done = subprocess.run(["bash", "-c", script], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    expected = {key: " ".join(value) if isinstance(value, list) else value or "" for key, value in values.items()}
    assert dict(line.split("=", 1) for line in done.stdout.splitlines()) == expected


def test_a_reference_is_the_published_image_else_the_archive_built_here() -> None:
    digest = "sha256:" + "a" * 64
    image = IMAGES["cpu"].model_copy(update={"digest": digest, "repository": None})
    assert lock.reference("cpu", image) == f"oci-archive:{lock.ARCHIVES}/cpu-{'a' * 12}.tar"
    assert (
        lock.reference("cpu", image.model_copy(update={"repository": "ghcr.io/x/y"}))
        == f"docker://ghcr.io/x/y@{digest}"
    )
    assert lock.reference("cpu", image.model_copy(update={"digest": None})) is None


SPOILED = {
    "a digest that is cut": ("digest: sha256:0eee3094", "digest: sha256:", "text that matches"),
    "a misspelt key": ("    snapshot:", "    snapshott:", "snapshot"),
    "two kinds of base": ("    base_suite: bookworm", "    base_suite: bookworm\n    base_name: x", "base_suite alone"),
    "another format": ("bakeoff/images/1", "bakeoff/images/2", "bakeoff/images/1"),
    "no YAML": ("images:", "images: [", "not YAML"),
}


@pytest.mark.parametrize("case", SPOILED)
def test_a_spoiled_lock_file_is_refused(case: str, tmp_path: Path) -> None:
    old, new, message = SPOILED[case]
    text = lock.LOCK_FILE.read_text()
    assert old in text
    path = tmp_path / "images.lock.yaml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=message):
        lock.load(path)


def test_an_unknown_image_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"cpu, cu130, cu130-profile, published-2026-02"):
        lock.load().image("cu12")
