"""The bounds against what correct solutions need: the recorded simulation, a part of it derived again, and the
solutions."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch
from bakeoff.build.pack import pack
from bakeoff.build.spec import discover
from bakeoff.core.bounds import bounds
from bakeoff.core.gates import judge
from bakeoff.core.loader import load_entry, stage
from bakeoff.core.moe.inputs import make_routing
from bakeoff.core.moe.values import make_activations, make_weights
from bakeoff.files import PROJECT_ROOT, read_json
from bakeoff.schema.gates import EXACT
from bakeoff.traces.store import TraceRoot
from bakeoff.verify import simulate
from bakeoff.verify.simulate import FILE, FULL, PLAN, ROUNDINGS, Simulation

RECORDED = read_json(FILE, Simulation)
CASES = {case.id: case for case in TraceRoot(PROJECT_ROOT / "traces").workloads(FULL.name)}
COARSE = ("gemm1_output_bfloat16_fp8", "gemm1_output_fp8")
# What the published solutions' roundings were known to cost at the full width, each +- 0.01.
KNOWN_MATCHED = {"gemm1_output_bfloat16_fp8": 0.866, "gemm1_output_fp8": 0.866, "gemm1_output_bfloat16": 0.927}


def test_the_bounds_are_the_agreed_ones():
    full, narrow = bounds().strict.full, bounds().strict.narrow
    assert {name: (limit.min, limit.max) for name, limit in full.items()} == {
        "relative_l2": (None, 0.06),
        "worst_row_l2": (None, 0.12),
        "calc_diff": (None, 1.8e-3),
        "matched_ratio_active": (0.84, None),
        "scale": (0.98, 1.02),
    }
    assert (narrow.emulation_l2, narrow.reference_l2, narrow.reference_rows) == (0.01, 0.07, 16)
    published = bounds().published
    assert (published.rtol, published.atol, published.required_matched_ratio) == (0.2, 0.1, 0.85)


def test_the_record_covers_the_plan():
    due = {
        (name, family, seed, rounding)
        for name, families, seeds in PLAN
        for family in families
        for seed in seeds
        for rounding in ROUNDINGS
    }
    assert {(o.workload, o.family, o.seed, o.rounding) for o in RECORDED.observations} == due
    assert RECORDED.roundings == ROUNDINGS and RECORDED.definition == FULL.name


def test_no_correct_output_comes_near_a_bound():
    full = bounds().strict.full
    for o in RECORDED.observations:
        n = o.numerics
        assert o.strict and n.non_finite == n.nonzero_inactive == 0
        assert n.relative_l2 < 0.8 * full["relative_l2"].max
        assert n.worst_row_l2 < 0.8 * full["worst_row_l2"].max
        assert n.calc_diff < 0.8 * full["calc_diff"].max
        assert 1 - n.matched_ratio_active < 0.9 * (1 - full["matched_ratio_active"].min)
        assert abs(n.scale - 1) < 0.5 * (full["scale"].max - 1)


def test_single_rows_are_rejected_hardly_ever():
    # Where one row is the whole output, as at T = 1, the bounds of the whole apply to it.
    rows = sum(o.numerics.active_rows for o in RECORDED.observations)
    rejected = sum(o.rows.rejected for o in RECORDED.observations)
    assert rejected <= 1e-3 * rows


def test_matched_ratios_on_fib_values_are_the_known_ones():
    for o in RECORDED.observations:
        if o.family == "fib":
            assert o.numerics.matched_ratio_active == pytest.approx(KNOWN_MATCHED[o.rounding], abs=0.01)
            assert o.numerics.relative_l2 == pytest.approx(0.043 if o.rounding in COARSE else 0.023, abs=0.002)


def test_the_small_workload_comes_out_as_recorded():
    recorded = {o.rounding: o for o in RECORDED.observations if (o.workload, o.family) == ("T7_o192", "fib")}
    for found in simulate.simulate(FULL, "T7_o192", CASES["T7_o192"], "fib", 0):
        before = recorded[found.rounding]
        for name in ("relative_l2", "worst_row_l2", "calc_diff", "matched_ratio_active", "scale"):
            # Another CPU adds in another order, and a few values round to the other side.
            assert getattr(found.numerics, name) == pytest.approx(getattr(before.numerics, name), rel=0.01), name
        assert found.rows.rejected == before.rows.rejected == 0


def test_a_correct_output_that_fails_is_reported(monkeypatch, tmp_path):
    bad = [replace(o, strict=False) for o in RECORDED.observations[:1]]
    monkeypatch.setattr(simulate, "simulate", lambda *args: bad)
    assert simulate.main(["-o", str(tmp_path / "s.json")]) == 1
    monkeypatch.setattr(simulate, "simulate", lambda *args: RECORDED.observations[:1])
    assert simulate.main(["-o", str(tmp_path / "s.json")]) == 0


@pytest.mark.slow
def test_the_solutions_themselves_pass_at_the_full_width(tmp_path):
    case = CASES["T1_o32"]
    outputs, active = simulate.forward(FULL, case, "fib", 0, {"exact": EXACT, **ROUNDINGS})
    logits, bias = make_routing(FULL, case)
    states, scale = make_activations(FULL, case, "fib", 0)
    pairs = simulate.pairs_of(
        FULL,
        {
            "routing_logits": logits,
            "routing_bias": bias,
            "local_expert_offset": case.offset,
            "routed_scaling_factor": case.factor,
        },
    )
    weights = weights_of([expert for expert, _ in pairs.spans])
    for spec in discover(PROJECT_ROOT / "solutions"):
        solution = pack(spec, FULL.name)
        run = load_entry(stage(solution, tmp_path / spec.name), solution)
        output = torch.full((case.seq_len, FULL.hidden), float("nan"), dtype=torch.bfloat16)
        run(logits, bias, states, scale, *weights.values(), case.offset, case.factor, output)
        found = judge(output, outputs["exact"], active, geometry=FULL)
        assert found.published.passed and found.strict.passed, (spec.name, found)
        declared = spec.backends["cpu"].rounding
        known = KNOWN_MATCHED["gemm1_output_bfloat16" if "fp8_block128" not in declared.gemm1_output else COARSE[0]]
        assert found.numerics.matched_ratio_active == pytest.approx(known, abs=0.01), spec.name
        shutil.rmtree(tmp_path / spec.name)


def weights_of(experts: list[int]) -> dict[str, torch.Tensor]:
    """Full-width weights of which only some experts are drawn: the others are never read."""
    shapes = {name: shape for name, shape in FULL.shapes(1).items() if name.startswith("gemm")}
    made = {
        name: torch.zeros(shape, dtype=torch.float32 if name.endswith("scale") else torch.float8_e4m3fn)
        for name, shape in shapes.items()
    }
    for expert in experts:
        for name, tensor in make_weights(FULL, "fib", 0, experts=range(expert, expert + 1)).items():
            made[name][expert] = tensor[0]
    return made
