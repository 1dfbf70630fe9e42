"""The images, built and run on this machine. Needs buildah, podman, runc and mmdebstrap (make container-tools) and
minutes, so it is
asked for: `make test-container` builds the CPU image and runs a part of the tests inside it; `make
test-containers-full` builds it twice, runs all tests inside it, and installs the cu130 set on a stand-in base."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from bakeoff.containers import lock
from bakeoff.files import PROJECT_ROOT
from support.checkout import Checkout, copy_project

ASKED = os.environ.get("BAKEOFF_CONTAINER_TESTS", "")
FULL = pytest.mark.skipif(ASKED != "full", reason="takes most of an hour: make test-containers-full")
IMAGE = "localhost/bakeoff-cpu"
HOPPER_ONLY = ("deepgemm_moe", "humming_moe", "triton_grouped_moe")
SETTINGS = {"CONTAINERS_CONF": str(PROJECT_ROOT / "containers/containers.conf")}

pytestmark = [
    pytest.mark.skipif(not ASKED, reason="builds an image: make test-container"),
    pytest.mark.timeout(7200),
]


def call(
    *command: str, cwd: Path = PROJECT_ROOT, check: bool = True, **environment: str
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **SETTINGS, **environment}, capture_output=True, text=True
    )
    assert not check or done.returncode == 0, (
        f"{command}: exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    )
    return done


def podman(*words: str, image: str = IMAGE, check: bool = True) -> subprocess.CompletedProcess[str]:
    """A command in the image as its own user, confined as run.sh does, with this checkout read-only."""
    *options, script = words
    confined = (
        "--rm",
        "--read-only",
        "--network=none",
        "--cap-drop=all",
        "--security-opt=no-new-privileges",
        "--tmpfs=/tmp",
    )
    mounts = ("--volume", f"{PROJECT_ROOT}:/bakeoff:ro")
    return call("podman", "run", *confined, *mounts, *options, image, "sh", "-c", script, check=check)


@pytest.fixture(scope="session")
def digest() -> str:
    """The CPU image, built, here or just before; its digest in the local store."""
    return os.environ.get("BAKEOFF_BUILT_IMAGE") or call("containers/image.sh", "build", "cpu").stdout.split()[-1]


@pytest.fixture
def copy(digest: str, tmp_path: Path) -> Checkout:
    """A copy of the checkout whose lock file names the image that was just built."""
    made = copy_project(tmp_path / "checkout")
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main"], cwd=made.root, check=True)
    subprocess.run(["git", "add", "--all"], cwd=made.root, check=True)
    subprocess.run(
        ["chmod", "-R", "u+w", str(made.root)], check=True
    )  # root has no power over a read-only file in there
    path = made.root / "containers/images.lock.yaml"
    entry, rest = path.read_text().split("  cu130:", 1)
    entry = re.sub(r"repository: .*", f"repository: {IMAGE}", re.sub(r"    digest: .*", f"    digest: {digest}", entry))
    path.write_text(f"{entry}  cu130:{rest}")
    return made


def test_the_process_is_confined(digest: str) -> None:
    report = podman(
        "id -u; grep CapEff /proc/self/status; grep NoNewPrivs /proc/self/status; sed 1,2d /proc/net/dev; touch /x "
        "/opt/x 2>&1 || true"
    ).stdout
    assert report.startswith("1000\n")
    assert re.search(r"CapEff:\s+0{16}\n", report) and re.search(r"NoNewPrivs:\s+1\n", report)
    assert [line.split(":")[0].strip() for line in report.splitlines() if re.match(r" *\w+:( +\d+){16}", line)] == [
        "lo"
    ]
    assert report.count("Read-only file system") == 2


def test_the_image_has_the_locked_packages_and_no_more(digest: str) -> None:
    listed = {
        entry["name"].lower().replace("_", "-").replace(".", "-"): entry["version"]
        for entry in json.loads(podman("pip list --format json").stdout)
    }
    locks = "".join((PROJECT_ROOT / name).read_text() for name in lock.load().images["cpu"].locks)
    locked = {
        name.lower().replace("_", "-").replace(".", "-"): version
        for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", locks, re.MULTILINE)
    }
    assert set(listed) - set(locked) == {"pip"}
    assert {name: version for name, version in listed.items() if name != "pip"} == {
        name: locked[name] for name in listed if name != "pip"
    }


def test_preflight_passes_inside_and_refuses_a_leak_and_another_lock(digest: str, copy: Checkout) -> None:
    podman("bakeoff preflight")
    leak = podman(
        "--env", "PYTHONPATH=/bakeoff/workflow:/usr/lib/python3/dist-packages", "bakeoff preflight", check=False
    )
    assert leak.returncode == 2 and "/usr/lib/python3/dist-packages, which is not part of the image" in leak.stderr
    with (copy.root / "requirements/dev.lock").open("a") as stream:
        stream.write("# another\n")
    other = podman(
        "--volume", f"{copy.root}:/other:ro", "--env", "PYTHONPATH=/other/workflow", "bakeoff preflight", check=False
    )
    assert other.returncode == 2 and "the locks of this checkout" in other.stderr


def test_unit_tests_pass_inside(copy: Checkout) -> None:
    """A part: what reads traces, routes tokens and guards the images. All of them run in test_all_tests_pass_inside."""
    rooms = "tests/traces tests/core/test_moe_reference.py tests/containers"
    done = call(
        "containers/run.sh", "cpu", "sh", "-c", f"python -m pytest -q -n 2 -m 'not slow' {rooms}", cwd=copy.root
    )
    assert re.search(r"\b\d{3,} passed", done.stdout)


def test_gpu_kernels_compile_inside(copy: Checkout) -> None:
    build = "bakeoff build triton_fused_moe_v2 --arch sm_100a -o /tmp/out >&2 && cat /tmp/out/build.json"
    made = json.loads(call("containers/run.sh", "cpu", "sh", "-c", build, cwd=copy.root).stdout)
    assert made["status"] == "ok" and len(made["kernels"]) == 4


def test_snakemake_runs_every_rule_in_the_image(copy: Checkout, tmp_path: Path) -> None:
    """Through a double of Apptainer. The host's environment is hostile: only --cleanenv keeps it out."""
    (tmp_path / "bin").mkdir()
    shutil.copy2(PROJECT_ROOT / "tests/containers/apptainer", tmp_path / "bin/apptainer")
    hostile = {
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "BAKEOFF_PYTHON": "/nonexistent",
        **SETTINGS,
    }
    copy.snakemake("--sdm", "apptainer", env=hostile)
    assert "6/6 cells PASSED" in (copy.root / "results/verdict.txt").read_text()
    host = json.loads((copy.root / "results/runs/cpu/host.json").read_text())
    python = podman("python -c 'import platform; print(platform.python_version())'").stdout.strip()
    assert (host["system"], host["python"]) == ("Debian GNU/Linux 12 (bookworm)", python)
    plan = json.loads((copy.root / "results/runs/cpu/config.json").read_text())
    assert plan["image"] == lock.load(copy.root / "containers/images.lock.yaml").images["cpu"].digest


