"""cutedsl_moe_fp8_v4: its plan on paper, its host path, its machine code, and the whole layer run as PTX on a CPU."""

from __future__ import annotations

import dataclasses
import itertools
import re
from types import SimpleNamespace

import pytest
import torch
from support.cute_support import workloads
from support.kernels import kernels
from support.solution_support import active_rows, make_inputs, module_of, reference, relative_l2, send_to

NAME = "cutedsl_moe_fp8_v4"
geometry, cuda, scratch = (module_of(NAME, name) for name in ("geometry", "cuda", "scratch"))
checks = module_of(NAME, "common.checks")


# --- the plan ---------------------------------------------------------------------------------------------------------


def test_a_tile_takes_the_narrowest_path_that_holds_its_rows():
    for rows in range(1, 129):
        path = geometry.pick_path(rows)
        assert rows <= path.rows
        assert all(other.rows < rows for other in geometry.PATHS if other.rows < path.rows)
    assert [path.swapped for path in geometry.PATHS] == [True, True, True, False]


@pytest.mark.parametrize("together", [False, True], ids=["apart", "together"])
@pytest.mark.parametrize("k_blocks", [2, 4, 16, 18, 56])
@pytest.mark.parametrize("clusters", [2, 3, 66, 74])
def test_the_parts_of_a_tile_hold_each_k_block_once_and_no_cluster_gets_two(k_blocks, clusters, together):
    choices = [many for many in (1, 2, 4) if k_blocks % many == 0] if together else range(1, 1 + min(3, k_blocks))
    for rest in range(clusters):
        parts = geometry.parts(rest, clusters, k_blocks, lambda condition, yes, no: yes if condition else no, together)
        assert parts in choices
        assert rest * parts <= clusters <= geometry.PARTIAL_BLOCKS // geometry.CLUSTER
        assert all(rest * more > clusters for more in choices if more > parts), "no cluster idles in vain"
        starts = [geometry.part_start(part, parts, k_blocks) for part in range(parts + 1)]
        assert starts[0] == 0
        assert starts[-1] == k_blocks
        assert all(one < other for one, other in itertools.pairwise(starts)), "no part is empty"
        if together:  # blocks of a cluster free each other's slots, as many as they fill
            assert len({other - one for one, other in itertools.pairwise(starts)}) == 1


