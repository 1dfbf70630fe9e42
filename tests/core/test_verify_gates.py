"""Both gates: what each must pass, what each must reject, and what is known to slip through the published one."""

from __future__ import annotations

import math

import pytest
import torch
from bakeoff.core import bounds as bounds_module
from bakeoff.core import gates
from bakeoff.core.bounds import bounds
from bakeoff.core.gates import Judgement, judge
from bakeoff.core.moe.ambiguity import Ambiguity
from bakeoff.core.moe.emulate import Emulator, pairs_of
from bakeoff.core.moe.geometry import Geometry
from bakeoff.core.moe.inputs import make_inputs
from bakeoff.core.moe.reference import run
from bakeoff.core.moe.routing import active_tokens, local_pairs, route
from bakeoff.errors import InputError
from bakeoff.files import canonical_json
from bakeoff.schema.gates import Rounding
from support.moe_cases import NARROW, TINY, SmallCase, constant_inputs

FULL = Geometry(7168, 2048)
TOKENS, ACTIVE = 24, 18
V3 = Rounding(gemm1_output=("bfloat16", "fp8_block128"), intermediate=("fp8_block128",), gemm2_output=("bfloat16",))


def reference_rows(tokens: int = TOKENS, active: int = ACTIVE, scale: float = 6e4) -> tuple[torch.Tensor, torch.Tensor]:
    """A full-width reference output whose last rows are inactive, and the active flags."""
    y = torch.randn(tokens, FULL.hidden, generator=torch.Generator().manual_seed(0)) * scale
    flags = torch.arange(tokens) < active
    y[~flags] = 0
    return y.bfloat16(), flags


def noisy(y: torch.Tensor, error: float = 0.043, seed: int = 1) -> torch.Tensor:
    """y with noise of a relative L2 error, as honest roundings leave it."""
    noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed)) * y.float().std(dim=1, keepdim=True)
    return (y.float() + error * noise).bfloat16()


def verdict(x: torch.Tensor, y: torch.Tensor, active: torch.Tensor, geometry: Geometry = FULL, **more) -> Judgement:
    return judge(x, y, active, geometry=geometry, **more)


def failed(judgement: Judgement) -> list[str]:
    return [name for name, check in judgement.strict.checks.items() if not check.passed]


def test_an_honest_output_passes_both_gates():
    y, active = reference_rows()
    found = verdict(noisy(y), y, active)
    assert found.published.passed and found.strict.passed
    n = found.numerics
    assert n.relative_l2 == pytest.approx(0.043, abs=1e-3) and n.worst_row_l2 == pytest.approx(0.043, abs=2e-3)
    assert n.matched_ratio == pytest.approx(0.25 + 0.75 * n.matched_ratio_active)
    assert (n.active_rows, n.nonzero_inactive, n.non_finite, n.ambiguous_rows) == (ACTIVE, 0, 0, 0)


def test_the_exact_output_has_no_error():
    y, active = reference_rows()
    n = verdict(y, y, active).numerics
    assert (n.matched_ratio, n.relative_l2, n.worst_row_l2, n.max_abs, n.max_rel) == (1, 0, 0, 0, 0)
    assert n.scale == pytest.approx(1) and n.cosine == pytest.approx(1) and n.calc_diff == pytest.approx(0, abs=1e-12)


def test_numerics_are_those_of_double_precision():
    y, active = reference_rows()
    x = noisy(y, 0.05)
    n = verdict(x, y, active).numerics
    a, b = x[active].double(), y[active].double()
    dot, xx, yy = float((a * b).sum()), float((a * a).sum()), float((b * b).sum())
    assert n.relative_l2 == pytest.approx(float((a - b).norm() / b.norm()), rel=1e-5)
    assert n.worst_row_l2 == pytest.approx(float(((a - b).norm(dim=1) / b.norm(dim=1)).max()), rel=1e-5)
    assert n.cosine == pytest.approx(dot / math.sqrt(xx * yy), rel=1e-6)
    assert n.calc_diff == pytest.approx(1 - 2 * dot / (xx + yy), abs=1e-6)
    assert n.scale == pytest.approx(dot / yy, rel=1e-6)


def columns_zeroed(y: torch.Tensor) -> torch.Tensor:
    x = y.clone()
    x[:, ::10] = 0
    return x


@pytest.mark.parametrize(
    ("name", "make", "scale", "reason"),
    [
        ("scaled by 1.19", lambda y: (y.float() * 1.19).bfloat16(), 6e4, "scale"),
        ("a tenth of the columns zeroed", columns_zeroed, 6e4, "relative_l2"),
        ("all zeros where the output is small", torch.zeros_like, 0.03, "relative_l2"),
    ],
)
def test_what_slips_through_the_published_gate_fails_the_strict_one(name, make, scale, reason):
    y, active = reference_rows(scale=scale)
    found = verdict(make(y), y, active)
    assert found.published.passed, name
    assert reason in failed(found)


