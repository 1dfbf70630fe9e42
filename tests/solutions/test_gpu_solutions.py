"""Solutions on a GPU: gates at the full width, CUDA graphs, no synchronization, one compilation for all T.

Run on a GPU host with the solutions' packages: python -m pytest -m gpu tests/solutions/test_gpu_solutions.py
"""

from __future__ import annotations

import contextlib

import pytest
import torch
from bakeoff.core.gates import judge
from bakeoff.core.moe.inputs import make_inputs, make_weights
from bakeoff.core.moe.reference import run as reference
from bakeoff.files import PROJECT_ROOT
from bakeoff.traces.store import TraceRoot
from support.gpu_solutions import BACKEND, FULL, active_of, entry, inputs_of, poisoned
from support.solution_support import NAMES, module_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(BACKEND is None, reason="needs an H100, H200 or B200: python -m pytest -m gpu tests/solutions"),
]
SHOWN = {"matched_ratio", "matched_ratio_active", "relative_l2", "worst_row_l2"}
COPIES_COUNTS = {"flashinfer_moe"}  # its Hopper composition reads the row counts on the host
ADDS_IN_ANY_ORDER = {"flashinfer_alphamoe"}  # as BF16: other last bits in each call


def runnable():
    """Entry points of all solutions that run here, by name."""
    runs = {}
    for name in NAMES:
        with contextlib.suppress(pytest.skip.Exception):
            runs[name] = entry(name)
    assert runs, "no solution runs here"
    return runs


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("family", ["fib", "realistic"])
@pytest.mark.parametrize("tokens", [1, 7, 80, 129, 901, 11948])
def test_output_passes_both_gates(name, family, tokens):
    run, inputs = entry(name), inputs_of(tokens, family)
    output = poisoned(inputs)
    run(*inputs.values(), output)
    wanted = reference(*inputs.values())
    found = judge(output, wanted, active_of(inputs), geometry=FULL)
    assert found.strict.passed, found
    if active_of(inputs).sum() > 16:  # with few rows the published gate is a matter of luck
        assert found.published.passed, found


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("family", ["fib", "realistic"])
def test_every_workload_passes_both_gates(family, seed):
    """All workloads, those of the grid too, all solutions that run here, from one set of inputs and one reference."""
    runs = runnable()
    values, failed = make_weights(FULL, family, seed, "cuda"), []
    for case in TraceRoot(PROJECT_ROOT / "traces").workloads(FULL.name, further=True):
        inputs = make_inputs(FULL, case, family, seed, "cuda", weights=values)
        wanted, active = reference(*inputs.values()), active_of(inputs)
        for name, run in runs.items():
            output = poisoned(inputs)
            run(*inputs.values(), output)
            found = judge(output, wanted, active, geometry=FULL)
            print(f"{case.id:11s} {family} {seed} {name:21s} {found.numerics.model_dump(include=SHOWN)}")
            if not (found.published.passed and found.strict.passed):
                failed.append((case.id, name, found))
    assert not failed


@pytest.mark.parametrize("name", NAMES)
def test_no_local_token_and_one_busy_expert_are_right(name):
    run, inputs = entry(name), inputs_of(300)
    inputs["routing_logits"][:, 32:64] = -20
    output = poisoned(inputs)
    run(*inputs.values(), output)
    assert bool((output == 0).all())
    inputs["routing_logits"][:, 40] = 9
    run(*inputs.values(), output)
    found = judge(output, reference(*inputs.values()), active_of(inputs), geometry=FULL)
    assert found.strict.passed, found


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ADDS_IN_ANY_ORDER])
@pytest.mark.parametrize("tokens", [80, 901, 2048, 11948])
def test_two_hundred_calls_beside_another_stream_give_the_same_bits(name, tokens):
    run, inputs = entry(name), inputs_of(tokens)
    first, second = poisoned(inputs), poisoned(inputs)
    run(*inputs.values(), first)
    load, other = torch.randn(4096, 4096, device="cuda"), torch.cuda.Stream()
    different = torch.zeros((), dtype=torch.int64, device="cuda")
    for _ in range(200):
        with torch.cuda.stream(other):
            load @ load
        second.fill_(float("nan"))
        run(*inputs.values(), second)
        different += (first.view(torch.int16) != second.view(torch.int16)).sum()
    torch.cuda.synchronize()
    assert different.item() == 0


