"""Protocols beside `robust`, on the test double: what is due, what each judges, and that a time counts only where the
same process has passed `robust`."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from bakeoff.config import Config
from bakeoff.core.protocols import PROTOCOLS, per_process_latency
from bakeoff.core.variants import Draws
from bakeoff.planned import block_cells
from bakeoff.runs.assemble import assemble_run
from bakeoff.schema.outcomes import Outcome, Reason
from bakeoff.schema.sample import Record
from bakeoff.tables import words
from pydantic import ValidationError
from support.measure_runs import bakeoff, fake_device, make_run, measure, plan_of, records
from support.once import once

pytestmark = pytest.mark.timeout(900)
LATER = ("graph", "warm", "sustained")
REMEMBERS = """
kept = []


def run_with(honest, *arguments):
    if not kept:
        honest(*arguments)
        kept.append(arguments[-1].clone())
    arguments[-1].copy_(kept[0])
"""
# Knows inputs by a few of their values: right in every trial of `fib-0.1.2`, which repeats them.
KNOWS = """
kept = {}


def run_with(honest, *arguments):
    key = arguments[2].view(-1)[:64].float().sum().item()
    if key not in kept:
        honest(*arguments)
        kept[key] = arguments[-1].clone()
    arguments[-1].copy_(kept[key])
"""
# One call warms up, two are guarded, 3 + 16 are timed under robust, 4 + 8 in a row: the other protocols' come after.
TIRES = """
calls = []


def run_with(honest, *arguments):
    calls.append(1)
    honest(*arguments)
    if len(calls) > 34:
        arguments[-1].zero_()
