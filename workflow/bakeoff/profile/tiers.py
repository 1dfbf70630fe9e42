"""Which profilers this host offers, why one is missing, and what to do about it.

Entry points: `gather` (asks the host), `offered` (a pure function of what was found), `choose` (what a requested tier
means here). Tiers: `nsys` and `cupti` give the timeline, `ncu` the counters; `host` is the process without a profiler,
which every host offers. Side effect of `gather`: one empty trial capture with nsys, since its importer fails on hosts
that lack two system libraries; it is made only if nsys could be used.
"""

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bakeoff import host
from bakeoff.errors import InputError
from bakeoff.profile.ncu import PERMISSION_CODE
from bakeoff.profile.nsys import capture_command

Name = Literal["host", "nsys", "cupti", "ncu"]
# Where NVIDIA's packages install what may not be on PATH; the newest version sorts last.
PLACES = {
    "nsys": (
        "opt/nvidia/nsight-systems/*/bin/nsys",
        "usr/local/cuda/bin/nsys",
        "opt/nvidia/nsight-compute/*/host/target-linux-x64/nsys",
    ),
    "ncu": ("usr/local/cuda/bin/ncu", "opt/nvidia/nsight-compute/*/ncu"),
}
DRIVER_PARAMETERS = Path("/proc/driver/nvidia/params")
# Linux capabilities that count as administrator for the driver, by bit.
CAPABILITIES = {21: "CAP_SYS_ADMIN", 38: "CAP_PERFMON"}
TRIAL_S = 60


@dataclass(frozen=True)
class Facts:
    """What the host said. Versions are None where the tool is missing."""

    gpu: str | None = None
    gpu_uuid: str | None = None
    nsys: str | None = None
    nsys_version: str | None = None
    nsys_trial: str | None = None
    """Why the trial capture failed; None if it gave a report."""
    ncu: str | None = None
    ncu_version: str | None = None
    cupti_version: str | None = None
    admin_only: bool = False
    """Whether the driver keeps counters to administrators."""
    privileged: bool = False
    """Whether this process counts as one."""
    container: bool = False


@dataclass(frozen=True)
class Tier:
    """One tier on this host."""

    name: Name
    path: str | None = None
    version: str | None = None
    missing: str | None = None
    """Why it cannot be used; None if it can."""
    fix: str | None = None

    @property
    def usable(self) -> bool:
        return self.missing is None


# No profiler: the host's time in each call, and all compiling, so that no profiler watches a compiler.
HOST = Tier("host")


def gather(trial: bool = True) -> Facts:
    """Ask the host. `trial`: also try nsys, which takes a few seconds."""
    here = host.probe()
    gpu = next(iter(here.gpus), None)
    nsys, ncu = _find("nsys"), _find("ncu")
    return Facts(
        gpu=gpu.name if gpu else None,
        gpu_uuid=gpu.uuid if gpu else None,
        nsys=nsys,
        nsys_version=_version(nsys),
        nsys_trial=_trial(nsys) if trial and nsys and gpu else None,
        ncu=ncu,
        ncu_version=_version(ncu),
        cupti_version=here.packages.get("cupti-python"),
        admin_only=_admin_only(),
        privileged=_privileged(),
        container=Path("/.dockerenv").exists() or bool(os.environ.get("APPTAINER_CONTAINER")),
    )


def offered(facts: Facts) -> dict[Name, Tier]:
    """Each tier with the reason if it cannot be used."""
    return {
        "nsys": Tier("nsys", facts.nsys, facts.nsys_version, *_obstacle("nsys", facts)),
        "cupti": Tier("cupti", None, facts.cupti_version, *_obstacle("cupti", facts)),
        "ncu": Tier("ncu", facts.ncu, facts.ncu_version, *_obstacle("ncu", facts)),
    }


