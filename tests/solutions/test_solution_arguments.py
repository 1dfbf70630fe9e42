"""Bad arguments, devices and packages: a typed error that names the culprit, before anything runs."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from support.solution_support import NAMES, make_inputs, module_of, package_of, spec_of

ARGUMENTS = (
    ("routing_logits", (8, 256), torch.float32),
    ("routing_bias", (256,), torch.bfloat16),
    ("hidden_states", (8, 512), torch.float8_e4m3fn),
    ("hidden_states_scale", (4, 8), torch.float32),
    ("gemm1_weights", (32, 512, 512), torch.float8_e4m3fn),
    ("gemm1_weights_scale", (32, 4, 4), torch.float32),
    ("gemm2_weights", (32, 512, 256), torch.float8_e4m3fn),
    ("gemm2_weights_scale", (32, 4, 2), torch.float32),
    ("output", (8, 512), torch.bfloat16),
)
TENSORS = [name for name, _, _ in ARGUMENTS]


@pytest.fixture(scope="module")
def good():
    return {**make_inputs(8), "output": torch.zeros(8, 512, dtype=torch.bfloat16)}


@pytest.fixture(scope="module")
def run():
    return module_of("deepgemm_moe", "solution").run


def call(run, good, **changes):
    run(*{**good, **changes}.values())


def test_the_table_above_describes_valid_arguments(run, good):
    assert [(n, tuple(good[n].shape), good[n].dtype) for n in TENSORS] == [list(a) and a for a in ARGUMENTS]
    call(run, good)


@pytest.mark.parametrize("name", TENSORS)
def test_a_wrong_dtype_is_a_type_error_that_names_the_argument(run, good, name):
    with pytest.raises(TypeError, match=rf"^{name} is torch.float64; expected {good[name].dtype}"):
        call(run, good, **{name: torch.zeros(good[name].shape, dtype=torch.float64)})
    same_size = {1: torch.uint8, 2: torch.float16, 4: torch.int32}[good[name].dtype.itemsize]
    with pytest.raises(TypeError, match=rf"^{name} is {same_size}; expected {good[name].dtype}"):
        call(run, good, **{name: torch.zeros(good[name].shape, dtype=same_size)})


@pytest.mark.parametrize("name", TENSORS)
def test_something_else_than_a_tensor_is_a_type_error(run, good, name):
    with pytest.raises(TypeError, match=rf"^{name} is list; expected a torch.Tensor"):
        call(run, good, **{name: [1.0]})


@pytest.mark.parametrize("name", [n for n in TENSORS if n not in ("hidden_states", "gemm2_weights")])
def test_a_wrong_shape_is_a_value_error_that_shows_both(run, good, name):
    wrong = torch.zeros(*good[name].shape[:-1], good[name].shape[-1] + 16, dtype=good[name].dtype)
    with pytest.raises(ValueError, match=rf"^{name} has shape .*; expected"):
        call(run, good, **{name: wrong})


@pytest.mark.parametrize("name", TENSORS)
def test_a_wrong_rank_is_a_value_error(run, good, name):
    with pytest.raises(ValueError, match=rf"^{name} has shape"):
        call(run, good, **{name: good[name].unsqueeze(0)})


@pytest.mark.parametrize("name", ["hidden_states", "gemm2_weights"])
@pytest.mark.parametrize("columns", [0, 64, 640 + 1])
def test_columns_that_are_no_multiple_of_128_are_refused(run, good, name, columns):
    wrong = torch.zeros(*good[name].shape[:-1], columns, dtype=torch.float8_e4m3fn)
    with pytest.raises(ValueError, match=rf"^{name} has {columns} columns; expected a positive multiple of 128"):
        call(run, good, **{name: wrong})


@pytest.mark.parametrize("name", [n for n in TENSORS if n != "routing_bias"])
def test_a_transposed_view_is_refused_with_its_strides(run, good, name):
    wrong = good[name].transpose(-1, -2).contiguous().transpose(-1, -2)
    with pytest.raises(ValueError, match=rf"^{name} has strides"):
        call(run, good, **{name: wrong})
    padded = torch.zeros(*good[name].shape[:-1], good[name].shape[-1] + 16, dtype=good[name].dtype)
    with pytest.raises(ValueError, match=rf"^{name} has strides"):
        call(run, good, **{name: padded[..., :-16]})


@pytest.mark.parametrize("name", TENSORS)
def test_another_device_is_refused(run, good, name):
    wrong = torch.empty(good[name].shape, dtype=good[name].dtype, device="meta")
    expected = "^routing_logits is on cpu" if name == "hidden_states" else f"^{name} is on meta; expected cpu"
    with pytest.raises(ValueError, match=expected):
        call(run, good, **{name: wrong})


def test_an_address_that_is_not_aligned_is_refused(run, good):
    shifted = torch.zeros(8 * 512 + 1, dtype=torch.float8_e4m3fn)[1:].view(8, 512)
    with pytest.raises(ValueError, match=r"^hidden_states starts at an address that is no multiple of 16"):
        call(run, good, hidden_states=shifted)


def test_an_empty_batch_is_refused(run):
    empty = {**make_inputs(0), "output": torch.zeros(0, 512, dtype=torch.bfloat16)}
    with pytest.raises(ValueError, match=r"^hidden_states has 0 tokens"):
        run(*empty.values())


@pytest.mark.parametrize("offset", [-32, 1, 33, 225, 256, 512])
def test_an_offset_that_starts_no_group_is_refused(run, good, offset):
    with pytest.raises(ValueError, match=rf"^local_expert_offset is {offset}; expected a multiple of 32 in \[0, 224\]"):
        call(run, good, local_expert_offset=offset)


@pytest.mark.parametrize("offset", [32.0, "32", True, None])
def test_an_offset_of_another_type_is_refused(run, good, offset):
    with pytest.raises(TypeError, match=r"^local_expert_offset is"):
        call(run, good, local_expert_offset=offset)


def test_a_factor_must_be_a_finite_number(run, good):
    for factor in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"^routed_scaling_factor is"):
            call(run, good, routed_scaling_factor=factor)
    for other in ("2.5", True, None):
        with pytest.raises(TypeError, match=r"^routed_scaling_factor is"):
            call(run, good, routed_scaling_factor=other)
    call(run, good, routed_scaling_factor=2)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("capability", "backend"), [((9, 0), "sm_90a"), ((10, 0), "sm_100a"), ((8, 0), None)])
def test_the_chip_decides_the_backend(monkeypatch, name, capability, backend):
    checks, backends = module_of(name, "common.checks"), module_of(name, "solution").BACKENDS
    assert set(backends) == set(spec_of(name).backends)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some GPU")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    device = torch.device("cuda", 0)
    if backend in backends:
        assert checks.pick_backend(device, backends) == backend
    else:
        with pytest.raises(checks.UnsupportedDevice, match=r"no backend for Some GPU \(compute capability"):
            checks.pick_backend(device, backends)


@pytest.mark.parametrize("name", NAMES)
def test_the_entry_point_hands_the_checked_call_to_the_backends_file(monkeypatch, good, name):
    checks, cuda = module_of(name, "common.checks"), module_of(name, "cuda")
    seen = []
    monkeypatch.setattr(cuda, "run_cuda", lambda call, backend: seen.append((call, backend)))
    monkeypatch.setattr(checks, "pick_backend", lambda device, backends: backends[1])
    checks.entry_point(package_of(name).name, ("cpu", "sm_90a"))(**good)
    ((made, backend),) = seen
    assert backend == "sm_90a"
    assert made.output is good["output"] and made.expert_offset == good["local_expert_offset"]


def test_an_argument_too_few_is_a_type_error_that_names_it(run, good):
    with pytest.raises(TypeError, match="'output'"):
        run(*list(good.values())[:-1])


def test_a_device_that_is_not_the_current_one_is_refused(monkeypatch):
    checks = module_of("deepgemm_moe", "common.checks")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    with pytest.raises(ValueError, match="hidden_states is on cuda:1, but the current device is cuda:0"):
        checks.pick_backend(torch.device("cuda", 1), ("sm_90a",))


def test_a_device_of_another_kind_is_refused():
    checks = module_of("deepgemm_moe", "common.checks")
    with pytest.raises(checks.UnsupportedDevice, match="no backend for meta; this solution has cpu, sm_90a"):
        checks.pick_backend(torch.device("meta"), ("cpu", "sm_90a"))


def test_an_absent_package_is_named_with_what_to_install():
    checks = module_of("deepgemm_moe", "common.checks")
    with pytest.raises(checks.MissingPackage, match=r"cannot import no_such_module .*; install no-such==1.2"):
        checks.require("no_such_module", "no-such", "1.2")


def test_a_package_that_objects_while_it_is_imported_is_named(monkeypatch, tmp_path):
    (tmp_path / "particular.py").write_text("raise RuntimeError('particular-data 0.2 does not match particular 0.1')")
    monkeypatch.syspath_prepend(tmp_path)
    checks = module_of("deepgemm_moe", "common.checks")
    with pytest.raises(checks.MissingPackage, match=r"RuntimeError: particular-data .*; install particular$"):
        checks.require("particular", "particular")


def test_another_version_of_a_package_is_named():
    checks = module_of("deepgemm_moe", "common.checks")
    major = torch.__version__.split(".")[0]
    assert checks.require("torch", "torch", major) is torch
    with pytest.raises(checks.MissingPackage, match=r"torch is .*; expected 0.1: install torch==0.1"):
        checks.require("torch", "torch", "0.1")


@pytest.mark.parametrize(
    ("name", "module", "loader", "arguments"),
    [
        ("triton_fused_moe_v2", "sgl_kernel", "_load_gemm", ()),
        ("deepgemm_moe", "deep_gemm", "_load", ()),
        ("flashinfer_moe", "flashinfer.gemm", "_load", ("flashinfer.gemm", "fp8_blockscale_gemm_sm90")),
    ],
)
def test_a_package_without_the_operator_is_named(monkeypatch, name, module, loader, arguments):
    cuda, checks = module_of(name, "cuda"), module_of(name, "common.checks")
    monkeypatch.setitem(sys.modules, module.split(".")[0], torch)
    monkeypatch.setitem(sys.modules, module, torch.nn)  # any module that lacks it
    load = getattr(cuda, loader)
    load.cache_clear()
    with pytest.raises(checks.MissingPackage, match=rf"{module}.* has no .*; install"):
        load(*arguments)
    load.cache_clear()


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        (name, b)
        for name in NAMES
        if "cutedsl" not in name and spec_of(name).dependencies != ["torch", "triton"]
        for b in spec_of(name).backends
        if b != "cpu"
    ],
)
def test_a_missing_package_stops_a_call_before_its_first_launch(monkeypatch, good, name, backend):
    cuda, checks = module_of(name, "cuda"), module_of(name, "common.checks")
    for module in ("sgl_kernel", "deep_gemm", "humming", "flashinfer", "flashinfer.fused_moe", "flashinfer.gemm"):
        monkeypatch.setitem(sys.modules, module, None)  # an import of it fails
    monkeypatch.setattr(module_of(name, "common.triton_stages"), "_launch", lambda *launch: pytest.fail("launched"))
    with pytest.raises(
        checks.MissingPackage, match=r"install (sglang-kernel|sgl-deep-gemm|humming-kernels|flashinfer-python)"
    ):
        cuda.run_cuda(checks.check_call(**good), backend)


def test_a_backend_that_refuses_wrong_tensors_is_asked_first_and_the_checks_only_if_it_raises(monkeypatch):
    checks = module_of("deepgemm_moe", "common.checks")
    device = torch.device("cuda", 0)
    done: list[str] = []
    tensor = SimpleNamespace(device=device)
    arguments = [*[tensor] * 8, 32, 2.5, tensor]
    backend = ModuleType("trusting.cuda")
    broken: list[str] = []

    def run_cuda(call, backend):
        if broken:
            raise RuntimeError(*broken)
        done.append("run")

    backend.run_cuda = run_cuda
    monkeypatch.setitem(sys.modules, "trusting", ModuleType("trusting"))
    monkeypatch.setitem(sys.modules, "trusting.cuda", backend)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(checks, "pick_backend", lambda *_: "sm_90a")
    monkeypatch.setattr(checks, "check_call", lambda *given: done.append("check") or checks.MoeCall(*given))

    run = checks.entry_point("trusting", ("sm_90a",))
    run(*arguments)
    run(*arguments)
    assert done == ["check", "run"] * 2, "a backend that says nothing is not trusted"
    backend.REFUSES_WRONG_TENSORS = True
    run = checks.entry_point("trusting", ("sm_90a",))
    done.clear()
    for _ in range(3):
        run(*arguments)
    assert done == ["check", *["run"] * 3], "looked at once"
    with pytest.raises(ValueError, match="local_expert_offset is 33"):
        run(*arguments[:8], 33, 2.5, tensor)

    broken.append("its own words")
    done.clear()
    with pytest.raises(RuntimeError, match="its own words"):
        run(*arguments)
    assert done == ["check"], "the checks found nothing"
    broken.clear()
    done.clear()
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    run(*arguments)
    assert done == ["check", "run"], "another device is current: the checks decide"


def test_a_triton_launch_passes_addresses_and_makes_nothing_anew():
    stages = module_of("deepgemm_moe", "common.triton_stages")
    passed: list[tuple] = []
    built = SimpleNamespace(run=lambda *given: passed.append(given), function=7, packed_metadata=b"m")
    tensor = torch.zeros(4)
    stages.launcher(built)((1, 2, 3), 9, (tensor, 5, 2.5), (128, True))
    assert passed == [(1, 2, 3, 9, 7, b"m", None, None, None, tensor.data_ptr(), 5, 2.5, 128, True)]
