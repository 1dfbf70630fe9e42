"""Blocks, journals, records and manifests that the plan asks for and a run lacks are named."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from bakeoff.complete import _wrong_reference, verify_run
from bakeoff.errors import CheckFailed, InputError
from bakeoff.files import PROJECT_ROOT, canonical_json, sha256_bytes
from bakeoff.planned import read_plan
from bakeoff.runs.assemble import assemble_run
from bakeoff.runs.coverage import gaps, line_digests, stale, tampered
from bakeoff.runs.journal import journal_bytes
from bakeoff.runs.recording import record_run
from bakeoff.runs.table import Journals
from bakeoff.schema.outcomes import Outcome

RECORDED = PROJECT_ROOT / "results/recorded/2026-11-23_h200"  # ten blocks, every cell PASSED
JOURNAL = "samples/block-03/deepgemm_moe.jsonl.gz"
MANIFEST = "samples/block-03/manifest.json"


def drop_blocks(run: Path) -> None:
    for block in (8, 9):
        shutil.rmtree(run / f"samples/block-{block:02d}")


def rewrite(path: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    path.write_bytes(gzip.compress(b"".join(change(gzip.decompress(path.read_bytes()).splitlines(keepends=True)))))


def ended(line: bytes, outcome: str) -> bytes:
    body = json.loads(line)
    del body["digest"]
    body |= {"outcome": outcome, "gates": {}, "tiers": {}}
    return canonical_json({**body, "digest": sha256_bytes(canonical_json(body))}) + b"\n"


def swap(run: Path) -> None:
    manifest = json.loads((run / MANIFEST).read_text())
    manifest["order"].reverse()
    (run / MANIFEST).write_text(json.dumps(manifest))


LACKS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "blocks": (drop_blocks, ["samples/block-08: missing", "samples/block-09: missing"]),
    "a journal": (lambda run: (run / JOURNAL).unlink(), ["samples/block-03/deepgemm_moe.jsonl: missing"]),
    "the reference": (
        lambda run: (run / "samples/block-00/reference.jsonl.gz").unlink(),
        ["samples/block-00/reference.jsonl: missing"],
    ),
    "records": (
        lambda run: rewrite(run / JOURNAL, lambda lines: lines[2:]),
        ["samples/block-03/deepgemm_moe.jsonl: no record of deepgemm_moe/T", "in block 3 (2 of 19 cells are missing)"],
    ),
    "a manifest": (lambda run: (run / MANIFEST).unlink(), [f"{MANIFEST}: missing"]),
    "the order that was planned": (swap, [f"{MANIFEST}: of ", "; planned are, in this order, "]),
    "the journal of the manifest": (
        lambda run: rewrite(run / JOURNAL, lambda lines: [ended(lines[0], "CRASHED"), *lines[1:]]),
        [f"{MANIFEST}: written for another journal of deepgemm_moe"],
    ),
}


def halve(line: bytes) -> bytes:
    body = json.loads(line)
    del body["digest"]
    body["tiers"] = {tier: [us / 2 for us in times] for tier, times in body["tiers"].items()}
    return canonical_json({**body, "digest": sha256_bytes(canonical_json(body))}) + b"\n"


def test_a_reference_that_fails_its_own_gate_fails_the_run() -> None:
    plan = read_plan(RECORDED)
    records = Journals.read(RECORDED, plan).records
    assert _wrong_reference(records, plan) == []
    wrong = next(record for record in records if record.participant == "reference").model_copy(
        update={"outcome": Outcome.INCORRECT_NUMERICAL}
    )
    assert _wrong_reference([wrong], plan) == [f"block 0: reference {wrong.workload}: INCORRECT_NUMERICAL"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda run: rewrite(run / JOURNAL, lambda lines: [halve(lines[0]), *lines[1:]]), "deepgemm_moe: changed"),
        (lambda run: rewrite(run / JOURNAL, lambda lines: lines[1:] + lines[:1]), "deepgemm_moe: changed"),
        (lambda run: shutil.copy(run / JOURNAL, run / "samples/block-03/nobody.jsonl.gz"), "of nobody in the plan"),
        (
            lambda run: (run / MANIFEST).write_text(
                json.dumps({**json.loads((run / MANIFEST).read_text()), "samples": {}})
            ),
            "no digest of it",
        ),
    ],
    ids=["times halved and sealed again", "lines moved", "a foreign journal", "digests removed"],
)
def test_samples_that_changed_are_named_by_verify_and_assemble(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[Path], object], told: str
) -> None:
    run = shutil.copytree(RECORDED, tmp_path / "run")
    change(run)
    with pytest.raises(CheckFailed, match=told):
        verify_run(run)
    with contextlib.suppress(InputError):  # lines of another block make no samples at all
        assemble_run(run)
    assert re.search(told, capsys.readouterr().err)
    with pytest.raises((CheckFailed, InputError), match=told):  # nor does assembling heal it
        verify_run(run)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda lines: [lines[0], halve(lines[1])],
            "changed, sealed again or foreign: line 2; no longer there: line 2",
        ),
        (lambda lines: lines[1:], "no longer there: line 1"),
        (lambda lines: [*lines, ended(lines[0], "CRASHED")], "changed, sealed again or foreign: line 3"),
    ],
    ids=["sealed again", "missing", "foreign"],
)
def test_a_line_that_the_manifest_did_not_seal_is_named(
    tmp_path: Path, change: Callable[[list[bytes]], list[bytes]], told: str
) -> None:
    run = shutil.copytree(RECORDED, tmp_path / "run")
    rewrite(run / JOURNAL, lambda lines: lines[:2])
    data, manifest = journal_bytes(run / JOURNAL.removesuffix(".gz")) or b"", json.loads((run / MANIFEST).read_text())
    manifest["samples"]["deepgemm_moe"] = sha256_bytes(data)
    manifest["lines"] = {"deepgemm_moe": line_digests(data)}
    (run / MANIFEST).write_text(json.dumps(manifest))
    assert tampered(run, read_plan(run)) == []
    rewrite(run / JOURNAL, change)
    (found,) = tampered(run, read_plan(run))
    assert found.endswith(f"journal of deepgemm_moe: changed after the block was complete; {told}")


def test_an_analysis_names_every_input_that_is_no_longer_what_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(RECORDED, tmp_path / "run")
    assert stale(run) == []
    (run / "host.json").write_bytes((run / "host.json").read_bytes() + b"\n")
    (run / "gate_power.json").unlink()
    foreign = "build/foreign/build.json"
    (run / foreign).parent.mkdir()
    shutil.copy(next((run / "build").rglob("build.json")), run / foreign)
    expected = [
        "analysis.json: host.json: changed since the analysis",
        "analysis.json: gate_power.json: missing, the analysis rests on it",
        f"analysis.json: {foreign}: foreign, the analysis does not know it",
    ]
    assert stale(run) == expected
    with pytest.raises(CheckFailed) as caught:
        verify_run(run)
    assert all(sentence in str(caught.value) for sentence in expected)
    assemble_run(run)
    assert expected[0] in capsys.readouterr().err
    (run / "analysis.json").write_text("{}")
    assert "no digests of its inputs" in stale(run)[0]


def test_a_whole_run_lacks_nothing() -> None:
    assert gaps(RECORDED, Journals.read(RECORDED, read_plan(RECORDED))) == []


@pytest.mark.parametrize(("damage", "said"), LACKS.values(), ids=list(LACKS))
def test_what_a_run_lacks_fails_verify_and_is_not_recorded(
    tmp_path: Path, damage: Callable[[Path], object], said: list[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(RECORDED, run)
    damage(run)
    found = gaps(run, Journals.read(run, read_plan(run)))
    assert len(found) == (2 if damage is drop_blocks else 1), found
    with pytest.raises(CheckFailed) as caught:
        verify_run(run)
    for part in said:
        assert part in str(caught.value)
    with pytest.raises(InputError) as refused:
        record_run(run, tmp_path / "target")
    assert said[0] in refused.value.found and not (tmp_path / "target").exists()


def test_a_cell_that_the_host_disturbed_is_missing_in_its_block(tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(RECORDED, run)
    rewrite(run / JOURNAL, lambda lines: [ended(lines[0], "DISTURBED"), *lines[1:]])
    found = gaps(run, Journals.read(run, read_plan(run)))
    assert "no measurement of deepgemm_moe/T" in found[0] and "in block 3 (1 of 19 cells are missing)" in found[0]
