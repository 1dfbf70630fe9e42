"""PASSED rests on the referee's figures: recording, assembling and verifying refuse one without them."""

from __future__ import annotations

import copy
import gzip
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bakeoff.complete import verify_run
from bakeoff.errors import CheckFailed, InputError
from bakeoff.files import PROJECT_ROOT, canonical_json, sha256_bytes
from bakeoff.runs.assemble import assemble_run
from bakeoff.runs.journal import Journal
from bakeoff.runs.recording import record_run
from bakeoff.schema.outcomes import Outcome
from bakeoff.schema.sample import Record, Verification
from bakeoff.stats.runs import load_run
from pydantic import ValidationError
from support.measure_runs import PASSED_GATES

RECORDED = PROJECT_ROOT / "results/recorded/2026-11-23_h200"  # every cell PASSED
Gates = dict[str, Any]


def without(*names: str) -> Gates:
    return {name: gate for name, gate in PASSED_GATES.items() if name not in names}


def changed(path: str, value: object) -> Gates:
    gates = copy.deepcopy(PASSED_GATES)
    *folders, last = path.split(".")
    place: Any = gates
    for name in folders:
        place = place[name]
    place[last] = value
    return gates


UNPROVEN = {
    "no gate": (without("published", "strict"), "PASSED without figures of the published gate"),
    "no strict gate": (without("strict"), "PASSED without figures of the strict gate"),
    "no published gate": (without("published"), "PASSED without figures of the published gate"),
    "a gate without checks": (changed("strict.checks", {}), "PASSED without figures of the strict gate"),
    "a check without a value": (changed("strict.checks.relative_l2.value", None), "PASSED without figures"),
    "a failed gate": (changed("published.passed", False), "PASSED beside a failed published gate"),
    "a failed check": (changed("strict.checks.relative_l2.passed", False), r"failed strict gate \(relative_l2\)"),
}
cases = pytest.mark.parametrize(("gates", "said"), UNPROVEN.values(), ids=list(UNPROVEN))

LINE: Gates = {
    "key": "k",
    "kind": "measure",
    "participant": "p",
    "workload": "T1_o32",
    "protocol": "robust",
    "family": "fib",
    "seed": 0,
    "block": 0,
    "started": "2000-01-01T00:00:00+00:00",
    "seconds": 0.1,
}
OF_CELL: Gates = {
    "solution": "p",
    "workload": "T1_o32",
    "family": "fib",
    "seed": 0,
    "reason": None,
    "numerics": {},
}


@cases
def test_no_record_and_no_verification_can_say_so(gates: Gates, said: str) -> None:
    for model, fields in ((Record, LINE), (Verification, OF_CELL)):
        assert model.model_validate({**fields, "outcome": "PASSED", "gates": PASSED_GATES}).outcome == Outcome.PASSED
        assert model.model_validate({**fields, "outcome": "REJECTED", "gates": gates}).outcome == Outcome.REJECTED
        with pytest.raises(ValidationError, match=said):
            model.model_validate({**fields, "outcome": "PASSED", "gates": gates})


def test_a_journal_takes_no_record_that_was_changed_to_say_so(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "p.jsonl", pytest.fail)
    failed = Record.model_validate({**LINE, "outcome": "CRASHED"})
    journal.append(failed)
    before = journal.path.read_bytes()
    with pytest.raises(ValueError, match="PASSED without figures of the published gate"):
        journal.append(failed.model_copy(update={"outcome": Outcome.PASSED}))
    assert journal.path.read_bytes() == before and journal.records == [failed]
    journal.close()


def copied(tmp_path: Path) -> Path:
    shutil.copytree(RECORDED, tmp_path / "run")
    return tmp_path / "run"


def change_line(path: Path, number: int, change: Callable[[dict[str, Any]], None], sealed: bool = False) -> None:
    """Change one line of a file; a journal's line gets the digest of what it now says."""
    packed = path.suffix == ".gz"
    lines = (gzip.decompress(path.read_bytes()) if packed else path.read_bytes()).splitlines()
    document = json.loads(lines[number])
    change(document)
    if sealed:
        document.pop("digest")
        document["digest"] = sha256_bytes(canonical_json(document))
    lines[number] = canonical_json(document)
    data = b"\n".join(lines) + b"\n"
    path.write_bytes(gzip.compress(data, mtime=0) if packed else data)


@cases
def test_assembling_recording_and_analysing_refuse_a_journal_that_says_so(
    tmp_path: Path, gates: Gates, said: str
) -> None:
    run = copied(tmp_path)
    journal = run / "samples/block-03/deepgemm_moe.jsonl.gz"
    change_line(journal, 4, lambda line: line.update(gates=gates), sealed=True)
    recorded = lambda folder: record_run(folder, tmp_path / "target")  # noqa: E731
    for refuses in (assemble_run, recorded, verify_run, load_run):
        with pytest.raises(InputError, match=rf"(?s)deepgemm_moe\.jsonl\.gz:5.*{said}"):
            refuses(run)
    assert not (tmp_path / "target").exists()


@cases
def test_verifying_refuses_a_trace_that_says_so_and_no_figure_rests_on_it(
    tmp_path: Path, gates: Gates, said: str
) -> None:
    run = copied(tmp_path)
    change_line(run / "traces.jsonl", 6, lambda line: line["evaluation"]["bakeoff"].update(gates=gates))
    with pytest.raises(CheckFailed, match=said) as caught:
        verify_run(run)
    assert "1 finding in" in str(caught.value) and re.search(
        r"robust: \w+ T\d+_o\d+: no typed outcome", str(caught.value)
    )
    assert {cell.outcome for cell in load_run(run).cells} == {"PASSED"}


@cases
def test_verifying_refuses_a_verification_that_says_so_and_no_figure_rests_on_it(
    tmp_path: Path, gates: Gates, said: str
) -> None:
    run = copied(tmp_path)
    path = run / "verification.jsonl"
    families = [json.loads(line)["family"] for line in path.read_text().splitlines()]
    change_line(path, families.index("realistic"), lambda line: line.update(gates=gates))
    with pytest.raises(InputError, match=rf"(?s)verification\.jsonl:{families.index('realistic') + 1}.*{said}"):
        verify_run(run)
    assert all(entry.passed == entry.due for entry in load_run(run).verifications)
