"""Containerfiles and the Apptainer definition: pinned, unprivileged, and of the same content."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from bakeoff.containers import lock
from bakeoff.files import PROJECT_ROOT
from support.checkout import copy_project

IMAGES = lock.load().images


def containerfile(name: str) -> str:
    return (PROJECT_ROOT / f"containers/{IMAGES[name].recipe or name}/Containerfile").read_text()


def variables(text: str) -> dict[str, str]:
    return dict(re.findall(r"\b([A-Z_]+)=(\S+)", text))


@pytest.mark.parametrize("name", IMAGES)
def test_the_base_and_the_time_come_from_outside(name: str) -> None:
    instructions = re.findall(r"^([A-Z]+) (.*)$", containerfile(name), re.MULTILINE)
    assert instructions[:2] == [("ARG", "BASE"), ("FROM", "${BASE}")]
    assert [words for word, words in instructions if word == "FROM"] == ["${BASE}"]
    assert ("ARG", "SOURCE_DATE_EPOCH") in instructions


@pytest.mark.parametrize("name", IMAGES)
def test_the_user_is_not_root_and_the_environment_is_complete(name: str) -> None:
    text = containerfile(name)
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE)[-1] == "1000:1000"
    given = variables(re.search(r"^ENV (.*?)\nLABEL", text, re.MULTILINE | re.DOTALL).group(1))  # type: ignore[union-attr]
    several = given["BAKEOFF_IMAGE"] == "${IMAGE}"
    assert several or given["BAKEOFF_IMAGE"] == name
    assert several == any(name in (one, image.recipe) for one, image in IMAGES.items() if image.recipe)
    if several:
        script = (PROJECT_ROOT / "containers/image.sh").read_text()
        assert ("ARG", "IMAGE") in [tuple(line.split(" ", 1)) for line in text.splitlines() if line[:3] == "ARG"]
        assert script.count('--build-arg IMAGE="$') == 2, "for Containerfiles and for Apptainer"
    assert given["BAKEOFF_PYTHON"] == "/opt/bakeoff/bin/python" and given["PYTHONNOUSERSITE"] == "1"


@pytest.mark.parametrize("name", IMAGES)
def test_every_lock_of_an_image_is_installed_in_its_order(name: str) -> None:
    text = containerfile(name)
    names = [path.rpartition("/")[2] for path in IMAGES[name].locks]
    assert "setup.sh python " + " ".join(f"/opt/locks/{lock}" for lock in names) in text
    assert all(path in text for path in IMAGES[name].locks)


def test_packages_are_installed_by_hash_and_from_wheels() -> None:
    script = (PROJECT_ROOT / "containers/setup.sh").read_text()
    (install,) = re.findall(r'install="(.*)"', script)
    assert "--require-hashes" in install and "--no-deps" in install
    assert "$install --only-binary=:all:" in script
    # the one exception, by name
    assert set(re.findall(r"^ +entry (\S+) ", script, re.MULTILINE)) == {"connection-pool"}


def test_the_apptainer_definition_has_the_containerfiles_content() -> None:
    definition = (PROJECT_ROOT / "containers/cu130/bakeoff.def").read_text()
    text = containerfile("cu130")
    environment = re.search(r"^%environment(.*?)^%", definition, re.MULTILINE | re.DOTALL).group(1)  # type: ignore[union-attr]
    expected = re.search(r"^ENV (.*?)\nLABEL", text, re.MULTILINE | re.DOTALL).group(1)  # type: ignore[union-attr]
    assert variables(environment.replace("{{ IMAGE }}", "${IMAGE}")) == variables(expected)
    runs = [line.partition("|| ")[2] or line for line in re.findall(r"^RUN (.*)$", text, re.MULTILINE)]
    runs = [re.sub(r'"?\$\{(\w+)\}"?', r"{{ \1 }}", line) for line in runs]
    post = re.search(r"^%post(.*?)^%", definition, re.MULTILINE | re.DOTALL).group(1)  # type: ignore[union-attr]
    assert [line.strip() for line in post.splitlines() if line.strip()] == runs


def test_what_measures_has_no_profiler_and_what_profiles_is_the_same_but_for_them() -> None:
    measures, profiles = IMAGES[lock.image_for("sm_100a")], IMAGES[lock.image_for("sm_100a", profile=True)]
    assert not [package for package in measures.packages if "nsight" in package]
    more = set(profiles.packages) - set(measures.packages)
    assert set(measures.packages) < set(profiles.packages)
    assert sum("nsight" in package for package in more) == 2 and {"libdw1t64", "libelf1t64"} < more
    same = ("base_digest", "base_index", "snapshot", "python", "cuda", "min_driver", "locks")
    assert all(getattr(measures, key) == getattr(profiles, key) for key in same)
    assert profiles.recipe == "cu130" and lock.image_for("cpu", profile=True) == "cpu"


def test_a_profile_apart_is_made_in_the_image_with_profilers_of_the_run_that_bench_makes() -> None:
    """With the verbs that the workflow's rules call, so that the report stays the same but for the profile."""
    done = subprocess.run(
        ["make", "-n", "bench-profile"],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ},
    )
    run = "results/runs/b200"
    assert f"containers/run.sh {lock.image_for('sm_100a', profile=True)} " in done.stdout
    for verb in (
        f"bakeoff profile {run}",
        f"bakeoff analyse {run}",
        f"bakeoff report {run} --home ../../../index.html",
    ):
        assert verb in done.stdout
    assert "--home ../../../index.html" in (PROJECT_ROOT / "workflow/rules/report.smk").read_text()


