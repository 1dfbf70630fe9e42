"""The Triton stages: interpreted on the cpu against the cpu stages, and compiled for both chips."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import triton
from support.kernels import Kernel, kernels
from support.solution_support import module_of, spec_of

TESTS = Path(__file__).parents[1]
ARCHS = ("sm_90a", "sm_100a")
LIBRARY_SOLUTIONS = ("triton_fused_moe_v2", "deepgemm_moe", "flashinfer_moe")
HOPPER_SOLUTIONS = ("humming_moe", "triton_grouped_moe")
BUILDS = [(name, arch) for name in LIBRARY_SOLUTIONS for arch in ARCHS if arch in spec_of(name).backends]
OWN_STAGES = {"route_tokens", "permute_rows", "swiglu_rows", "combine_rows"}


def test_interpreted_stages_do_what_the_cpu_stages_do():
    """TOKENS and the alignment of an expert's rows."""
    interpret("interpreted_stages.py", (1, 1), (7, 4), (40, 128))


def test_interpreted_stages_of_pairs_do_what_the_cpu_stages_do():
    """TOKENS and the rows of a tile."""
    interpret("interpreted_pairs.py", (7, 8), (20, 24))


def test_the_interpreted_grouped_gemm_is_the_cpu_one():
    """TOKENS and the form. Two tiles of rows in each of two experts, one of them not full."""
    interpret("interpreted_gemm.py", (20, 0), (66, 1), (130, -1))


