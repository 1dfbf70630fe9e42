"""The environment of a child process: its threads, its folders and compiler caches, and the GPU that it sees.

Entry points: `environment` and `shared_caches`.
"""

import os
from pathlib import Path

from bakeoff.files import PROJECT_ROOT


def environment(threads: int, scratch: Path, cache: Path, gpu: str | None) -> dict[str, str]:
    """A child's environment: the caller's, with its own folders for temporary files and compiler caches, and one GPU at
    most."""
    package = str(PROJECT_ROOT / "workflow")
    inherited = os.environ.get("PYTHONPATH")
    own = {
        "PYTHONPATH": f"{package}{os.pathsep}{inherited}" if inherited else package,
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": str(threads),
        # Idle threads must not spin on cores that the other process needs.
        "OMP_WAIT_POLICY": "PASSIVE",
        "TMPDIR": str(scratch),
        "HOME": str(cache),
        "XDG_CACHE_HOME": str(cache),
        "TRITON_CACHE_DIR": str(cache / "triton"),
        "DG_JIT_CACHE_DIR": str(cache / "deep_gemm"),
        "SGL_DG_CACHE_DIR": str(cache / "deep_gemm"),
        "CUTE_DSL_CACHE_DIR": str(cache / "cute_dsl"),
        "HUMMING_CACHE_DIR": str(cache / "humming"),
        "HUMMING_TMP_DIR": str(cache / "humming" / "tmp"),
        "FLASHINFER_WORKSPACE_BASE": os.environ.get("FLASHINFER_WORKSPACE_BASE", str(cache)),
    }
    return {**os.environ, **own, **({"CUDA_VISIBLE_DEVICES": gpu} if gpu else {})}


def shared_caches() -> list[str]:
    """Folders outside a participant's own that its compilers write to: FlashInfer's, if the operator names one."""
    base = os.environ.get("FLASHINFER_WORKSPACE_BASE")
    if base:
        Path(base).mkdir(parents=True, exist_ok=True)
    return [base] if base else []