def test_the_published_gate_is_flashinfer_benchs():
    utils = pytest.importorskip("flashinfer_bench.bench.utils")
    from flashinfer_bench.bench.config import BenchmarkConfig

    b = bounds().published
    config = BenchmarkConfig(rtol=b.rtol, atol=b.atol, required_matched_ratio=b.required_matched_ratio)
    for error in (0.02, 0.043, 0.055, 0.2):
        for scale in (0.05, 0.3, 6e4):
            y, active = reference_rows(active=22, scale=scale)
            x = noisy(y, error)
            max_abs, max_rel, exceeds, ratio = utils.compute_error_stats(x, y, config)
            found = verdict(x, y, active)
            assert found.published.passed is (not exceeds)
            assert found.numerics.matched_ratio == pytest.approx(ratio)
            assert found.numerics.max_abs == pytest.approx(max_abs)
            assert found.numerics.max_rel == pytest.approx(max_rel)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_non_finite_value_fails_both_gates(value):
    y, active = reference_rows()
    x = y.clone()
    x[3, 5] = value
    found = verdict(x, y, active)
    assert not found.published.passed and not found.strict.passed
    assert found.numerics.non_finite == 1
    assert found.numerics.relative_l2 is None
    assert found.numerics.matched_ratio < 1  # it does not count as matched
    canonical_json(found.numerics.model_dump(mode="json"))  # and the record is valid JSON


def test_an_output_full_of_nan_is_judged_all_the_same():
    y, active = reference_rows()
    found = verdict(torch.full_like(y, math.nan), y, active)
    assert found.numerics.matched_ratio == 0
    assert {"relative_l2", "scale", "non_finite"} <= set(failed(found))
    canonical_json(found.numerics.model_dump(mode="json"))


@pytest.mark.parametrize("value", [1e-30, -0.5])
def test_one_written_element_of_an_inactive_row_fails_the_strict_gate(value):
    y, active = reference_rows()
    x = noisy(y)
    x[-1, 100] = value
    found = verdict(x, y, active)
    assert failed(found) == ["nonzero_inactive"] and found.numerics.nonzero_inactive == 1


def test_one_wrong_row_among_many_fails_the_strict_gate():
    y, active = reference_rows(tokens=600, active=600)
    x = noisy(y)
    x[300] = x[301]
    found = verdict(x, y, active)
    assert "worst_row_l2" in failed(found)


@pytest.mark.parametrize(("factor", "passes"), [(1.0, True), (1.015, True), (1.025, False), (0.975, False)])
def test_the_best_fit_scale_is_bounded_on_both_sides(factor, passes):
    y, active = reference_rows()
    assert verdict((y.float() * factor).bfloat16(), y, active).strict.checks["scale"].passed is passes


def test_without_active_rows_only_exact_zeros_pass():
    y, active = torch.zeros(3, FULL.hidden, dtype=torch.bfloat16), torch.zeros(3, dtype=torch.bool)
    found = verdict(y, y, active)
    assert found.published.passed and found.strict.passed
    assert set(found.strict.checks) == {"nonzero_inactive", "non_finite"}
    assert found.numerics.relative_l2 is None and found.numerics.active_rows == 0
    x = y.clone()
    x[1, 1] = 1e-20
    assert not verdict(x, y, active).strict.passed


def test_the_slice_size_does_not_change_the_answer(monkeypatch):
    y, active = reference_rows()
    x = noisy(y)
    expected = verdict(x, y, active)
    monkeypatch.setattr(gates, "SLICE", {"cpu": 1})
    assert verdict(x, y, active) == expected


def narrow_outputs(tokens: int = 60, offset: int = 32):
    inputs = make_inputs(NARROW, SmallCase(tokens, offset), "fib", 0)
    emulator = Emulator(NARROW, inputs)
    return run(**inputs), emulator.run(V3), active_tokens(emulator.pairs, tokens)


def test_a_narrow_output_is_held_against_its_emulation():
    y, emulated, active = narrow_outputs()
    found = verdict(emulated, y, active, NARROW, emulation=emulated)
    assert found.strict.passed
    assert set(found.strict.checks) == {
        "emulation_l2",
        "emulation_worst_row",
        "relative_l2",
        "nonzero_inactive",
        "non_finite",
    }
    assert found.numerics.emulation_l2 == 0
    assert found.numerics.relative_l2 == pytest.approx(0.043, abs=0.005)
    # The reference itself is not what the declared roundings give.
    assert "emulation_l2" in failed(verdict(y, y, active, NARROW, emulation=emulated))


def test_a_narrow_output_with_few_active_rows_is_not_held_against_the_reference():
    y, emulated, active = narrow_outputs(tokens=14, offset=0)
    assert 0 < int(active.sum()) < 16
    found = verdict(emulated, y, active, NARROW, emulation=emulated)
    assert "relative_l2" not in found.strict.checks and found.strict.passed


def test_one_wrong_narrow_row_is_found():
    y, emulated, active = narrow_outputs(tokens=901, offset=96)
    x = emulated.clone()
    row = int(active.nonzero()[7, 0])
    x[row] = (x[row].float() * 1.05).bfloat16()
    found = verdict(x, y, active, NARROW, emulation=emulated)
    assert found.numerics.emulation_l2 < bounds().strict.narrow.emulation_l2
    assert failed(found) == ["emulation_worst_row"]


