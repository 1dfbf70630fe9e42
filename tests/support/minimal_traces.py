"""The smallest valid documents, each as a plain dict to be spoilt, and a traces folder to read them from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from bakeoff.files import PROJECT_ROOT
from bakeoff.traces.store import TraceRoot

NARROW = "moe_fp8_block_scale_ds_routing_topk8_ng8_kg4_e32_h512_i256"
FULL = "moe_fp8_block_scale_ds_routing_topk8_ng8_kg4_e32_h7168_i2048"
TRACES = PROJECT_ROOT / "traces"


def definition() -> dict[str, Any]:
    return {
        "name": "scale",
        "op_type": "toy",
        "axes": {"rows": {"type": "var"}, "columns": {"type": "const", "value": 4}},
        "inputs": {
            "zeta": {"shape": ["rows", "columns"], "dtype": "float32"},
            "alpha": {"shape": None, "dtype": "int32"},
        },
        "outputs": {"out": {"shape": ["rows", "columns"], "dtype": "bfloat16"}},
        "reference": "def run(zeta, alpha):\n    return zeta * alpha\n",
        "constraints": ["columns == 4"],
    }


def workload() -> dict[str, Any]:
    return {
        "definition": "scale",
        "solution": None,
        "workload": {
            "uuid": "u-1",
            "axes": {"rows": 3},
            "inputs": {
                "zeta": {"type": "safetensors", "path": "blob/z.safetensors", "tensor_key": "zeta"},
                "alpha": {"type": "scalar", "value": 2},
            },
        },
        "evaluation": None,
    }


def trace() -> dict[str, Any]:
    return workload() | {
        "solution": "fast_scale",
        "evaluation": {
            "status": "PASSED",
            "environment": {"hardware": "NVIDIA B200", "libs": {"torch": "2.11.0"}},
            "timestamp": "2026-02-26T00:00:00",
            "log": "",
            "correctness": {"max_relative_error": 0.5, "max_absolute_error": 12.0, "extra": {"matched_ratio": 0.93}},
            "performance": {"latency_ms": 0.25, "reference_latency_ms": 2.5, "speedup_factor": 10.0},
        },
    }


def solution() -> dict[str, Any]:
    return {
        "name": "fast_scale",
        "definition": "scale",
        "author": "someone",
        "spec": {
            "language": "python",
            "target_hardware": ["cpu"],
            "entry_point": "main.py::run",
            "dependencies": ["torch"],
            "destination_passing_style": True,
        },
        "sources": [{"path": "main.py", "content": "def run(zeta, alpha, out):\n    out.copy_(zeta * alpha)\n"}],
    }


def moe_line(seq_len: int = 5, offset: int = 64) -> dict[str, Any]:
    """A hand-written workload line of the narrow definition: only what cannot be left out."""
    return {
        "definition": NARROW,
        "workload": {
            "uuid": f"by-hand-{seq_len}-{offset}",
            "axes": {"seq_len": seq_len},
            "inputs": {
                "local_expert_offset": {"type": "scalar", "value": offset},
                "routed_scaling_factor": {"type": "scalar", "value": 2.5},
            },
        },
    }


def moe_root(folder: Path, lines: list[dict[str, Any]] | str, name: str = NARROW) -> TraceRoot:
    """A traces folder with one of the project's definitions and these workload lines, or this text in their place."""
    for part in ("definitions", "workloads"):
        (folder / part / "moe").mkdir(parents=True, exist_ok=True)
    shutil.copy(TRACES / f"definitions/moe/{name}.json", folder / "definitions/moe")
    text = lines if isinstance(lines, str) else "".join(json.dumps(line) + "\n" for line in lines)
    (folder / f"workloads/moe/{name}.jsonl").write_text(text)
    return TraceRoot(folder)