"""


def _measured(folder: Path) -> None:
    attacks = {"honest": None, "rigid": None, "remembers": REMEMBERS, "tires": TIRES}
    run = make_run(folder, attacks, workloads=["T1_o32"], protocols=["robust", "graph", "warm"])
    plan = json.loads((run / "config.json").read_text())
    # The rule that few tokens are not timed so is the plan's; a block does what is planned.
    plan["cells"] += [
        {**cell, "protocol": "sustained", "key": f"sustained {cell['key']}"}
        for cell in plan["cells"]
        if cell["protocol"] == "warm"
    ]
    (run / "config.json").write_text(json.dumps({**plan, "protocols": [*plan["protocols"], "sustained"]}))
    done = measure(run, env=fake_device(folder, not_capturable=["rigid"]))
    (folder / "stderr").write_text(done.stderr)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return once(tmp_path_factory, "protocols", _measured) / "run"


def by_protocol(run: Path, name: str) -> dict[str | None, Record]:
    return {record.protocol: record for record in records(run, name)}


def test_each_protocol_has_samples_of_its_own_and_the_reference_only_robust_ones(run: Path) -> None:
    found = by_protocol(run, "honest")
    assert list(found) == ["robust", *LATER] and {one.outcome for one in found.values()} == {Outcome.PASSED}
    assert all(one.gates["strict"].passed for one in found.values())
    assert [len(one.tiers["event_us"]) for one in found.values()] == [16, 8, 8, 16]
    assert [record.protocol for record in records(run, "reference")] == ["robust"]


def test_a_call_that_cannot_be_captured_is_typed_and_costs_nothing_else(run: Path) -> None:
    found = by_protocol(run, "rigid")
    graph = found.pop("graph")
    assert (graph.outcome, graph.reason) == (Outcome.UNSUPPORTED, Reason.NOT_CAPTURABLE) and not graph.tiers
    assert {one.outcome for one in found.values()} == {Outcome.PASSED}


def test_what_robust_rejects_has_no_time_under_any_protocol(run: Path) -> None:
    found = by_protocol(run, "remembers")
    assert {(one.outcome, one.reason) for one in found.values()} == {(Outcome.REJECTED, Reason.CACHED_OUTPUT)}
    assert all(found[name].detail.startswith("under robust: ") and not found[name].tiers for name in LATER)  # type: ignore[union-attr]


def test_outputs_of_every_protocol_are_judged(run: Path) -> None:
    found = by_protocol(run, "tires")
    assert found.pop("robust").outcome == Outcome.PASSED
    assert {one.outcome for one in found.values()} == {Outcome.INCORRECT_NUMERICAL}


def test_a_new_process_passes_robust_again_before_it_is_timed_otherwise(run: Path, tmp_path: Path) -> None:
    run = copytree(run, tmp_path / "run")
    journal = run / "samples/block-00/honest.jsonl"
    robust, *_ = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(robust)
    assert measure(run, env=fake_device(tmp_path, not_capturable=["rigid"])).returncode == 0
    assert journal.read_bytes().startswith(robust)
    assert list(by_protocol(run, "honest")) == ["robust", *LATER] and len(records(run, "honest")) == 4


def test_times_as_flashinfer_bench_takes_them_rest_on_robust_in_the_same_process(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"honest": None, "knows": KNOWS}, workloads=["T1_o32"], protocols=["fib-0.1.2"])
    assert measure(run, env=fake_device(tmp_path)).returncode == 0
    ((honest,), (knows,), (reference,)) = (records(run, name) for name in ("honest", "knows", "reference"))
    assert {honest.outcome, reference.outcome} == {Outcome.PASSED}
    assert [len(one.tiers["event_us"]) for one in (honest, reference)] == [150, 150]
    assert (knows.outcome, knows.reason) == (Outcome.REJECTED, Reason.STALE_INPUT) and not knows.tiers
    assert knows.protocol == "fib-0.1.2" and knows.detail and knows.detail.startswith("under robust: ")


def test_a_run_is_complete_without_graphs_that_cannot_be(run: Path, tmp_path: Path) -> None:
    run = copytree(run, tmp_path / "run")
    assemble_run(run)
    told = bakeoff("verify", str(run))
    assert told.returncode == 1 and "tires" in told.stderr and "rigid" not in told.stderr


def test_later_protocols_are_due_in_few_blocks_and_sustained_ones_on_large_workloads(tmp_path: Path) -> None:
    asked: list[Any] = ["robust", {"graph": 2}, "sustained", "realistic"]
    run = make_run(
        tmp_path,
        {"honest": None},
        workloads=["T1_o32", "T901_o96"],
        protocols=asked,
        blocks=6,
        families=["fib", "realistic"],
    )
    plan = plan_of(run)
    assert plan.protocol_blocks == {"graph": 2, "sustained": 3, "realistic": 5}
    due = [{(one.protocol, one.workload) for one in block_cells(plan, block) if one.protocol} for block in range(6)]
    sizes = [len(cells) for cells in due]
    assert sizes == [7, 7, 5, 4, 4, 2] and ("sustained", "T901_o96") in due[2]
    cells = [one for one in block_cells(plan, 0) if one.participant == "reference"]
    assert {one.protocol for one in cells} == {"robust", "realistic"}
    assert {one.family for one in cells if one.protocol == "realistic"} == {"realistic"}


@pytest.mark.parametrize(
    ("protocols", "families"),
    [
        (["graph"], ["fib"]),
        (["graph", "robust"], ["fib"]),
        (["robust", {"robust": 2}], ["fib"]),
        (["robust", {"graph": 0}], ["fib"]),
        (["robust", "realistic"], ["fib"]),
    ],
)
def test_protocols_that_would_not_count_are_refused(protocols: list[Any], families: list[str]) -> None:
    with pytest.raises(ValidationError):
        Config(protocols=protocols, families=families)  # type: ignore[arg-type]


def test_calls_that_share_values_change_them_from_batch_to_batch() -> None:
    draws = Draws(1, 12345, 0, PROTOCOLS["warm"].shared)
    assert len({draws.variant(number) for number in range(24)}) == 3 and not any(map(draws.repeats, range(24)))
    assert draws.variant(0) == draws.variant(7) != draws.variant(8) and draws.variant(-1) == draws.variant(-8)


def test_every_protocol_has_words() -> None:
    assert set(words.PROTOCOLS) == set(PROTOCOLS)


def test_a_sustained_latency_is_that_of_the_second_second() -> None:
    assert per_process_latency("sustained", [1.0] * 8 + [2.0] * 8) == 2.0
    assert per_process_latency("graph", [1.0] * 9 + [2.0] * 7) == 1.0
