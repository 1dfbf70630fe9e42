"""Reading runs and published tables: what is wrong with a file is said with file, line and field, and exits with 2."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from bakeoff.cli import main
from bakeoff.errors import InputError
from bakeoff.files import PROJECT_ROOT
from bakeoff.runs.samples import Samples, times_frame
from bakeoff.stats.beside import compared, load
from bakeoff.stats.published import load_published
from bakeoff.stats.runs import load_run
from bakeoff.stats.verbs import analysis_of
from support.made_journals import edit
from support.make import Made, named, write

PUBLISHED = PROJECT_ROOT / "results/published"


@pytest.fixture
def run(tmp_path) -> Path:
    return write(Made(name="run", blocks=3, workloads=[(16, 224), (901, 96)]), tmp_path / "run")


@pytest.fixture
def table(tmp_path) -> Path:
    return Path(shutil.copytree(PUBLISHED / "2026-02-26_2way", tmp_path / "2026-02-26_2way"))


def refused(run: Path) -> str:
    with pytest.raises(InputError) as error:
        load(run)
    assert error.value.exit_code == 2
    return str(error.value)


def at(workload: str, change, kind: str = "measure"):
    """A change of the records of one workload."""

    def changed(record: dict) -> None:
        if record["workload"] == workload and record["kind"] == kind:
            change(record)

    return changed


@pytest.mark.parametrize("participant", ["flashinfer_moe", "reference"])
@pytest.mark.parametrize("value", [0.0, -1.5])
def test_no_time_is_taken_that_is_none(run, value, participant):
    assert edit(run, at("T16_o224", lambda one: one["tiers"].update(cupti_span_us=[value])), participant, "01") == 1
    message = refused(run)
    assert f"samples/block-01/{participant}.jsonl: T16_o224" in message and "a time of 0 or less" in message


def test_a_block_that_was_not_planned_is_refused(run):
    assert edit(run, lambda one: one.update(block=7), "flashinfer_moe", "01")
    assert "block 7" in refused(run) and "block 1" in refused(run)


def test_a_block_that_is_there_twice_is_refused(run):
    assert edit(run, lambda one: one.update(block=0), "flashinfer_moe", "01")
    assert "block 0" in refused(run) and "block 1" in refused(run)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, -3.0, True, "12"])
def test_samples_refuse_what_is_no_time(value):
    with pytest.raises(InputError, match="finite time above 0"):
        Samples.of(times_frame([("one", "T1", 0, value, None, "")]), ["one"], ["T1"])


def test_a_sample_that_is_there_twice_is_refused():
    twice = times_frame([("one", "T1", 0, 1.0, None, ""), ("one", "T1", 0, 2.0, None, "")])
    with pytest.raises(InputError, match="second time"):
        Samples.of(twice, ["one"], ["T1"])


@pytest.mark.parametrize(("outcome", "left"), [("INCORRECT_NUMERICAL", 0), ("REJECTED", 0), ("DISTURBED", 2)])
def test_a_failed_block_costs_the_cell_and_a_disturbed_one_itself(run, outcome, left):
    change = at("T16_o224", lambda one: one.update(outcome=outcome, tiers={}))
    assert edit(run, change, "flashinfer_moe", "01") == 1
    data = load_run(run)
    there = np.isfinite(data.samples.log_time[data.samples.solutions.index("flashinfer_moe")]).sum(axis=1)
    assert there.tolist() == [left, 3]


def test_an_outcome_outside_the_closed_list_is_refused(run):
    edit(run, at("T16_o224", lambda one: one.update(outcome="FINE")), "flashinfer_moe", "01")
    message = refused(run)
    assert "flashinfer_moe.jsonl:1" in message and "FINE" in message


def test_a_run_of_another_schema_version_is_refused(run):
    path = run / "config.json"
    path.write_text(path.read_text().replace("bakeoff/plan/1", "bakeoff/plan/9"))
    assert "bakeoff/plan/9" in refused(run)


@pytest.mark.parametrize("content", ["[1, 2", "[" * 100_000, '{"counted": NaN}', "7"])
@pytest.mark.parametrize("name", ["host.json", "gate_power.json"])
def test_a_malformed_side_document_is_refused_with_its_name(run, name, content):
    (run / name).write_text(content)
    assert name in refused(run)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    assert "neither config.json nor meta.yaml" in refused(tmp_path)


def test_a_reference_that_is_missing_in_a_block_is_said(run):
    edit(run, at("T16_o224", lambda one: one.update(outcome="DISTURBED", tiers={})), "reference", "00")
    data = load_run(run)
    check = next(check for check in data.checks if check.code == "same_reference")
    assert check.status == "failed" and len(check.items) == 4
    assert np.isfinite(data.samples.log_speedup[0, 0]).sum() == 2


def test_a_block_in_which_only_the_reference_ran_is_no_sample(run):
    edit(run, at("T16_o224", lambda one: one.update(outcome="DISTURBED", tiers={})), "flashinfer_moe", "00")
    data = load_run(run)
    assert next(check for check in data.checks if check.code == "same_reference").status == "ok"
    assert data.samples.blocks == [0, 1, 2]


def test_a_run_without_mutants_has_no_gate_power(tmp_path):
    assert load_run(write(named("four", gate_power=False), tmp_path / "run")).gate_power is None


def test_the_published_tables_are_read_whole():
    shapes = {
        name: load_published(PUBLISHED / name).samples.log_time.shape
        for name in ("2026-02-26_4way", "2026-02-26_2way", "2026-02-04_4way")
    }
    assert shapes == {"2026-02-26_4way": (4, 19, 1), "2026-02-26_2way": (2, 19, 1), "2026-02-04_4way": (4, 19, 1)}


def test_a_row_that_stands_twice_without_offsets_is_kept_apart():
    ids = [workload.id for workload in load_published(PUBLISHED / "2026-02-04_4way").workloads]
    assert ids.count("T54") == 1 and ids.count("T54_row2") == 1


@pytest.mark.parametrize(
    ("old", "new", "place", "expected"),
    [
        ("1,32,21.97,26.43", "1,32,nan,26.43", "speedups.csv:2: flashinfer_moe", "above 0"),
        ("1,32,21.97,26.43", "1,32,0,26.43", "speedups.csv:2: flashinfer_moe", "above 0"),
        ("1,32,21.97,26.43", "1,32,fast,26.43", "speedups.csv:2: flashinfer_moe", "above 0"),
        ("1,32,21.97,26.43", "1,32,21.97", "speedups.csv:2", "4 columns"),
        ("1,32,21.97,26.43", "-1,32,21.97,26.43", "speedups.csv:2: seq_len", "whole number"),
        ("7,192,", "1,32,", "speedups.csv:3", "once"),
        ("flashinfer_moe", "flash", "speedups.csv:1", "seq_len,local_expert_offset,flashinfer_moe"),
    ],
)
def test_a_malformed_table_is_refused_with_line_and_column(table, old, new, place, expected):
    path = table / "speedups.csv"
    path.write_text(path.read_text().replace(old, new, 1))
    message = refused(table)
    assert place in message and expected in message


def test_an_empty_field_is_a_cell_without_a_value(table):
    path = table / "speedups.csv"
    path.write_text(path.read_text().replace("1,32,21.97,", "1,32,,", 1))
    assert load_published(table).samples.log_time.shape == (2, 19, 1)


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("backend: sm_100a", "backend: tpu", "backend"),
        ("title:", "headline:", "headline"),
        ("date: 2026-02-26", "date: soon", "date"),
    ],
)
def test_a_malformed_meta_file_is_refused_with_its_field(table, old, new, field):
    path = table / "meta.yaml"
    path.write_text(path.read_text().replace(old, new, 1))
    message = refused(table)
    assert "meta.yaml" in message and field in message


def test_analyse_writes_the_document(run, capsys):
    assert main(["analyse", str(run)]) == 0
    document = json.loads((run / "analysis.json").read_text())
    assert document["schema"] == "bakeoff/analysis/1" and len(document["cells"]) == 8


def test_analyse_of_a_published_table_does_not_write_beside_it(tmp_path, capsys):
    assert main(["analyse", str(PUBLISHED / "2026-02-26_2way"), "-o", str(tmp_path / "analysis.json")]) == 0
    assert (tmp_path / "analysis.json").is_file() and not (PUBLISHED / "2026-02-26_2way/analysis.json").exists()
    assert main(["analyse", str(PUBLISHED / "2026-02-26_2way")]) == 2
    assert "-o" in capsys.readouterr().err


def test_analyse_compares_with_an_earlier_run_on_request(tmp_path):
    old, new = (write(Made(name=name, seed=seed, blocks=5), tmp_path / name) for name, seed in (("old", 1), ("new", 2)))
    assert main(["analyse", str(new), "--against", str(old)]) == 0
    document = json.loads((new / "analysis.json").read_text())
    assert [(entry["old"], entry["rule"]) for entry in document["comparisons"]] == [
        ("2026-02-26_4way", "published"),
        ("old", "runs"),
    ]
    assert [entry["relation"] for entry in document["findings"]["previous"]] == ["published", "previous"]


def test_audit_prints_what_is_contradicted(capsys, tmp_path):
    assert main(["audit", str(PUBLISHED / "2026-02-26_4way"), "-o", str(tmp_path / "audit.json")]) == 0
    printed = capsys.readouterr().out
    assert "Printed: 31.21x; Recomputed: 31.1500x" in printed and "NOT TESTABLE  " not in printed
    assert json.loads((tmp_path / "audit.json").read_text())["contradicted"] >= 10
    assert main(["audit", str(PUBLISHED / "2026-02-26_4way"), "--all"]) == 0
    assert "What would test it: " in capsys.readouterr().out


def test_compare_exits_with_1_only_for_a_regression_or_a_wrong_output(tmp_path, capsys):
    old = write(Made(name="old", seed=1), tmp_path / "old")
    for name, changes, code, words in (
        ("same", {}, 0, "OK"),
        ("slower", {"factor": {("flashinfer_moe", 80): 1.1}}, 1, "supported regressions: 1"),
        ("faster", {"factor": {("flashinfer_moe", 80): 0.8}}, 0, "FASTER"),
        (
            "wrong",
            {"outcomes": {("flashinfer_moe", 80): ("INCORRECT_NUMERICAL", "strict_gate")}},
            1,
            "WRONG OUTPUT flashinfer_moe/T80_o96",
        ),
        ("rejected", {"outcomes": {("flashinfer_moe", 80): ("REJECTED", "cached_output")}}, 1, "WRONG OUTPUT"),
        ("crashed", {"outcomes": {("flashinfer_moe", 80): ("CRASHED", "signal")}}, 0, "NOT COMPARABLE"),
    ):
        new = write(Made(name=name, seed=2, **changes), tmp_path / name)
        assert main(["compare", str(old), str(new)]) == code, name
        assert words in capsys.readouterr().out


def test_compare_exits_with_1_for_a_wrong_output_on_other_values_than_the_timed_ones(tmp_path, capsys):
    old, new = (write(Made(name=name, seed=1), tmp_path / name) for name in ("old", "new"))
    wrong = {"outcome": "INCORRECT_NUMERICAL", "reason": "strict_gate", "gates": {}, "numerics": None}
    assert edit(new, at("T80_o96", lambda one: one.update(wrong), "verify"), "flashinfer_moe") == 1
    assert main(["compare", str(old), str(new)]) == 1
    assert "WRONG OUTPUT flashinfer_moe/T80_o96 (realistic, seed 0)" in capsys.readouterr().out
    assert main(["compare", str(new), str(old)]) == 0


def test_a_copy_of_a_run_differs_nowhere(tmp_path, capsys):
    old = write(Made(name="old", seed=1), tmp_path / "old")
    shutil.copytree(old, tmp_path / "copy")
    assert main(["compare", str(old), str(tmp_path / "copy"), "-o", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert set(found["counts"]) <= {"SAME", "AMBIGUOUS"} and {cell["ratio"]["value"] for cell in found["cells"]} == {
        1.0
    }


def test_a_run_is_not_compared_with_itself(tmp_path, capsys):
    run = write(named("four"), tmp_path / "four")
    (tmp_path / "link").symlink_to(run)
    for other in (run, tmp_path / "link"):
        assert main(["compare", str(run), str(other)]) == 2
        said = capsys.readouterr()
        assert "the same folder" in said.err and "to do:" in said.err and not said.out


def test_compare_with_the_published_run_works_in_either_order(tmp_path, capsys):
    run = write(named("four"), tmp_path / "four")
    outputs = []
    for arguments in ([PUBLISHED / "2026-02-26_4way", run], [run, PUBLISHED / "2026-02-26_4way"]):
        assert main(["compare", *map(str, arguments), "--all"]) == 3
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]
    assert (
        "76 cells, 76 NOT COMPARABLE" in outputs[0]
        and outputs[0].count("another device; another timing protocol; other inputs") == 77
    )


@pytest.mark.parametrize("verb", ["analyse", "audit", "compare"])
def test_each_verb_explains_itself(verb, capsys):
    with pytest.raises(SystemExit) as done:
        main([verb, "--help"])
    assert done.value.code == 0 and len(capsys.readouterr().out) > 400


def test_a_run_is_compared_on_the_protocol_of_the_published_table(tmp_path):
    """`robust` first, `fib-0.1.2` beside it: the second one's times are held against the published ones."""
    run = write(named("b200_published_protocol", protocols=["robust", "fib-0.1.2"]), tmp_path / "run")
    other = write(named("b200_published_protocol"), tmp_path / "other")
    found = compared(PUBLISHED / "2026-02-26_4way", run)
    assert load(run).header.other_protocols == ["fib-0.1.2"]
    assert not found.not_comparable and found.counts == compared(PUBLISHED / "2026-02-26_4way", other).counts
    assert [cell.new for cell in found.cells] == [
        cell.new for cell in compared(PUBLISHED / "2026-02-26_4way", other).cells
    ]
    assert edit(run, lambda one: one.update(key=f"old {one['key']}") if one["protocol"] == "fib-0.1.2" else None)
    assert load(run).header.other_protocols == []  # planned, but not measured yet
    assert compared(PUBLISHED / "2026-02-26_4way", run).not_comparable == ["protocol"]