def test_packages_without_a_dated_archive_name_their_version() -> None:
    for name, image in IMAGES.items():
        for package in image.packages:
            assert not package.startswith("cuda-") or re.fullmatch(r"[a-z0-9-]+=[0-9.]+-\d+", package), (
                f"{name}: {package}"
            )


def test_the_build_context_holds_nothing_but_what_is_copied() -> None:
    assert (PROJECT_ROOT / ".dockerignore").read_text().split() == ["*", "!containers", "!requirements"]


def test_an_image_is_pushed_in_lower_case_under_a_tag_that_says_what_is_inside(tmp_path: Path) -> None:
    made = copy_project(tmp_path / "checkout").root
    cache = made / ".cache/images"
    cache.mkdir(parents=True)
    (cache / "cpu.digest").write_text("sha256:" + "a" * 64)
    skopeo = tmp_path / "skopeo"
    skopeo.write_text('#!/bin/sh\necho "$*" >> "$0.calls"\n')
    skopeo.chmod(0o755)

    def push() -> tuple[str, str]:
        done = subprocess.run(
            [made / "containers/image.sh", "push", "cpu", "ghcr.io/Some-Owner/bakeoff-cpu"],
            env={**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout, Path(f"{skopeo}.calls").read_text().split()[-1]

    said, first = push()
    assert said == f"repository=ghcr.io/some-owner/bakeoff-cpu\ndigest=sha256:{'a' * 64}\n"
    assert re.fullmatch(r"docker://ghcr\.io/some-owner/bakeoff-cpu:\d+\.\d+\.\d+-[0-9a-f]{12}", first)
    with (made / "requirements/dev.lock").open("a") as lock:
        lock.write("# another\n")
    assert push()[1] != first, "an image of other locks has a tag of its own"


def test_a_published_image_is_attested_before_it_is_pulled(tmp_path: Path) -> None:
    made = copy_project(tmp_path / "checkout").root
    lock_file = made / "containers/images.lock.yaml"
    digest = "sha256:" + "b" * 64
    text = re.sub(
        r"(?ms)^(  cu130:.*?    repository:) null\n    digest: null$",
        rf"\1 ghcr.io/owner/bakeoff-cu130\n    digest: {digest}",
        lock_file.read_text(),
    )
    gh = tmp_path / "bin/gh"
    gh.parent.mkdir()
    gh.write_text('#!/bin/sh\necho "$*" >> "$0.calls"\n[ ! -e "$0.refuses" ]\n')
    gh.chmod(0o755)

    def attested(path: str = f"{gh.parent}{os.pathsep}{os.environ['PATH']}") -> tuple[int, str]:
        done = subprocess.run(
            [made / "containers/image.sh", "attested", "cu130"],
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stderr

    assert attested() == (0, ""), "built here: nothing to verify"
    lock_file.write_text(text)
    assert attested() == (0, "cu130: attested by owner\n")
    asked = f"attestation verify oci://ghcr.io/owner/bakeoff-cu130@{digest} --owner owner\n"
    assert Path(f"{gh}.calls").read_text() == asked
    Path(f"{gh}.refuses").touch()
    status, said = attested()
    assert status == 2 and f"no valid attestation of ghcr.io/owner/bakeoff-cu130@{digest}" in said
    gh.unlink()
    if shutil.which("gh") is None:
        assert attested() == (0, "cu130: its attestation was not verified: no gh on PATH\n")
    rule = re.search(r"(?m)^get-image:.*\n(.*)\n", (PROJECT_ROOT / "containers/images.mk").read_text())
    assert rule and rule[1].endswith("image.sh attested $(IMAGE)"), "before anything is pulled"


def test_the_way_to_a_b200_is_the_same_three_commands_wherever_it_stands() -> None:
    blocks = {
        page: [
            text
            for text in re.findall(r"```sh\n(.*?)```", (PROJECT_ROOT / page).read_text(), re.DOTALL)
            if "make get-image" in text
        ]
        for page in ("docs/b200.md", "docs/runner.md", "docs/questions.md")
    }
    assert [len(found) for found in blocks.values()] == [1, 1, 1] and len({found[0] for found in blocks.values()}) == 1
    commands = blocks["docs/b200.md"][0].splitlines()
    assert [command.split()[:2] for command in commands] == [["make", "get-image"], ["git", "clone"], ["make", "bench"]]
    table = (PROJECT_ROOT / "README.md").read_text()
    assert "`make get-image IMAGE=cu130`, `make bench` ([docs/b200.md](docs/b200.md))" in table
