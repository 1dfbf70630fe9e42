"""The CuTeDSL kernels compiled without a GPU, and the host path on tensors without data."""

from __future__ import annotations

import functools
import re
import sys

import pytest
import torch
from bakeoff.build.pack import pack
from bakeoff.build.resources import RESERVED_SHARED_BYTES, inspect_cubin
from bakeoff.build.spec import read_spec
from support.cute_support import ROOT, SHAPES, module, workloads
from support.host_code import arguments, decoded, expected_maps, shared_bytes_of, tensor_maps
from support.solution_support import record_launches

maps = module("cute_maps")
gemm = module("cute_gemm")
checks = module("checks")

pytest.importorskip("cutlass", reason="needs nvidia-cutlass-dsl: make setup")
ARCHES = ("sm_90a", "sm_100a")
MULTIPROCESSOR_SHARED_BYTES, REGISTERS = 228 << 10, 64 << 10  # of a multiprocessor, both chips
BUILT = [(arch, form) for arch in ARCHES for fp8 in (False, True) for form in gemm.forms(arch, fp8).values()]
FOURS = [("sm_100a", form) for fp8 in (False, True) for form in gemm.all_forms(fp8, "sm_100a") if form.cluster == 4]


def built_id(value):
    return f"{value.name}-{'e4m3' if value.fp8_out else 'bf16'}" if isinstance(value, maps.Form) else value