def test_the_other_protocols_of_a_run_stand_beside_its_figures(tmp_path):
    slowed = {"fib-0.1.2": {"triton_fused_moe_v2": 1.4}}
    run, alone = (
        write(named("with_peer", blocks=5, protocols=protocols, slowed=slowed), tmp_path / "-".join(protocols))
        for protocols in (["robust", "fib-0.1.2"], ["fib-0.1.2"])
    )
    (found,) = analysis_of(run).other_protocols
    assert found.protocol == "fib-0.1.2" and found.time_tier == "event_us"
    assert found.summaries == analysis_of(alone).summaries != analysis_of(run).summaries
    assert analysis_of(alone).other_protocols == []


def test_a_profiled_run_carries_its_profile_and_the_tested_explanations(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(PROJECT_ROOT / "tests/profile")
    from support.profile_documents import everyone, write_run

    run = write(named("with_peer"), tmp_path / "with_peer")
    assert load(run).profiles is None
    profiles = write_run(tmp_path / "profiled", everyone()) / "profile"
    digests = {who["name"]: who["digest"] for who in json.loads((run / "config.json").read_text())["participants"]}
    (run / "profile").mkdir()
    for path in profiles.glob("*.json"):
        document = json.loads(path.read_text())
        if digest := digests.get(document["solution"]):
            (run / "profile" / path.name).write_text(json.dumps({**document, "digest": digest}))
    assert main(["analyse", str(run)]) == 0
    section = json.loads((run / "analysis.json").read_text())["profiles"]
    assert {cell["solution"] for cell in section["cells"]} == set(digests) - {"reference"}
    assert section["explanations"]


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, "ok"),
        ({"killed_strict": 54}, "ok"),
        ({"killed_strict": 53}, "failed"),
        ({"honest_rejected_strict": 1}, "failed"),
    ],
)
def test_a_gate_that_lets_mutants_live_or_kills_the_honest_makes_the_run_invalid(run, changes, status):
    path = run / "gate_power.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    assert main(["analyse", str(run)]) == 0
    checks = {check["code"]: check for check in json.loads((run / "analysis.json").read_text())["validity"]}
    assert checks["gate_power"]["status"] == status and checks["gate_power"]["of"] == 56


