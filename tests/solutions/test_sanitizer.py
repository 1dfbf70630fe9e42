"""compute-sanitizer finds nothing in our kernels, and does find a fault of each kind.

Run on a GPU host with the solutions' packages: python -m pytest -m gpu tests/solutions/test_sanitizer.py (12 minutes)
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from bakeoff.files import PROJECT_ROOT
from support.gpu_solutions import BACKEND, entry
from support.solution_support import NAMES

SANITIZER = shutil.which("compute-sanitizer", path=f"{os.environ.get('PATH', '')}:/usr/local/cuda/bin")
TOOLS = ("memcheck", "synccheck", "racecheck")
FOUND = 9  # exit code if the tool found something
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(BACKEND is None, reason="needs an H100, H200 or B200: python -m pytest -m gpu tests/solutions"),
    pytest.mark.skipif(SANITIZER is None, reason="needs compute-sanitizer, which is part of the CUDA toolkit"),
]


def sanitized(tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run sanitized_calls.py under a tool; API errors are ignored, since cuda-python probes for functions of newer
    drivers."""
    # Each tensor is an allocation of its own, so that an access past its end is one outside any allocation.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    script = Path(__file__).parents[1] / "support/sanitized_calls.py"
    options = ["--tool", tool, "--report-api-errors", "no", "--error-exitcode", str(FOUND)]
    command = [str(SANITIZER), *options, sys.executable, str(script), *arguments]
    return subprocess.run(command, cwd=PROJECT_ROOT, env=environment, capture_output=True, text=True)


def check_clean(tool: str, *arguments: str) -> None:
    done = sanitized(tool, *arguments)
    assert done.returncode == 0 and "all calls returned" in done.stdout, done.stdout[-4000:] + done.stderr[-2000:]


@pytest.mark.parametrize("tool", TOOLS)
def test_each_tool_finds_its_fault(tool):
    done = sanitized(tool, "fault", tool)
    assert done.returncode == FOUND and "faulty" in done.stdout, done.stdout[-4000:] + done.stderr[-2000:]


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("name", [name for name in NAMES if name != "flashinfer_moe"])
def test_the_stage_kernels_are_clean(name, tool):
    """Without the GEMMs: racecheck of 2025.3 breaks off at those of the libraries. flashinfer_moe has no kernel of
    ours."""
    entry(name)  # skips without its packages
    check_clean(tool, name, "stages", "80", "901")


@pytest.mark.parametrize("tool", ["memcheck", "synccheck"])
@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("cutedsl")])
def test_whole_calls_with_our_gemms_are_clean(name, tool):
    """The four T take the four forms of the GEMMs."""
    entry(name)
    check_clean(tool, name, "all", "80", "901", "2000", "4000")
