"""What test_sanitizer.py runs under compute-sanitizer: calls of a solution at the full width, or one kernel with a
fault.

    compute-sanitizer --tool memcheck --report-api-errors no \
        python tests/support/sanitized_calls.py SOLUTION all|stages T [T ...]
    compute-sanitizer --tool memcheck python tests/support/sanitized_calls.py fault memcheck

`stages` leaves the two GEMMs out. The workflow/ folder must be on PYTHONPATH.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace

import torch
from support.gpu_solutions import inputs_of, poisoned
from support.solution_support import module_of

# One kernel per tool, with just what that tool must find; x has 64 elements.
FAULTS = {
    "memcheck": "x[threadIdx.x + 64] = 1;",
    "synccheck": "if (threadIdx.x % 32 < 16) __syncthreads(); x[threadIdx.x] = 1;",
    "racecheck": "__shared__ float s[64]; s[threadIdx.x] = threadIdx.x; x[threadIdx.x] = s[63 - threadIdx.x];",
}


def run_fault(tool: str) -> None:
    source = f'extern "C" __global__ void faulty(float* x) {{ {FAULTS[tool]} }}'
    torch.cuda._compile_kernel(source, "faulty")((1, 1, 1), (64, 1, 1), (torch.zeros(64, device="cuda"),))


def leave_out_gemms(name: str) -> None:
    if name == "cutedsl_moe_fp8_v4":
        module_of(name, "gemm").LayerGemm.launch = _nothing
        # GEMM1 leaves the experts' first rows for the combine: without it they are zero, not whatever the memory held.
        module_of(name, "scratch").torch = SimpleNamespace(empty=torch.zeros, uint8=torch.uint8, cuda=torch.cuda)
    elif name.startswith("cutedsl"):
        module_of(name, "common.cute_layer")._gemms = lambda *_: (_nothing, _nothing)
    elif name != "triton_grouped_moe":  # whose GEMM is a kernel of ours
        module_of(name, "cuda").grouped_gemm = _nothing


def _nothing(*_: object, **__: object) -> None:
    pass


def run_calls(name: str, part: str, tokens: list[int]) -> None:
    run = module_of(name, "solution").run
    if part == "stages":
        leave_out_gemms(name)
    for count in tokens:
        inputs = inputs_of(count)
        output = poisoned(inputs)
        run(*inputs.values(), output)
        # Rows without a local expert are zero whatever the GEMMs would have given.
        assert part == "stages" or not output.isnan().any(), f"{name}, T = {count}: NaN in the output"


if __name__ == "__main__":
    first, second, *rest = sys.argv[1:]
    if first == "fault":
        run_fault(second)
    else:
        run_calls(first, second, [int(count) for count in rest])
    torch.cuda.synchronize()
    print("all calls returned")