def test_protocols_without_a_reference_are_ordered_and_overtakings_named(tmp_path):
    slowed = {"graph": {"triton_fused_moe_v2": 1.4}, "sustained": {"flashinfer_moe": 2.4}}
    made = named("with_peer", blocks=5, protocols=["robust", "graph", "sustained"], slowed=slowed)
    graph, sustained = analysis_of(write(made, tmp_path / "run")).other_protocols
    assert [s.geometric_mean for s in graph.summaries] == [None] * len(graph.summaries)
    first = [one.solution for one in graph.first_order]
    assert first[:2] == ["flashinfer_moe", "triton_fused_moe_v2"] and graph.first_order[0].value == 1.0
    places = {one.solution: one.rank for one in graph.order}
    assert places["triton_fused_moe_v2"] == 3 and len(graph.workloads) == 19 and graph.blocks == 5
    at_one = [one for one in graph.overtakings if one.workload == "T1_o32"]
    assert {(one.faster, one.slower) for one in at_one} == {
        ("flashinfer_moe", "triton_fused_moe_v2"),
        ("deepgemm_moe", "triton_fused_moe_v2"),
    }
    assert all(one.ratio.low > 1 > one.first_ratio.high for one in graph.overtakings)
    cell = sustained.cells[0]
    assert (cell.sm_mhz, cell.watts, cell.first_sm_mhz) == (1425, 685, 1980)


def test_a_mix_weighs_the_latencies_of_its_workloads(tmp_path):
    made = named("with_peer", blocks=5, mix={"T1_o32": 3.0, "T901_o96": 1.0})
    found = analysis_of(write(made, tmp_path / "run"))
    latency = {(cell.solution, cell.workload): cell.latency_us.value for cell in found.cells}
    for one in found.summaries:
        mean = (3 * latency[one.solution, "T1_o32"] + latency[one.solution, "T901_o96"]) / 4
        assert one.mix_latency_us == pytest.approx(mean)
    assert any((fact.key, fact.value) == ("mix", "T1_o32 3, T901_o96 1") for fact in found.provenance)
    assert analysis_of(write(named("with_peer", blocks=5), tmp_path / "other")).summaries[0].mix_latency_us is None
