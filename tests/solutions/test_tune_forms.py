"""The chips' form tables: what the script makes of times, how it writes them, and that production follows them."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from support.cute_support import ROOT, module

gemm, cute_forms = module("cute_gemm"), module("cute_forms")


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("tune_forms", ROOT / "benchmarks" / "tune_forms.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def times_of(best):
    """Times in which `best(tokens)` is the fastest form by a fifth."""
    names = ("swapped16", "swapped64", "swapped128", "plain")
    return {t: {name: 100.0 if name == best(t) else 125.0 for name in names} for t in (16, 192, 1100, 2048, 3400, 6000)}


def test_limits_are_where_the_fastest_form_changes(script):
    steps = ((192, "swapped16"), (1100, "swapped64"), (3400, "swapped128"), (10**9, "plain"))
    chosen = script.best_limits(times_of(lambda t: next(name for limit, name in steps if t <= limit)), 1100)
    assert chosen == {192: 16, 1100: 64, 3400: 128}


def test_a_form_that_is_never_the_fastest_is_left_out_and_the_overlap_limit_stays(script):
    chosen = script.best_limits(times_of(lambda t: "swapped16" if t <= 192 else "plain"), 1100)
    assert set(chosen.values()) <= {16, 64, 128}
    assert 1100 in chosen, "up to here the kernels overlap, and the plain form does not"
    assert max(chosen) == 1100


def test_a_chips_line_is_put_in_and_replaced(script):
    text = script.TABLE.read_text()
    once = script.write_table(text, "Some GPU", {1100: 64})
    assert '    "Some GPU": {1100: 64},\n' in once
    twice = script.write_table(once, "Some GPU", {192: 16, 1100: 64})
    assert twice == once.replace("{1100: 64}", "{192: 16, 1100: 64}")
    scope: dict[str, object] = {}
    exec(compile(twice, "cute_forms.py", "exec"), scope)
    assert scope["FORMS"] == {**cute_forms.FORMS, "Some GPU": {192: 16, 1100: 64}}


def test_the_plain_form_takes_the_clusters_that_are_faster_at_most_tokens(script):
    times = {16: {"swapped16": 1.0, "plain": 2.0, "plain4": 3.0}, 6000: {"swapped16": 9.0, "plain": 4.0, "plain4": 3.0}}
    assert script.choose_plain(times) == 4
    assert times == {16: {"swapped16": 1.0, "plain": 3.0}, 6000: {"swapped16": 9.0, "plain": 3.0}}
    assert script.choose_plain(times) == 2, "where there is no other"
    text = script.TABLE.read_text()
    four = script.write_cluster(text, "a chip", 4)
    assert 'PLAIN_CLUSTER: dict[str, int] = {"a chip": 4}\n' in four
    assert script.write_cluster(four, "a chip", 2) == text, "two is what every other chip has"


@pytest.mark.parametrize("chip", cute_forms.FORMS)
def test_every_table_rises_and_changes_where_overlap_ends(chip):
    limits = cute_forms.limits(chip)
    assert list(limits) == sorted(limits)
    assert list(limits.values()) == sorted(set(limits.values()))
    assert gemm.OVERLAP_LIMIT in limits
    for limit, form in gemm.forms("sm_90a", True, chip).items():
        assert form.overlap == (limit <= gemm.OVERLAP_LIMIT)


def test_an_h200_takes_the_plain_form_where_an_h100_takes_tiles_of_128():
    assert gemm.pick_form("sm_90a", True, 2048, "NVIDIA H100 80GB HBM3").name == "swapped128"
    assert gemm.pick_form("sm_90a", True, 2048, "NVIDIA H200").name == "plain"
    assert gemm.pick_form("sm_90a", True, 2048, "Some GPU").name == "swapped128", "the default table"


def test_production_runs_the_form_that_pick_form_names(monkeypatch):
    """The rule that tests use is the one that production uses."""
    asked, launched = [], []
    monkeypatch.setattr(gemm, "_require_packages", lambda: None)
    monkeypatch.setattr(gemm, "_multiprocessors", lambda index: 132)
    monkeypatch.setattr(gemm, "_chip", lambda index: "NVIDIA H200")
    plain = gemm.pick_form("sm_90a", False, 10**6)

    def pick(*arguments):
        asked.append(arguments)
        return plain

    monkeypatch.setattr(gemm, "pick_form", pick)
    monkeypatch.setattr(gemm, "compile_gemm", lambda label, arch, form: lambda *args: launched.append((form, args[-1])))
    byte = torch.empty(128, 512, dtype=torch.float8_e4m3fn, device="meta")
    other = torch.empty(1, device="meta")
    gemm.GroupedGemm("gemm2", "sm_90a", False)(byte, other, byte, other, other, None, other, other, 7)
    assert asked == [("sm_90a", False, 7, "NVIDIA H200")]
    assert launched == [(plain, 132)]