@pytest.mark.parametrize("tokens", [1, 7, 80, 14107, 65536, geometry.MAX_TOKENS])
@pytest.mark.parametrize(("hidden", "inner"), [(7168, 2048), (512, 256)])
def test_the_scratch_holds_everything_apart_and_aligned(tokens, hidden, inner):
    rows = geometry.row_bound(tokens)
    offsets = list(dataclasses.astuple(geometry.places(tokens, rows, hidden, inner)))
    assert all(offset % 256 == 0 for offset in offsets)
    needed = [
        geometry.HEAD_BYTES,
        4 * geometry.PARTIAL_BLOCKS * geometry.PARTIAL_FLOATS,
        4 * 33,
        *(32 * tokens, 32 * tokens, 128 * tokens),
        *(4 * inner // 128 * rows, inner * rows, 2 * hidden * rows),
    ]
    assert [end - start >= size for start, end, size in zip(offsets, offsets[1:], needed, strict=False)] == [True] * 9
    assert rows * max(hidden, inner) < 1 << 33
    assert tokens * hidden < 1 << 32, "a row's offset is unsigned 32-bit"
    assert geometry.TICKETS + 4 * 132 <= geometry.HEAD_BYTES
    worst = [tokens * 8 // 32] * 32  # every group one row past a multiple, as far as the pairs go
    assert sum(-(-count // 128) * 128 for count in worst) <= rows


# --- host path --------------------------------------------------------------------------------------------------------


def meta_arguments(tokens, hidden=7168, inner=2048):
    f32, fp8, bf16 = torch.float32, torch.float8_e4m3fn, torch.bfloat16
    shapes = [((tokens, 256), f32), ((256,), bf16), ((tokens, hidden), fp8), ((hidden // 128, tokens), f32)]
    shapes += [((32, 2 * inner, hidden), fp8), ((32, 2 * inner // 128, hidden // 128), f32)]
    shapes += [((32, hidden, inner), fp8), ((32, hidden // 128, inner // 128), f32), ((tokens, hidden), bf16)]
    tensors = [torch.empty(shape, dtype=dtype, device="meta") for shape, dtype in shapes]
    return [*tensors[:8], 32, 2.5, tensors[8]]


@pytest.fixture
def launched(monkeypatch):
    """Arguments of the calls of the compiled function, without a GPU."""
    calls = []
    monkeypatch.setattr(cuda, "_function", lambda backend: lambda *args: calls.append(args))
    monkeypatch.setattr(cuda, "_stream", lambda index: 5)
    monkeypatch.setattr(cuda, "_blocks", lambda index: 132)
    take = lambda device, stream, size: SimpleNamespace(size=size, stream=stream)  # noqa: E731
    monkeypatch.setattr(scratch, "take", take)
    return calls


def test_every_workload_is_one_call_into_compiled_code(launched):
    for case in workloads():
        call = checks.check_call(*meta_arguments(case.seq_len))
        cuda.run_cuda(call, "sm_90a")
        (arguments,) = launched
        launched.clear()
        *tensors, buffer, rows, first, factor, blocks = arguments
        assert tensors == [*call[:8], call.output]
        assert (buffer.stream, rows, first, factor, blocks) == (5, geometry.row_bound(case.seq_len), 32, 2.5, 132)
        assert buffer.size == geometry.places(case.seq_len, rows, 7168, 2048).size


def test_what_is_passed_is_what_is_compiled():
    pytest.importorskip("cutlass", reason="needs nvidia-cutlass-dsl: make setup")
    signature = module_of(NAME, "layer").SIGNATURE
    *tensors, _, _, output = meta_arguments(80)
    sizes: dict[str, int] = {}
    for tensor, (_, names, _) in zip([*tensors, output], signature, strict=False):
        assert tensor.dim() == len(names)
        for name, size in zip(names, tensor.shape, strict=True):
            assert size == (name if isinstance(name, int) else sizes.setdefault(name, size))
    assert sizes == {"T": 80, "H": 7168, "H/128": 56, "2I": 4096, "2I/128": 32, "I": 2048, "I/128": 16}


@pytest.mark.parametrize(("tokens", "hidden", "inner"), [(8, 384, 256), (8, 512, 128), ((1 << 17) + 1, 512, 256)])
def test_sizes_that_the_kernels_were_not_built_for_are_refused(launched, tokens, hidden, inner):
    call = checks.check_call(*meta_arguments(tokens, hidden, inner))
    with pytest.raises(ValueError, match=rf"has shape \({tokens}, {hidden}\) and gemm2_weights {inner} columns"):
        cuda.run_cuda(call, "sm_90a")
    assert launched == []


@pytest.mark.parametrize("name", ["hidden_states_scale", "gemm1_weights", "gemm1_weights_scale", "gemm2_weights_scale"])
def test_sizes_that_the_compiled_function_does_not_compare_are_compared_here(launched, name):
    call = checks.check_call(*meta_arguments(8))
    tensor = getattr(call, name)
    axis = 2 if name == "gemm2_weights_scale" else tensor.dim() - 2
    sizes = [size + 1 if i == axis else size for i, size in enumerate(tensor.shape)]
    with pytest.raises(ValueError, match="expected at least 1 and"):
        cuda.run_cuda(call._replace(**{name: torch.empty(sizes, dtype=tensor.dtype, device="meta")}), "sm_90a")
    with pytest.raises(ValueError, match="expected contiguous tensors"):
        cuda.run_cuda(call._replace(**{name: tensor.transpose(-1, -2)}), "sm_90a")
    empty = call._replace(hidden_states=torch.empty(0, 7168, dtype=torch.float8_e4m3fn, device="meta"))
    with pytest.raises(ValueError, match="found 0 tokens"):
        cuda.run_cuda(empty, "sm_90a")
    assert launched == []


@pytest.fixture
def made(monkeypatch):
    """Scratch on the cpu; the fixture's attribute says whether a graph is being captured."""
    state = SimpleNamespace(capturing=False)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: state.capturing)
    monkeypatch.setattr(torch, "empty", lambda size, dtype, device: torch.full((size,), 9, dtype=dtype))
    monkeypatch.setattr(scratch, "_buffers", {})
    monkeypatch.setattr(scratch, "_in_graphs", {})
    return state


def test_scratch_belongs_to_a_stream_and_grows_with_its_counters_zero(made):
    first = scratch.take(0, 1, 100_000)
    assert scratch.take(0, 1, 90_000) is first
    assert scratch.take(0, 2, 90_000) is not first
    larger = scratch.take(0, 1, 200_000)
    assert larger is not first
    assert not larger[: geometry.HEAD_BYTES].any()
    assert first.data_ptr() not in [
        held.data_ptr() for held in (*scratch._buffers.values(), *scratch._in_graphs.values())
    ]


def test_scratch_that_a_graph_was_captured_with_is_kept_and_none_is_made_within_a_capture(made):
    made.capturing = True
    with pytest.raises(RuntimeError, match="call once on it before the capture"):
        scratch.take(0, 1, 100_000)
    made.capturing = False
    first = scratch.take(0, 1, 100_000)
    made.capturing = True
    assert scratch.take(0, 1, 100_000) is first
    made.capturing = False
    assert scratch.take(0, 1, 300_000) is not first
    assert list(scratch._in_graphs.values()) == [first]


# --- machine code -----------------------------------------------------------------------------------------------------

ARCHES = [name for name in module_of(NAME, "solution").BACKENDS if name != "cpu"]


@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHES)
def test_the_kernels_compile_without_spills_to_the_products_of_every_path(arch):
    pytest.importorskip("cutlass", reason="needs nvidia-cutlass-dsl: make setup")
    for name, kernel in kernels(NAME, arch).items():
        used = kernel.record
        assert used.stack_bytes == used.spill_bytes == 0, name
        # A K block is four instructions of K = 32; each path takes two passes over it, Blackwell's plain path one.
        products = {"wgmma": 32} if arch == "sm_90a" else {"tcgen05": 28}
        expected = products if used.stage in ("gemm1", "gemm2") else {}
        assert used.mma == expected, name
        waits, starts = (kernel.ptx.count(f"griddepcontrol.{what}") for what in ("wait", "launch_dependents"))
        # GEMM1 lets GEMM2 start at one place or the other, by the number of its rounds.
        assert (waits, starts) == {"routing": (0, 1), "gemm1": (1, 2), "gemm2": (1, 1), "combine": (1, 0)}[used.stage]
        assert used.dynamic_shared_bytes <= 232448
        if expected:  # no two of its blocks, or of the other GEMM's, fit into a multiprocessor; register pools add up
            assert 2 * (used.dynamic_shared_bytes + 1024) > 228 << 10
            groups = int(re.findall(r"\.reqntid (\d+)", kernel.ptx)[0]) // 128
            asked = {
                way: [int(n) for n in re.findall(rf"setmaxnreg\.{way}\S*\s+(\d+)", kernel.ptx)]
                for way in ("inc", "dec")
            }
            (more,), fewer = set(asked["inc"]), asked["dec"]
            assert (groups - len(fewer)) * more + sum(fewer) <= groups * used.registers <= (64 << 10) // 128


# --- the whole layer on the machine -----------------------------------------------------------------------------------


def few(tokens: int):
    """Few tokens with one local expert each: tiles are split along K."""
    return send_to(make_inputs(tokens, seed=1), [40, 64, 65, 66, 67, 68, 69, 70])


def several():
    """Three tokens with one local expert each, another one each: the last of three tiles is split along K."""
    inputs = make_inputs(3, seed=5)
    for token in range(3):
        inputs["routing_logits"][token] = send_to(inputs, [40 + 5 * token, 64, 65, 66, 67, 68, 69, 70])[
            "routing_logits"
        ][token]
    return inputs


def many():
    """132 tokens: experts with 130, 70, 40, 20 and 5 rows, so that every path runs, a pair of row tiles too; two tokens
    without a local expert."""
    inputs = make_inputs(132, seed=4)
    logits = torch.full((132, 256), -8.0) + torch.linspace(0, 1, 256)
    for token in range(132):
        local = [32 + e for e, limit in ((3, 130), (4, 70), (9, 40), (20, 20), (31, 5)) if token < limit]
        ids = local + [64, 65, 66, 67, 96, 97, 98, 99][: 8 - len(local)]
        logits[token, ids] = torch.linspace(4, 5, 8)[torch.randperm(8, generator=torch.Generator().manual_seed(token))]
    inputs["routing_logits"] = logits
    return inputs


def layer_run(inputs, arch, **options):
    pytest.importorskip("cutlass", reason="needs nvidia-cutlass-dsl: make setup")
    from support.layer_machine import LayerRun

    return LayerRun(inputs, arch, **options)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize(
    ("inputs", "blocks"),
    [(few(2), 4), (few(2), 8), (several(), 4), (many(), 4)],
    ids=["few", "most", "several", "many"],
)
def test_the_compiled_layer_is_right(inputs, blocks, arch):
    run = layer_run(inputs, arch, blocks=blocks)
    output, wanted, active = run.run(), reference(inputs), active_rows(inputs)
    assert output.isfinite().all()
    assert not output[~active].any()
    assert relative_l2(output[active], wanted[active]) < 0.033
    rows = (output[active].double() - wanted[active]).norm(dim=1) / wanted[active].norm(dim=1)
    assert rows.max() < 0.066
    assert not run.arrays["counters"].any(), "counters and tickets are zero for the next call"


@pytest.mark.slow
def test_the_order_in_which_blocks_come_does_not_change_a_bit():
    first = layer_run(few(3), "sm_90a", blocks=8, seed=1).run()
    assert torch.equal(first, layer_run(few(3), "sm_90a", blocks=8, seed=2).run())


# Chip, what is broken in GEMM1's machine code, and what the machine says; None: nothing, but the result is wrong.
FENCE, ARRIVAL = r"fence\.proxy\.async\S*;", r"cp\.async\.mbarrier\.arrive\.noinc\S+ \[[^\]]*\];"
# The arrival at the other block's barrier before what is sent is announced.
NO_ARRIVAL = r"(?:(?!mbarrier\.arrive)[\s\S]){,400}"
CLEAR = rf"mbarrier\.arrive\.shared::cluster[^;]*;(?={NO_ARRIVAL}mbarrier\.arrive\.expect_tx\S+ %rd\d+, \[%r1\+)"
TO_FIRST = r"(mapa\.shared::cluster\.u32 %r\d+, %r\d+), 0;(?=[^;]*(?:;[^;]*){,20}st\.async)"
SENT = r"st\.async[^;]*;"
TICKET = r"atom\.acq_rel\.gpu\.global\.add\.u32\s+(%r\d+),[^;]*;"
BROKEN = {
    "gathered rows that no fence shows to wgmma": ("sm_90a", FENCE, "", "no proxy fence"),
    "gathered rows that no fence shows to tcgen05": ("sm_100a", FENCE, "", "no proxy fence"),
    "counts read before the routing has ended": (
        "sm_90a",
        r"griddepcontrol\.wait;",
        "",
        "touched while the kernel before",
    ),
    "rows multiplied before they are there": ("sm_90a", ARRIVAL, "", "deadlock"),
    "tickets that are never taken": ("sm_90a", TICKET, r"mov.b32 \1, 0;", None),
    "a part's sums that are not sent": ("sm_90a", SENT, "", "deadlock"),
    "sums sent to a block that does not wait for them": ("sm_90a", TO_FIRST, r"\1, 1;", "deadlock"),
    "a staging buffer that nobody says is free": ("sm_90a", CLEAR, "", "deadlock"),
    "accumulators read without a fence": ("sm_100a", r"tcgen05\.fence::after\S+;", "", "no fence::after"),
    "slots that the tensor core does not give back": ("sm_100a", r"tcgen05\.commit\S*multicast[^;]*;", "", "deadlock"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BROKEN)
def test_the_machine_objects_to_a_broken_layer(name):
    pytest.importorskip("cutlass", reason="needs nvidia-cutlass-dsl: make setup")
    from ptx.ptx_machine import Fault
    from support.layer_machine import compiled

    arch, pattern, instead, complaint = BROKEN[name]
    ptx, changes = re.subn(pattern, instead, compiled(arch)["gemm1_swiglu"])
    assert changes, "the pattern no longer occurs in the PTX"
    inputs = few(2)
    run = layer_run(inputs, arch, blocks=8, changed={"gemm1_swiglu": ptx})
    if complaint:
        with pytest.raises(Fault, match=complaint):
            run.run()
    else:
        assert not relative_l2(run.run(), reference(inputs)) < 0.033
