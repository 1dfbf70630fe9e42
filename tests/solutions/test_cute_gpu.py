"""The CuTeDSL grouped GEMMs on a GPU against float32, at every boundary, repeated, and in a CUDA graph."""

from __future__ import annotations

import ctypes
import functools

import pytest
import torch
from support.cute_support import EDGES, module, starts
from support.host_code import Map, arguments, expected_maps, tensor_maps

maps = module("cute_maps")
gemm = module("cute_gemm")


def arch():
    capability = torch.cuda.get_device_capability() if torch.cuda.is_available() else None
    return {(9, 0): "sm_90a", (10, 0): "sm_100a"}.get(capability)


pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        arch() is None, reason="needs an H100, H200 or B200: pytest -m gpu tests/solutions/test_cute_gpu.py"
    ),
]
FORMS = [form for fp8 in (False, True) for form in gemm.forms("sm_90a", fp8).values()]
N, K, SEED = 512, 512, 3


def form_id(form):
    return f"{form.name}-{'e4m3' if form.fp8_out else 'bf16'}"


@functools.cache
def launcher(form):
    return gemm.compile_gemm("gemm1", arch(), form)


class Problem:
    """Random operands; padding rows hold garbage and their scales NaN, so that a use of them shows."""

    def __init__(self, counts, seed=SEED):
        self.counts, self.first = counts, starts(counts)
        rows = self.first[-1] + 128
        generator = torch.Generator("cuda").manual_seed(seed)
        normal = functools.partial(torch.randn, device="cuda", generator=generator)
        self.a = normal(rows, K).clamp(-2, 2).to(torch.float8_e4m3fn)
        self.b = normal(32, N, K).clamp(-2, 2).to(torch.float8_e4m3fn)
        self.a_scale, self.b_scale = normal(K // 128, rows), normal(32, N // 128, K // 128)
        self.true = torch.zeros(rows, dtype=torch.bool, device="cuda")
        for start, count in zip(self.first, counts, strict=False):
            self.true[start : start + count] = True
        self.a_scale[:, ~self.true] = float("nan")
        self.indptr = torch.tensor(self.first, dtype=torch.int32, device="cuda")
        self.count = torch.tensor(counts, dtype=torch.int32, device="cuda")

    def outputs(self, form):
        rows = len(self.a)
        scale = torch.full((N // 128, rows), float("nan"), device="cuda")
        if form.fp8_out:
            return torch.zeros(rows, N, dtype=torch.uint8, device="cuda"), scale
        return torch.full((rows, N), float("nan"), dtype=torch.bfloat16, device="cuda"), scale

    def run(self, form, out, out_scale):
        blocks = torch.cuda.get_device_properties(0).multi_processor_count // form.cluster * form.cluster
        a, b = self.a.view(torch.uint8), self.b.view(torch.uint8)
        launcher(form)(a, self.a_scale, b, self.b_scale, out, out_scale, self.indptr, self.count, blocks)

    def expected(self):
        """float64 result of the true rows."""
        result = torch.zeros(len(self.a), N, dtype=torch.float64, device="cuda")
        for e, (start, count) in enumerate(zip(self.first, self.counts, strict=False)):
            rows = slice(start, start + count)
            a = self.a[rows].double().unflatten(1, (-1, 128)) * self.a_scale[:, rows].t().unsqueeze(2)
            b = self.b[e].double().view(N // 128, 128, K // 128, 128) * self.b_scale[e][:, None, :, None]
            result[rows] = a.flatten(1) @ b.reshape(N, K).t()
        return result


def value(form, out, out_scale):
    if not form.fp8_out:
        return out.double()
    return out.view(torch.float8_e4m3fn).double() * out_scale.t().repeat_interleave(128, 1).double()


def worst_row(got, want):
    return ((got - want).norm(dim=1) / want.norm(dim=1)).max().item() if len(want) else 0.0


@pytest.mark.parametrize("form", FORMS, ids=form_id)
@pytest.mark.parametrize("counts", EDGES.values(), ids=EDGES)
def test_true_rows_are_right_and_padding_is_not_touched(form, counts):
    problem = Problem(counts)
    out, out_scale = problem.outputs(form)
    problem.run(form, out, out_scale)
    want, true = problem.expected(), problem.true
    error = worst_row(value(form, out, out_scale)[true], want[true])
    # bfloat16 keeps 8 bits (2^-9 / sqrt 3 is 0.0011), e4m3 4 bits with one scale for 128 columns (0.026).
    assert error < (0.04 if form.fp8_out else 0.004), (
        f"{form_id(form)}, counts {counts}, seed {SEED}: row error {error}"
    )
    if form.fp8_out:
        amax = want[true].unflatten(1, (-1, 128)).abs().amax(2)
        torch.testing.assert_close(out_scale.t()[true].double() * maps.FP8_MAX, amax, rtol=2e-3, atol=0)
        assert out_scale[:, ~true].isnan().all() and not out[~true].any()
    else:
        assert out[~true].isnan().all()


@pytest.mark.parametrize("form", FORMS[4:], ids=form_id)
def test_an_all_zero_row_gets_scale_one(form):
    problem = Problem(EDGES["boundaries"])
    row = problem.first[9]
    problem.a[row] = 0
    out, out_scale = problem.outputs(form)
    problem.run(form, out, out_scale)
    assert (out_scale[:, row] == 1).all() and not out[row].view(torch.float8_e4m3fn).float().any()


@pytest.mark.parametrize("form", FORMS, ids=form_id)
def test_two_hundred_runs_beside_another_stream_are_bitwise_equal(form):
    problem = Problem(EDGES["boundaries"])
    first = problem.outputs(form)
    problem.run(form, *first)
    load, other = torch.randn(4096, 4096, device="cuda"), torch.cuda.Stream()
    different = torch.zeros((), dtype=torch.int64, device="cuda")
    true = problem.true
    for _ in range(200):
        with torch.cuda.stream(other):
            load @ load
        again = problem.outputs(form)
        problem.run(form, *again)
        different += (first[0][true].view(torch.uint8) != again[0][true].view(torch.uint8)).sum()
    torch.cuda.synchronize()
    assert different.item() == 0


@pytest.mark.parametrize("form", FORMS, ids=form_id)
def test_a_captured_launch_follows_new_values_and_new_row_counts(form):
    problem, other = Problem(EDGES["boundaries"]), Problem(EDGES["boundaries"][::-1], seed=SEED + 1)
    out, out_scale = problem.outputs(form)
    problem.run(form, out, out_scale)  # loads the kernel
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        problem.run(form, out, out_scale)
    for name in ("a", "a_scale", "b", "b_scale", "indptr", "count"):
        getattr(problem, name).copy_(getattr(other, name))
    graph.replay()
    true = other.true
    assert worst_row(value(form, out, out_scale)[true], other.expected()[true]) < (0.04 if form.fp8_out else 0.004)


# --- what the host prepares for Blackwell ---------------------------------------------------------------------------


# Flags of bytes 8 and 10 that CuTeDSL sets on both chips, and the driver here does not; Hopper's kernels run with them.
FLAGS = {8: 0x02, 10: 0x24}
DRIVERS_OWN = slice(64, 80)  # there the driver notes the box's bytes


def encoded(expected: Map) -> bytes:
    """A tensor map of bytes with the 128-byte swizzle, by this host's driver."""
    made, rank = (ctypes.c_uint64 * 32)(), len(expected.sizes)
    place = (ctypes.addressof(made) + 127) // 64 * 64  # a map is aligned to 64 bytes
    uint8, no_interleave, swizzle_128, no_promotion, zeros_outside = 0, 0, 3, 0, 0
    status = ctypes.CDLL("libcuda.so.1").cuTensorMapEncodeTiled(
        ctypes.c_void_p(place),
        uint8,
        rank,
        ctypes.c_void_p(expected.address),
        (ctypes.c_uint64 * rank)(*expected.sizes),
        (ctypes.c_uint64 * rank)(*expected.strides),
        (ctypes.c_uint32 * rank)(*expected.box),
        (ctypes.c_uint32 * rank)(*[1] * rank),
        no_interleave,
        swizzle_128,
        no_promotion,
        zeros_outside,
    )
    assert status == 0, f"cuTensorMapEncodeTiled gives {status} for {expected}"
    return ctypes.string_at(place, 128)


BLACKWELL = [form for fp8 in (False, True) for form in gemm.forms("sm_100a", fp8).values()]


@pytest.mark.parametrize("form", BLACKWELL, ids=form_id)
def test_the_tensor_maps_of_blackwells_kernels_are_those_that_the_driver_encodes(form):
    """Nothing of the sm_100a object is launched: its host code is calculated, the driver encodes what is expected."""
    torch.zeros(1, device="cuda")  # makes the context that the driver wants
    host = str(gemm.compile_gemm("gemm1", "sm_100a", form).ir_module)
    for expected, one in zip(expected_maps(form), tensor_maps(host, arguments(form)), strict=True):
        ours, drivers = bytearray(one), bytearray(encoded(expected))
        for place, bits in FLAGS.items():
            ours[place] &= ~bits
        assert not any(ours[DRIVERS_OWN])
        drivers[DRIVERS_OWN] = bytes(16)
        assert ours == drivers, f"{form.name}: {ours.hex()}, by the driver {drivers.hex()}"