def ambiguous_case(offset: int):
    """One ambiguous token (experts 70 and 96 tie for the last place) among clear ones."""
    logits = torch.full((20, 256), -9.0)
    clear = {0: 3.0, 1: 2.9, 2: 2.8, 32: 2.7, 33: 2.6, 64: 2.5, 65: 2.4, 96: 1.0, 70: 1.2, 97: 0.5}
    for expert, value in clear.items():
        logits[:, expert] = value
    logits[4, 70] = 1.0
    inputs = constant_inputs(TINY, logits, torch.full((256,), 5.0, dtype=torch.bfloat16), offset)
    other = inputs | {"routing_logits": logits.clone()}
    other["routing_logits"][4, 96] = 1.001
    return inputs, other


@pytest.mark.parametrize("offset", [64, 96])
def test_an_ambiguous_row_passes_under_any_admissible_routing(offset):
    inputs, other = ambiguous_case(offset)
    routed = route(inputs["routing_logits"], inputs["routing_bias"], 2.5, TINY)
    ambiguity = Ambiguity.of(TINY, inputs, routed, V3)
    assert ambiguity is not None and int(ambiguity.flags.sum()) == 1
    active = active_tokens(local_pairs(routed, offset, TINY), 20)
    emulation = Emulator(TINY, inputs).run(V3)
    for chosen in (inputs, other):
        x = Emulator(TINY, chosen).run(V3)
        found = verdict(x, run(**inputs), active, TINY, emulation=emulation, ambiguous=ambiguity)
        assert found.strict.passed, failed(found)
        assert found.numerics.ambiguous_rows == 1
    x = Emulator(TINY, other).run(V3)
    assert not verdict(x, run(**inputs), active, TINY, emulation=emulation).strict.passed


def test_an_ambiguous_row_that_matches_no_routing_fails():
    inputs, _ = ambiguous_case(64)
    ambiguity = Ambiguity.of(TINY, inputs, route(inputs["routing_logits"], inputs["routing_bias"], 2.5, TINY), V3)
    emulation = Emulator(TINY, inputs).run(V3)
    x = emulation.clone()
    x[4] = (x[4].float() * 1.1).bfloat16()
    active = active_tokens(pairs_of(TINY, inputs), 20)
    found = verdict(x, run(**inputs), active, TINY, emulation=emulation, ambiguous=ambiguity)
    assert "emulation_worst_row" in failed(found)


def test_alternatives_are_computed_for_ambiguous_rows_only():
    y, active = reference_rows()

    class Alternatives:
        flags = torch.arange(TOKENS) == 2
        asked: list[int] = []  # noqa: RUF012

        def rows(self, token: int) -> tuple[torch.Tensor, torch.Tensor]:
            self.asked.append(token)
            return torch.stack([y[token], y[token] * 2]), torch.stack([y[token], y[token] * 2])

    x = noisy(y)
    x[2] = y[2] * 2
    found = verdict(x, y, active, ambiguous=Alternatives())
    assert Alternatives.asked == [2] and found.strict.passed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reference": torch.zeros(2, 5)}, "reference has shape"),
        ({"emulation": torch.zeros(3, 4)}, "emulation has shape"),
        ({"active": torch.zeros(3, dtype=torch.bool)}, "active is"),
        ({"active": torch.zeros(2)}, "active is"),
        ({"emulation": None}, "no emulation"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(change, message):
    arguments = {
        "output": torch.zeros(2, 512),
        "reference": torch.zeros(2, 512),
        "active": torch.ones(2, dtype=torch.bool),
        "emulation": torch.zeros(2, 512),
        "geometry": NARROW,
    } | change
    with pytest.raises(ValueError, match=message):
        judge(**arguments)


@pytest.mark.parametrize("line", ["relative_l2: six percent", "relative_l2x: {max: 0.06}", "relative_l2: {most: 0.06}"])
def test_a_malformed_bounds_file_is_an_input_error(tmp_path, monkeypatch, line):
    wrong = tmp_path / "bounds.yaml"
    wrong.write_text(bounds_module.FILE.read_text().replace("relative_l2: {max: 0.06}", line))
    monkeypatch.setattr(bounds_module, "FILE", wrong)
    bounds.cache_clear()
    with pytest.raises(InputError, match="relative_l2"):
        bounds()
    bounds.cache_clear()


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs an NVIDIA GPU: pytest -m gpu tests/verify on a GPU host"
)
def test_a_gpu_gives_the_same_verdict():
    y, active = reference_rows()
    x = noisy(y)
    on_cpu, on_gpu = verdict(x, y, active), verdict(x.cuda(), y.cuda(), active.cuda())
    for name, value in on_cpu.numerics.model_dump().items():
        assert getattr(on_gpu.numerics, name) == pytest.approx(value, rel=1e-4), name
