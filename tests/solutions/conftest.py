"""What the tests of solutions share."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from support.recorded_calls import call_of
from support.solution_support import module_of, record_launches, record_own_launches


@pytest.fixture
def recorded(monkeypatch):
    """Runs a solution's GPU host path on cpu tensors; returns the launches and library calls in order."""

    def record(name: str, tokens: int, backend: str) -> list[tuple[str, Any, Any]]:
        cuda, stages = module_of(name, "cuda"), module_of(name, "common.triton_stages")
        log: list[tuple[str, Any, Any]] = []
        record_launches(monkeypatch, stages, lambda *launch: log.append(launch))

        def library(kernel: str) -> Any:
            return lambda *args, **named: log.append((kernel, args, named))

        if name == "triton_fused_moe_v2":
            monkeypatch.setattr(cuda, "_load_gemm", lambda: library("gemm"))
        elif name == "humming_moe":
            record_own_launches(monkeypatch, cuda.pairs, lambda *launch: log.append(launch))
            library_gemms = SimpleNamespace(configs=("first", "second"), tile=8, launch=library("gemm"))
            monkeypatch.setattr(cuda, "_load", lambda: None)
            monkeypatch.setattr(cuda, "_gemms", lambda *_: library_gemms)
        elif name == "flashinfer_alphamoe":
            for module in (cuda.pairs, module_of(name, "weights")):
                record_own_launches(monkeypatch, module, lambda *launch: log.append(launch))
            monkeypatch.setattr(cuda, "_load", lambda: library("fused"))
        elif name == "triton_grouped_moe":
            gemm = module_of(name, "common.triton_gemm")
            record_own_launches(monkeypatch, gemm, lambda *launch: log.append(launch))
            monkeypatch.setattr(gemm, "_processors", lambda index: 132)
            monkeypatch.setattr(gemm, "warm", lambda *_: None)
        elif name == "deepgemm_moe":
            package = SimpleNamespace(m_grouped_fp8_gemm_nt_contiguous=library("gemm"))
            monkeypatch.setattr(cuda, "_load", lambda: package)
        else:
            monkeypatch.setattr(cuda, "_load", lambda module, function: library(function))
        cuda.run_cuda(call_of(name, tokens), backend)
        return log

    return record