def _obstacle(tier: Name, facts: Facts) -> tuple[str, str] | tuple[()]:
    """(why it cannot be used, what to do about it); empty if it can."""
    if facts.gpu is None:
        return "no NVIDIA GPU", "profile on a host whose `nvidia-smi` lists the GPU"
    if tier == "cupti" and facts.cupti_version is None:
        fix = "pip install cupti-python (the version that fits torch's CUDA)"
        return "the package cupti-python is not installed", fix
    if tier == "nsys" and facts.nsys is None:
        return "nsys is not installed", "install the package nsight-systems-cli, or profile with `--tier cupti`"
    if tier == "nsys" and facts.nsys_trial:
        fix = "apt-get install libdw1 libelf1, or profile with `--tier cupti`"
        return f"a trial capture gave no report: {facts.nsys_trial}", fix
    if tier == "ncu" and facts.ncu is None:
        return "ncu is not installed", "install the package nsight-compute"
    if tier == "ncu" and facts.admin_only and not facts.privileged:
        here = "start the container with --cap-add=SYS_ADMIN" if facts.container else "run as root"
        fix = f"{here}, or load the driver with NVreg_RestrictProfilingToAdminUsers=0"
        return f"{PERMISSION_CODE}: the driver keeps performance counters to administrators", fix
    return ()


def choose(requested: str, tiers: dict[Name, Tier]) -> list[Tier]:
    """The tiers to capture, the timeline's first. `auto`: nsys, else CUPTI, and counters where permitted; `ncu`: the
    same, but counters must be possible; `nsys` and `cupti`: that timeline alone. What cannot be had is an InputError
    with the fix."""
    names = wanted(requested, tiers, counters=requested == "ncu" or tiers["ncu"].usable)
    for name in names:
        if not tiers[name].usable:
            raise InputError(
                f"profile tier {name}",
                found=tiers[name].missing or "",
                expected="a host that offers it",
                hint=tiers[name].fix or "ask for another tier with --tier",
            )
    return [tiers[name] for name in names]


def wanted(requested: str, tiers: dict[Name, Tier], counters: bool) -> list[Name]:
    """Names of the tiers that a request asks for, the timeline's first; with counters, unless it names a timeline."""
    timeline: Name = "cupti" if requested == "cupti" or (requested != "nsys" and not tiers["nsys"].usable) else "nsys"
    return [timeline, "ncu"] if counters and requested not in ("nsys", "cupti") else [timeline]


def _find(tool: str) -> str | None:
    there = [str(path) for pattern in PLACES[tool] for path in sorted(Path("/").glob(pattern))]
    return shutil.which(tool) or (there[-1] if there else None)


def _version(path: str | None) -> str | None:
    """The number in `TOOL --version`, which stands in the last line with one; None if there is none."""
    numbers = re.findall(r"\d+(?:\.\d+)+", _said(path, "--version")[1]) if path else []
    return numbers[-1] if numbers else None


def _trial(nsys: str) -> str | None:
    """Capture nothing, and see whether a report comes of it."""
    with tempfile.TemporaryDirectory(prefix="bakeoff-nsys-") as folder:
        output = Path(folder) / "trial"
        status, text = _said(*capture_command(nsys, output, ["true"]))
        if output.with_suffix(".nsys-rep").exists():
            return None
        said = [line.strip() for line in text.splitlines() if line.strip()]
        return (said[-1] if said else f"exit status {status}")[:200]


def _said(*command: str) -> tuple[int | None, str]:
    """(exit status, or None; what a command printed, errors first, or why it could not run)."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TRIAL_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, f"{type(error).__name__}: {error}"
    return done.returncode, done.stderr + done.stdout


def _admin_only() -> bool:
    try:
        return "RmProfilingAdminOnly: 1" in DRIVER_PARAMETERS.read_text()
    except OSError:
        return False


def _privileged() -> bool:
    """Root with all capabilities, or one that the driver accepts: root of a container usually lacks them."""
    effective = re.search(r"^CapEff:\s*(\w+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    return effective is not None and any(int(effective[1], 16) >> bit & 1 for bit in CAPABILITIES)