def test_a_digest_that_the_registry_does_not_serve_stops_the_run(copy: Checkout, tmp_path: Path) -> None:
    path = copy.root / "containers/images.lock.yaml"
    path.write_text(
        re.sub(r"(repository: localhost.*\n    digest: sha256:)[0-9a-f]{64}", r"\g<1>" + "0" * 64, path.read_text())
    )
    environment = {"PATH": f"{PROJECT_ROOT / 'tests/containers'}{os.pathsep}{os.environ['PATH']}", **SETTINGS}
    done = copy.snakemake("--sdm", "apptainer", env=environment, check=False)
    assert done.returncode != 0 and "manifest unknown" in done.stdout + done.stderr
    assert not list(copy.root.glob("results/runs/*/host.json"))


@FULL
def test_built_twice_the_digest_is_the_same(digest: str) -> None:
    call("podman", "rmi", "--force", IMAGE, "localhost/bakeoff-base-cpu")
    assert call("containers/image.sh", "build", "cpu").stdout.split()[-1] == digest


@FULL
def test_the_bill_of_materials_lists_both_kinds_of_packages(digest: str, tmp_path: Path) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    call(sys.executable, "-m", "bakeoff", "image", "cpu", "--sbom", str(tmp_path))
    text = (tmp_path / "cpu.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    urls = [part["purl"] for part in json.loads(text)["components"]]
    assert (
        sum(url.startswith("pkg:deb/debian/") for url in urls) > 50
        and sum(url.startswith("pkg:pypi/") for url in urls) > 90
    )


@FULL
def test_all_tests_pass_inside(copy: Checkout) -> None:
    subprocess.run(
        ["chmod", "-R", "u+w", str(copy.root)], check=True
    )  # root has no power over a read-only file in there
    done = call("containers/run.sh", "cpu", "make", "test", cwd=copy.root)
    assert re.search(r"\b\d{4,} passed", done.stdout)


class TestCu130:
    """The cu130 set on Debian with a Python 3.12, in place of NVIDIA's base."""

    pytestmark = FULL
    image = f"{IMAGE.replace('cpu', 'cu130')}:standin"

    @pytest.fixture(scope="class")
    def built(self) -> str:
        call("containers/image.sh", "build", "cu130", STANDIN="1")
        return self.image

    def test_its_packages_fit_each_other(self, built: str) -> None:
        assert "No broken requirements" in podman("pip check", image=built).stdout

    def test_what_imports_without_a_gpu_imports(self, built: str) -> None:
        modules = "torch triton cutlass flashinfer flashinfer_cubin tvm_ffi cupti pynvml snakemake bakeoff.cli"
        podman(f'for module in {modules}; do python -c "import $module" || exit 1; done', image=built)

    @pytest.mark.parametrize("arch", ["sm_100a", "sm_90a"])
    def test_every_solution_compiles(self, built: str, arch: str, tmp_path: Path) -> None:
        copy = copy_project(tmp_path / "checkout")
        for name in sorted(path.parent.name for path in (PROJECT_ROOT / "solutions").glob("[a-z]*/solution.yaml")):
            build = f"bakeoff build {name} --arch {arch} -o /tmp/out >&2 && cat /tmp/out/build.json"
            done = call("containers/run.sh", "cu130", "sh", "-c", build, cwd=copy.root, STANDIN="1", GPUS="none")
            # The peers have no Blackwell backend, by their solution.yaml.
            expected = "unsupported" if arch == "sm_100a" and name in HOPPER_ONLY else "ok"
            assert json.loads(done.stdout)["status"] == expected, name

    def test_kernel_libraries_load_against_a_stub_of_the_driver(self, built: str) -> None:
        script = (PROJECT_ROOT / "tests/containers/driver_stub.sh").read_text()
        assert "loaded" in podman(script, image=built).stdout
