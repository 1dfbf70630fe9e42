"""The smallest solution folders: written to a temporary place and then spoilt."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml
from bakeoff.build.spec import SolutionSpec, read_spec
from bakeoff.files import PROJECT_ROOT

SOLUTIONS = PROJECT_ROOT / "solutions"
NARROW = "moe_fp8_block_scale_ds_routing_topk8_ng8_kg4_e32_h512_i256"
NARROW_FILE = PROJECT_ROOT / f"traces/definitions/moe/{NARROW}.json"
PARAMETERS = (
    "routing_logits, routing_bias, hidden_states, hidden_states_scale, gemm1_weights, gemm1_weights_scale, "
    "gemm2_weights, gemm2_weights_scale, local_expert_offset, routed_scaling_factor, output"
)
ENTRY = f'def run({PARAMETERS}):\n    """Write zeros."""\n    output.zero_()\n'
ROUNDING = {"gemm1_output": ["bfloat16"], "intermediate": ["fp8_block128"], "gemm2_output": ["bfloat16"]}


def description(name: str = "tiny") -> dict[str, Any]:
    return {
        "name": name,
        "role": "peer",
        "author": "someone",
        "description": "Writes zeros.",
        "languages": ["python"],
        "entry_point": "solution.py::run",
        "backends": {"cpu": {"design": "zeros", "rounding": ROUNDING}},
    }


def gpu_description(name: str = "tiny") -> dict[str, Any]:
    """With both GPU backends, whose kernels cuda.py compiles."""
    made = description(name)
    gpu = {"design": "zeros", "rounding": ROUNDING, "compile": "cuda.py::compile_kernels"}
    made["backends"] |= {"sm_90a": gpu, "sm_100a": gpu}
    return made


def write(root: Path, given: dict[str, Any] | None = None, **files: str) -> Path:
    """A folder with solution.yaml, solution.py and further files (`cuda="..."` becomes cuda.py); returns it."""
    given = description() if given is None else given
    folder = root / given["name"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "solution.yaml").write_text(yaml.safe_dump(given, sort_keys=False))
    for stem, text in ({"solution": ENTRY} | files).items():
        (folder / f"{stem}.py").write_text(text)
    return folder


def spec(root: Path, given: dict[str, Any] | None = None, **files: str) -> SolutionSpec:
    return read_spec(write(root, given, **files))


def with_common(root: Path, **files: str) -> None:
    """A folder of shared files."""
    (root / "common").mkdir(parents=True, exist_ok=True)
    for stem, text in files.items():
        (root / "common" / f"{stem}.py").write_text(text)


def project_copy(root: Path) -> Path:
    """The project's template and shared files, to make new solutions in."""
    for name in ("_template", "common"):
        shutil.copytree(SOLUTIONS / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    return root