@pytest.mark.parametrize("name", [n for n in NAMES if n not in COPIES_COUNTS | ADDS_IN_ANY_ORDER])
@pytest.mark.parametrize("tokens", [15, 901])
def test_a_captured_graph_replays_with_other_values(name, tokens):
    run, held, other = entry(name), inputs_of(tokens), inputs_of(tokens, seed=1)
    output, wanted = poisoned(held), poisoned(other)
    run(*other.values(), wanted)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        run(*held.values(), output)  # makes this stream's scratch
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            run(*held.values(), output)
    for name_, tensor in held.items():
        if isinstance(tensor, torch.Tensor):
            tensor.view(torch.uint8).copy_(other[name_].view(torch.uint8))
    for _ in range(2):
        output.fill_(float("nan"))
        graph.replay()
        assert torch.equal(output, wanted)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in COPIES_COUNTS])
def test_a_warm_call_neither_synchronizes_nor_takes_memory(name):
    run, inputs = entry(name), inputs_of(80)
    output = poisoned(inputs)
    run(*inputs.values(), output)
    torch.cuda.synchronize()
    before = torch.cuda.memory_stats()["num_device_alloc"]
    torch.cuda.set_sync_debug_mode("error")
    try:
        run(*inputs.values(), output)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.cuda.memory_stats()["num_device_alloc"] == before


@pytest.mark.parametrize("name", NAMES)
def test_the_stage_kernels_are_compiled_once_for_all_batches(name):
    run = entry(name)

    def compiled() -> int:
        if name == "cutedsl_moe_fp8_v4":
            return module_of(name, "cuda")._function.cache_info().misses
        return len(module_of(name, "common.triton_stages")._compiled)

    before = compiled()
    for tokens in (1, 2, 16, 17, 901, 11948):
        inputs = inputs_of(tokens)
        run(*inputs.values(), poisoned(inputs))
    assert compiled() == before


def wrong_arguments(inputs, output):
    """Each argument once with another type, size, stride or address, in turn; the others as they should be."""
    good = {**inputs, "output": output}
    tensors = {name: value for name, value in good.items() if isinstance(value, torch.Tensor)}
    for name, tensor in tensors.items():
        wider = torch.zeros(*tensor.shape[:-1], tensor.shape[-1] + 128, dtype=tensor.dtype, device="cuda")
        yield {**good, name: tensor.to(torch.float64)}
        yield {**good, name: wider}
        yield {**good, name: tensor.unsqueeze(0)}
        yield {**good, name: tensor.cpu()}
        yield {**good, name: [1.0]}
        if tensor.dim() > 1:
            yield {**good, name: wider[..., : tensor.shape[-1]]}
            taller = torch.zeros(tensor.shape[0], tensor.shape[1] + 128, *tensor.shape[2:], dtype=tensor.dtype)
            yield {**good, name: taller.cuda()}
        size = tensor.numel()
        yield {**good, name: torch.zeros(size + 1, dtype=tensor.dtype, device="cuda")[1:].view(tensor.shape)}
    yield {**good, "local_expert_offset": 33}
    yield {**good, "routed_scaling_factor": float("nan")}
    yield {name: value[:0] if name in TOKEN_ROWS else value for name, value in good.items()} | {
        "hidden_states_scale": good["hidden_states_scale"][:, :0]
    }


TOKEN_ROWS = ("routing_logits", "hidden_states", "output")


@pytest.mark.parametrize("name", ["cutedsl_moe_fp8_v3_2", "cutedsl_moe_fp8_v4"])
def test_a_warm_solution_refuses_what_the_checks_refuse_in_their_words(name):
    """v4 leaves the looking to its compiled function, and lets the checks speak where that one raises."""
    run, inputs = entry(name), inputs_of(8)
    check = module_of(name, "common.checks").check_call
    output = torch.zeros(8, 7168, dtype=torch.bfloat16, device="cuda")
    for wrong in wrong_arguments(inputs, output):
        with pytest.raises((TypeError, ValueError)) as wanted:
            check(*wrong.values())
        with pytest.raises(wanted.type) as found:
            run(*wrong.values())
        assert str(found.value) == str(wanted.value)
    torch.cuda.synchronize()
    assert not output.any(), "nothing was launched"