@functools.cache
def compiled(arch, form):
    built = gemm.compile_gemm("gemm1", arch, form)
    return built.__cubin__, built.__ptx__, str(built.ir_module)


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "form"), BUILT + FOURS, ids=built_id)
def test_a_form_compiles_to_its_matrix_instructions_without_spills(arch, form, tmp_path):
    cubin, ptx, host = compiled(arch, form)
    (tmp_path / "k.cubin").write_bytes(cubin)
    used = inspect_cubin(tmp_path / "k.cubin", ptx)
    assert used["stack_bytes"] == used["spill_bytes"] == 0
    assert used["tmem_columns"] == (maps.tmem_columns(form) if arch == "sm_100a" else 0)
    # One K block is 128 wide: four instructions of K = 32 for each pass over the tile. Hopper needs two passes for 256.
    passes = max(1, form.tile_y // 128) if arch == "sm_90a" else 1
    assert used["mma"] == {"wgmma" if arch == "sm_90a" else "tcgen05": 4 * passes}
    assert f".entry {gemm.kernel_name('gemm1', arch, form)}_0" in ptx
    check_register_pools(gemm._kernel_class(arch)(form), used["registers"], ptx)
    # No two blocks, of this GEMM or of the one that overlaps with it, fit into one multiprocessor.
    assert 2 * (shared_bytes_of(host) + RESERVED_SHARED_BYTES) > MULTIPROCESSOR_SHARED_BYTES
    assert shared_bytes_of(host) <= maps.shared_bytes(form)
    # One wait for the kernel before, one word to the kernel after, where kernels overlap.
    assert [ptx.count(f"griddepcontrol.{what}") for what in ("wait", "launch_dependents")] == [int(form.overlap)] * 2


def check_register_pools(kernel, registers, ptx):
    """What warps ask for with setmaxnreg is there: a block that waits for registers that nobody gives back hangs."""
    warps, results = kernel.threads // 32, kernel.store_warps
    assert warps * 32 * registers <= REGISTERS
    asked = {way: int(count) for way, count in re.findall(r"setmaxnreg\.(inc|dec)\S*\s+(\d+)", ptx)}
    if asked:
        assert results % 4 == 0 == (warps - results) % 4, "setmaxnreg works on whole warpgroups"
        assert results * asked["inc"] + (warps - results) * asked["dec"] <= warps * registers
        assert asked["dec"] <= registers <= asked["inc"]


@pytest.mark.slow
@pytest.mark.parametrize("form", [form for arch, form in BUILT if arch == "sm_100a"], ids=built_id)
def test_blackwells_tensor_maps_are_those_that_ran_on_hopper(form):
    """Byte by byte, and with the boxes that the kernel's barriers count on; test_cute_gpu compares with the driver."""
    made = tensor_maps(compiled("sm_100a", form)[2], arguments(form))
    assert made == tensor_maps(compiled("sm_90a", form)[2], arguments(form))
    assert [decoded(one) for one in made] == expected_maps(form)


@pytest.mark.slow
@pytest.mark.parametrize("form", [form for arch, form in BUILT if arch == "sm_90a"], ids=built_id)
def test_hopper_instructions_have_the_tile_of_the_form(form):
    shapes = set(
        re.findall(r"wgmma\.mma_async\.sync\.aligned\.(m\d+n\d+k\d+)\.f32\.e4m3\.e4m3", compiled("sm_90a", form)[1])
    )
    assert shapes == {f"m64n{min(form.tile_y, 128)}k{maps.MMA_K}"}


def test_an_unknown_chip_is_refused():
    with pytest.raises(ValueError, match="no grouped GEMM for sm_80"):
        gemm.compile_gemm("gemm1", "sm_80", BUILT[0][1])


# --- host path --------------------------------------------------------------------------------------------------------


class Recorder:
    """Stands in for a compiled form: checks its arguments against the signature that was compiled."""

    def __init__(self, form):
        self.form, self.calls = form, []

    def __call__(self, *arguments):
        *tensors, blocks = arguments
        sizes = {}
        spec = gemm.signature(self.form)
        assert len(tensors) == len(spec)
        for tensor, (dtype, names, _) in zip(tensors, spec, strict=True):
            assert tensor.dtype == dtype and tensor.is_contiguous() and tensor.dim() == len(names)
            for name, size in zip(names, tensor.shape, strict=True):
                assert sizes.setdefault(name, size) == size, f"{name} is {sizes[name]} and {size}"
                assert size % gemm.SYMBOLS[name] == 0
        assert (
            sizes["K/128"] * 128 == sizes["K"] and sizes["N/128"] * 128 == sizes["N"] and sizes["E+1"] == sizes["E"] + 1
        )
        self.calls.append((sizes, blocks))


def empty(*shape, dtype):
    return torch.empty(*shape, dtype=dtype, device="meta")


def launch(layer, n, k, rows, tokens, fp8_out):
    fp8, f32, i32 = torch.float8_e4m3fn, torch.float32, torch.int32
    out = empty(rows, n, dtype=fp8 if fp8_out else torch.bfloat16)
    out_scale = empty(n // 128, rows, dtype=f32) if fp8_out else None
    weights, scales = empty(32, n, k, dtype=fp8), empty(32, n // 128, k // 128, dtype=f32)
    a, a_scale = empty(rows, k, dtype=fp8), empty(k // 128, rows, dtype=f32)
    groups = empty(33, dtype=i32), empty(32, dtype=i32)
    layer(a, a_scale, weights, scales, out, out_scale, *groups, tokens)


@pytest.fixture
def recorded(monkeypatch):
    """Forms that were asked for, each with the calls it got."""
    recorders = {}
    monkeypatch.setattr(gemm, "compile_gemm", lambda label, arch, form: recorders.setdefault(form, Recorder(form)))
    monkeypatch.setattr(gemm, "_multiprocessors", lambda index: 133)
    return recorders


@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize("fp8_out", [False, True])
def test_every_workload_binds_to_the_compiled_signature(recorded, arch, fp8_out):
    layer = gemm.GroupedGemm("gemm1", arch, fp8_out)
    for case in workloads():
        rows = (case.seq_len * 8 + 32 * 127) // 128 * 128
        for n, k in SHAPES:
            launch(layer, n, k, rows, case.seq_len, fp8_out)
            form = gemm.pick_form(arch, fp8_out, case.seq_len)
            sizes, blocks = recorded[form].calls[-1]
            assert (sizes["M"], sizes["N"], sizes["K"], sizes["E"]) == (rows, n, k, 32)
            assert blocks == 133 // form.cluster * form.cluster, "whole clusters"
    assert sum(len(recorder.calls) for recorder in recorded.values()) == 19 * len(SHAPES)


@pytest.fixture
def launched(monkeypatch):
    """Launches of the whole layer, in order: Triton stages by name, GEMMs with label, form, N and K; each is
    checked."""
    launches = []
    record_launches(
        monkeypatch,
        module("triton_stages"),
        lambda name, arguments, constants: launches.append((name, constants["OVERLAP"])),
    )

    def compile_gemm(label, arch, form):
        recorder = Recorder(form)

        def launch(*arguments):
            recorder(*arguments)
            sizes, _ = recorder.calls[-1]
            launches.append((label, form, sizes["N"], sizes["K"]))

        return launch

    monkeypatch.setattr(gemm, "compile_gemm", compile_gemm)
    monkeypatch.setattr(gemm, "_multiprocessors", lambda index: 133)
    module("cute_layer")._gemms.cache_clear()
    yield launches
    module("cute_layer")._gemms.cache_clear()


def arguments_without_data(case):
    t, fp8, f32 = case.seq_len, torch.float8_e4m3fn, torch.float32
    weights = [empty(32, 4096, 7168, dtype=fp8), empty(32, 32, 56, dtype=f32)]
    weights += [empty(32, 7168, 2048, dtype=fp8), empty(32, 56, 16, dtype=f32)]
    activations = [empty(t, 7168, dtype=fp8), empty(56, t, dtype=f32)]
    routing = [empty(t, 256, dtype=f32), empty(256, dtype=torch.bfloat16)]
    return [*routing, *activations, *weights, case.offset, case.factor, empty(t, 7168, dtype=torch.bfloat16)]


@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize("fp8_epilogue", [False, True])
def test_the_layer_runs_through_on_tensors_without_data(launched, arch, fp8_epilogue):
    """Full width, all workloads, from the eleven arguments to the last launch."""
    for case in workloads():
        call = checks.check_call(*arguments_without_data(case))
        module("cute_layer").run_layer(call, arch, fp8_epilogue)
        first, second = (gemm.pick_form(arch, fp8_out, case.seq_len) for fp8_out in (fp8_epilogue, False))
        overlap = case.seq_len <= 1100
        assert first.overlap == second.overlap == overlap, "all kernels of a call, or none"
        assert launched == [
            *(("route_tokens", overlap), ("permute_rows", overlap), ("gemm1", first, 4096, 7168)),
            *([] if fp8_epilogue else [("quantize_rows", overlap)]),
            *(("swiglu_rows", overlap), ("gemm2", second, 7168, 2048), ("combine_rows", overlap)),
        ]
        launched.clear()


@pytest.mark.parametrize(
    ("experts", "n", "k", "rows"), [(33, 512, 512, 128), (32, 768, 512, 128), (32, 512, 192, 128), (32, 512, 512, 100)]
)
def test_sizes_that_the_kernels_were_not_built_for_are_refused(experts, n, k, rows):
    with pytest.raises(ValueError, match=f"got E={experts}, N={n}, K={k}, M={rows}; expected"):
        gemm.check_sizes(experts, n, k, rows)
    gemm.check_sizes(32, 512, 512, 128)


def test_a_missing_package_is_named(monkeypatch):
    def absent(module_name, distribution, version=""):
        raise checks.MissingPackage(f"cannot import {module_name}; install {distribution}")

    monkeypatch.setattr(gemm, "require", absent)
    with pytest.raises(checks.MissingPackage, match="nvidia-cutlass-dsl"):
        gemm.GroupedGemm("gemm1", "sm_90a", False)


@pytest.mark.parametrize("flaw", ["a missing package", "a hidden size of 384"])
def test_a_call_that_cannot_run_stops_before_its_first_launch(launched, monkeypatch, flaw):
    arguments = arguments_without_data(workloads()[0])
    error = checks.MissingPackage
    if flaw == "a missing package":
        monkeypatch.setitem(sys.modules, "cutlass", None)  # an import of it fails
    else:
        error, sizes = ValueError, {7168: 384, 56: 3}
        for i, value in enumerate(arguments):
            if isinstance(value, torch.Tensor):
                arguments[i] = empty(*(sizes.get(n, n) for n in value.shape), dtype=value.dtype)
    with pytest.raises(error, match="nvidia-cutlass-dsl" if error is checks.MissingPackage else "N=384|K=384"):
        module("cute_layer").run_layer(checks.check_call(*arguments), "sm_90a", True)
    assert launched == []


@pytest.mark.parametrize("name", ["cutedsl_moe_fp8_v3", "cutedsl_moe_fp8_v3_2"])
def test_the_solutions_take_every_file_of_the_gemms_along(name):
    """What travels is derived from the imports."""
    packed = {source.path for source in pack(read_spec(ROOT / "solutions" / name), "any").sources}
    assert {f"common/{path.name}" for path in (ROOT / "solutions" / "common").glob("cute_*.py")} <= packed
