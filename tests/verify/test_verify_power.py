"""The mutants: each is a mistake, the strict gate finds it, and a blind gate is found out."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from bakeoff import locks
from bakeoff.cli import main
from bakeoff.core.moe.inputs import make_inputs
from bakeoff.core.moe.reference import run
from bakeoff.core.moe.values import make_weights
from bakeoff.files import PROJECT_ROOT, canonical_json
from bakeoff.traces.store import TraceRoot
from bakeoff.verify import power, verbs
from bakeoff.verify.mutants import MUTANTS, Honest, Shared, routed
from support.moe_cases import NARROW, SmallCase

ROOT = TraceRoot(PROJECT_ROOT / "traces")
# Each must at least be among the mutants.
LISTED = {
    "gate_up_swapped",
    "biased_weights",
    "no_renormalisation",
    "no_factor",
    "no_group_limit",
    "top_7",
    "offset_off_by_one",
    "expert_dropped",
    "last_token_dropped",
    "kblock_scales_swapped",
    "w2_scale_transposed",
    "stale_row",
    "inactive_row_written",
    "columns_zeroed",
    "scaled",
}


def cases(up_to: int):
    return [(case.id, case) for case in ROOT.workloads(NARROW.name) if case.seq_len <= up_to]


def honest(tokens: int, offset: int, **changed) -> Honest:
    inputs = make_inputs(NARROW, SmallCase(tokens, offset), "fib", 0) | changed
    return Honest(NARROW, inputs, routed(NARROW, inputs), power.ROUNDING, Shared.of(inputs))


def test_all_listed_mistakes_are_there_and_must_die():
    assert {mutant.name for mutant in MUTANTS if mutant.must_die} >= LISTED
    assert [mutant.name for mutant in MUTANTS if not mutant.must_die] == ["output_in_fp8"]
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_differs_from_the_honest_output(mutant):
    # Only many tokens fill a tile of 128 rows.
    solution = honest(5000, 96) if mutant.name == "partial_tile_dropped" else honest(901, 96)
    before = solution.output.clone()
    wrong = mutant.make(solution)
    assert wrong.shape == before.shape and wrong.dtype == torch.bfloat16
    assert not torch.equal(wrong, before)
    assert torch.equal(solution.output, before)  # it left the honest output alone


def test_mutants_are_the_mistakes_that_they_name():
    h = honest(80, 96)
    made = {mutant.name: mutant.make(h).float() for mutant in MUTANTS}
    right = h.output.float()
    assert torch.allclose(made["no_factor"] * 2.5, right, rtol=0.02, atol=1)
    assert int((made["stale_row"] != right).any(dim=1).sum()) == 1
    assert int((made["inactive_row_written"] != right).sum()) == 1
    assert 0.05 <= float((made["columns_zeroed"] == 0).float()[h.active].mean()) <= 0.06
    assert torch.equal(made["combine_overwrites"][~h.active], right[~h.active])
    top_7, last = made["top_7"], h.routing.ids[:, 7]
    local_last = (last >= 96) & (last < 128)
    changed = (top_7 != right).any(dim=1)
    assert changed[local_last].all() and torch.equal(changed, h.active)  # the weights of all others grow


def test_the_last_token_alone_is_dropped():
    h = next(h for tokens in range(8, 60) if (h := honest(tokens, 96)).active[-2:].all())
    dropped = {mutant.name: mutant for mutant in MUTANTS}["last_token_dropped"].make(h)
    assert not dropped[-1].any()
    assert torch.equal(dropped[:-1], h.output[:-1])


def test_mutants_of_choice_are_the_reference_on_the_changed_choice():
    h = honest(901, 96)
    no_bias = {mutant.name: mutant for mutant in MUTANTS}["no_bias_in_choice"].make(h).float()
    flat = run(**(h.inputs | {"routing_bias": torch.zeros(256, dtype=torch.bfloat16)})).float()
    assert float((no_bias - flat).norm() / flat.norm()) < 0.06


def test_mutants_without_effect_are_excluded_and_counted():
    # One token: no inactive row to write to, no scales to transpose, no full tile.
    found = power.gate_power(NARROW, [("T1_o32", SmallCase(1, 32, seed=27))], ["fib"])
    by_name = {mutant.name: mutant for mutant in found.mutants}
    for name in ("inactive_row_written", "activation_scales_row_major", "partial_tile_dropped"):
        assert (by_name[name].cells, by_name[name].excluded, by_name[name].killed_strict) == (1, 1, 0)
    assert found.excluded == sum(mutant.excluded for mutant in found.mutants if mutant.must_die) >= 3
    assert found.counted + found.excluded == len(MUTANTS) - 1


def test_the_strict_gate_kills_what_the_published_one_lets_live():
    found = power.gate_power(NARROW, cases(up_to=62), ["fib"])
    assert found.killed_strict >= 0.95 * found.counted > 200
    assert found.killed_published < 0.7 * found.counted
    assert found.honest_rejected_strict == 0 and found.honest_cells == len(cases(up_to=62))
    assert found.sufficient
    canonical_json(found.model_dump(mode="json"))


@pytest.mark.slow
def test_the_strict_gate_kills_in_both_families():
    # Every run of the workflow does this for all 19 workloads, and fails where it does not hold.
    found = power.gate_power(NARROW, cases(up_to=901), ["fib", "realistic"])
    assert found.honest_cells == 34 and found.honest_rejected_strict == 0 and found.honest_rejected_published == 0
    assert found.killed_strict >= 0.95 * found.counted
    assert found.killed_published < found.killed_strict
    for mutant in found.mutants:
        if mutant.must_die:
            assert mutant.killed_strict >= 0.9 * (mutant.cells - mutant.excluded), mutant.name


def test_a_gate_that_passes_everything_is_found_out(monkeypatch):
    real = power.judge

    def blind(*args, **kwargs):
        found = real(*args, **kwargs)
        return replace(found, strict=found.strict.model_copy(update={"passed": True}))

    monkeypatch.setattr(power, "judge", blind)
    found = power.gate_power(NARROW, cases(up_to=7), ["fib"])
    assert found.killed_strict == 0 and not found.sufficient
    assert len(found.survivors) == found.counted
    assert "survived: scaled on T7_o192, fib" in power.summary(found)


def test_a_gate_that_rejects_everything_is_found_out(monkeypatch):
    real = power.judge

    def deaf(*args, **kwargs):
        found = real(*args, **kwargs)
        return replace(found, strict=found.strict.model_copy(update={"passed": False}))

    monkeypatch.setattr(power, "judge", deaf)
    found = power.gate_power(NARROW, cases(up_to=7), ["fib"])
    assert found.killed_strict == found.counted and found.honest_rejected_strict == 2 and not found.sufficient


def test_sampled_rows_are_rows_of_the_whole():
    case = dict(cases(up_to=901))["T901_o96"]
    weights = make_weights(NARROW, "fib", 0)
    whole, routed = power._inputs(NARROW, case, "fib", 0, weights, None, "cpu")
    sampled, some = power._inputs(NARROW, case, "fib", 0, weights, 12, "cpu")
    tokens = power._sample(NARROW, routed, case.offset, 12)
    assert len(tokens) <= 13 and int(tokens[-1]) == 900
    assert torch.equal(some.ids, routed.ids[tokens])
    a, b = run(**whole)[tokens].float(), run(**sampled).float()
    assert torch.allclose(a, b, rtol=2**-7, atol=1)
    active = b.any(dim=1)
    assert 4 <= int(active.sum()) <= 7


def test_the_verb_writes_the_file_and_says_what_it_found(tmp_path, capsys):
    root = tmp_path / "traces"
    for kind in ("definitions", "workloads"):
        (root / kind / "moe").mkdir(parents=True)
    definition = next((ROOT.path / "definitions").rglob(f"{NARROW.name}.json"))
    (root / "definitions/moe" / definition.name).write_bytes(definition.read_bytes())
    lines = (ROOT.path / "workloads/moe" / f"{NARROW.name}.jsonl").read_text().splitlines(keepends=True)
    (root / "workloads/moe" / f"{NARROW.name}.jsonl").write_text("".join(lines[1:3]))
    target = tmp_path / "out" / "gate_power.json"
    assert main(["gate-power", "--traces-root", str(root), "--families", "fib", "-o", str(target)]) == 0
    document = json.loads(target.read_text())
    assert document["definition"] == NARROW.name and document["honest_cells"] == 2
    shown = capsys.readouterr().out
    assert f"{document['killed_strict']} of {document['counted']} wrong outputs killed by the strict gate" in shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device", "cuda"], "--device\n  found:    cuda"),
        (["--rows", "-1"], "--rows\n  found:    -1"),
        (["--families", "gaussian"], "found:    'gaussian'"),
        (["--definition", "no_such_definition"], "no_such_definition"),
    ],
)
def test_options_that_cannot_be_used_are_input_errors(options, message, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["gate-power", *options, "-o", str(tmp_path / "x.json")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x.json").exists()


def test_on_a_gpu_its_lock_is_held_on_a_cpu_none(tmp_path, monkeypatch):
    taken = tmp_path / "GPU-7.lock"
    monkeypatch.setattr(locks, "gpu_lock", lambda uuid: tmp_path / f"{uuid}.lock")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="7", name="H100"))
    with verbs._alone("cpu"):
        assert not taken.exists()
    with verbs._alone("cuda"), pytest.raises(SystemExit, match="at work on"), locks.hold(taken, "it", sys.exit):
        pass
    with locks.hold(taken, "it", sys.exit):
        pass