def interpret(program: str, *cases: tuple[int, int]) -> None:
    """All cases in one process: most of a case's time is the import of what it runs."""
    path = os.pathsep.join([str(TESTS), str(TESTS.parent / "workflow"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(TESTS / "support" / program), *(str(number) for case in cases for number in case)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("case: ") == len(cases)


@pytest.mark.parametrize("tokens", [1, 3, 4, 5, 80, 901, 14107])
@pytest.mark.parametrize("align", [1, 4, 128])
def test_the_row_bound_holds_for_any_routing_and_is_reached_by_the_worst(tokens, align):
    bound = module_of("deepgemm_moe", "common.triton_stages").row_bound(tokens, align)
    assert bound % align == 0
    worst = [0] * 32  # as many groups as can hold a token, each one row past a multiple
    for pair in range(tokens * 8):
        if pair < 32 or align == 1:
            worst[pair % 32] += 1
    left = tokens * 8 - sum(worst)
    for expert in range(32):
        take = min(left // align * align, align * (left // align // 32 + 1)) if align > 1 else 0
        worst[expert] += take
        left -= take
    worst[0] += left
    rows = sum(-(-count // align) * align for count in worst)
    assert rows <= bound < rows + 32 * align
    assert max(worst) > 0


def test_scratch_is_reused_grown_in_powers_of_two_and_zero_when_made():
    stages = module_of("deepgemm_moe", "common.triton_stages")
    plan = stages._make_plan(4, 1, torch.device("cpu"), 0, stages.Store())
    small = plan.buffer("x", (3, 5), torch.bfloat16)
    assert not small.any()
    assert plan.store["x"].numel() == 32
    assert plan.buffer("x", (3, 5), torch.bfloat16) is small
    assert plan.buffer("x", (4, 4), torch.bfloat16).data_ptr() == small.data_ptr()
    grown = plan.buffer("x", (9, 2), torch.bfloat16)
    assert plan.store["x"].numel() == 64
    assert grown.data_ptr() != small.data_ptr()
    assert not stages._outgrown, "no graph was captured with it, so its memory is free again"
    plan.store.captured = True
    plan.buffer("x", (99, 2), torch.bfloat16)
    assert [kept.data_ptr() for kept in stages._outgrown] == [grown.data_ptr()], "a captured graph may still use it"
    stages._outgrown.clear()


@pytest.fixture
def planned(monkeypatch):
    """`plan_call` without a GPU: a function of the number of tokens and of `overlap`."""
    stages = module_of("deepgemm_moe", "common.triton_stages")
    for name in ("_plans", "_stores"):
        monkeypatch.setattr(stages, name, {})
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: SimpleNamespace(cuda_stream=0))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    cpu = torch.device("cpu")
    return lambda tokens, overlap=False: stages.plan_call(SimpleNamespace(tokens=tokens, device=cpu), 128, overlap)


def test_plans_that_overlap_and_plans_that_do_not_are_two(planned):
    first, second = planned(8, True), planned(8, False)
    assert (first.overlap, second.overlap) == (True, False)
    assert planned(8, True) is first
    assert planned(8, False) is second


def test_outgrown_scratch_is_held_by_nobody(planned):
    stages = module_of("deepgemm_moe", "common.triton_stages")
    small = planned(8)
    old = small.buffer("x", (8, 16), torch.bfloat16).data_ptr()
    planned(64).buffer("x", (64, 16), torch.bfloat16)
    held = [view for plan in stages._plans.values() for view in plan.views.values()]
    assert held
    assert old not in [tensor.data_ptr() for tensor in (*held, *stages._outgrown)]
    assert planned(8) is not small, "made anew, over the larger storage"


def test_more_tokens_than_scratch_was_laid_out_for_are_refused(planned):
    stages = module_of("deepgemm_moe", "common.triton_stages")
    with pytest.raises(ValueError, match=r"hidden_states has 131073 tokens; expected at most 131072"):
        planned(stages.MAX_TOKENS + 1)


def cuobjdump(option: str, cubin: Path) -> str:
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    return subprocess.run([str(tool), option, str(cubin)], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("name", "arch"), BUILDS)
def test_every_kernel_compiles_without_a_gpu_and_spills_nothing(name, arch):
    found = kernels(name, arch)
    routing = "route_pairs" if name == "flashinfer_moe" else "route_tokens"
    native = (name, arch) == ("flashinfer_moe", "sm_100a")
    assert set(found) == (set() if native else {routing, "permute_rows", "swiglu_rows", "combine_rows"})
    check_kernels(found, arch)


@pytest.mark.parametrize("name", HOPPER_SOLUTIONS)
def test_every_kernel_of_a_hopper_peer_compiles_without_a_gpu_and_spills_nothing(name):
    found = kernels(name, "sm_90a")
    check_kernels(found, "sm_90a")
    if name == "humming_moe":
        own = {"index_pairs", "swiglu_pairs", "combine_pairs"}
        assert set(found) == OWN_STAGES | own | {"flatten_weights_4096x7168", "flatten_weights_7168x2048"}
        return
    gemms = {one for one in found if one.startswith("grouped_gemm")}
    around = OWN_STAGES - {"permute_rows"} | {"index_rows"}
    assert set(found) - gemms == {f"{one}_overlap" for one in around}
    forms = module_of(name, "common.triton_gemm").FORMS
    assert len(gemms) == sum(len({row[1 + which] for row in forms}) for which in (0, 1))
    for one in gemms:  # the tensor core's FP8 instruction of Hopper, not the older one that small tiles fall back to
        sass = cuobjdump("-sass", found[one].cubin)
        assert "QGMMA" in sass and "HMMA" not in sass and "QMMA" not in sass, one


def test_every_kernel_of_the_blackwell_peer_compiles_without_a_gpu_and_spills_nothing():
    found = kernels("flashinfer_alphamoe", "sm_100a")
    assert set(found) == {"route_tokens", "index_pairs", "interleave_gate"}
    check_kernels(found, "sm_100a")
    sass = cuobjdump("-sass", found["interleave_gate"].cubin)
    assert re.search(r"LDG\.E[.\w]*\.128", sass) and re.search(r"STG\.E[.\w]*\.128", sass), "16 bytes at a time"


def check_kernels(found: dict[str, Kernel], arch: str) -> None:
    for name, kernel in found.items():
        assert f".target {arch.rstrip('a')}" in kernel.ptx
        usage = cuobjdump("-res-usage", kernel.cubin)
        assert re.search(r"STACK:0 .*LOCAL:0 ", usage), f"{name}: {usage}"
        assert kernel.record.meta["threads"] in (32, 128, 256)


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("name", ["permute_rows", "swiglu_rows", "combine_rows"])
def test_rows_move_sixteen_bytes_at_a_time(name, arch):
    sass = cuobjdump("-sass", kernels("triton_fused_moe_v2", arch)[name].cubin)
    assert re.search(r"LDG\.E[.\w]*\.128", sass), "no 16-byte load"
    assert re.search(r"STG\.E[.\w]*\.128", sass), "no 16-byte store"


@pytest.mark.parametrize(
    ("name", "arch"),
    [*BUILDS, *((name, "sm_90a") for name in HOPPER_SOLUTIONS), ("flashinfer_alphamoe", "sm_100a")],
)
def test_each_kernel_falls_into_its_stage_by_its_name(name, arch):
    for kernel in (one.record for one in kernels(name, arch).values()):
        stages = [rule.stage for rule in spec_of(name).stages if re.search(rule.kernel, kernel.name)]
        assert kernel.stage in stages, kernel.name
        assert len(stages) == 1 or stages == ["gemm1", "gemm2"], kernel.name


def test_launches_and_compilation_agree_on_the_arguments():
    stages = module_of("deepgemm_moe", "common.triton_stages")
    for name, types in stages.TYPES.items():
        kernel = stages._kernel(name)
        constants = [p.name for p in kernel.params if p.is_constexpr]
        assert len(types.split()) == len(kernel.arg_names) - len(constants), name
        check_integers(kernel, types)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("triton_grouped_moe", "common.triton_gemm"),
        ("humming_moe", "common.triton_pairs"),
        ("flashinfer_alphamoe", "weights"),
    ],
)
def test_launches_and_compilation_of_the_peers_agree_on_the_arguments(name, module):
    own = module_of(name, module)
    for kernel_name, types in own.TYPES.items():
        kernel = getattr(own, kernel_name)
        constants = [p.name for p in kernel.params if p.is_constexpr]
        assert len(types.split()) == len(kernel.arg_names) - len(constants), kernel_name
        check_integers(kernel, types)


def check_integers(kernel: Any, types: str) -> None:
    integers = [kernel.arg_names[i] for i, kind in enumerate(types.split()) if not kind.startswith("*")]
    assert integers == [p.name for p in kernel.params if p.do_not_specialize], "specializes on a value of T"


@pytest.mark.parametrize("arch", ARCHS)
def test_the_combine_reads_past_the_l1_cache_what_it_has_not_waited_for(arch):
    stages = module_of("deepgemm_moe", "common.triton_stages")
    ptx = stages._compile(arch, "combine_rows", stages._combine_constants(7168, True))["ptx"]
    early, _ = ptx.split("griddepcontrol.wait")
    assert re.findall(r"ld\.(\w+)\.global", early) == ["volatile"]
    assert not re.findall(r"ld\.global", early)
