"""Crates and statements: valid, the same bytes each time, and true of exactly the bytes that they were made over."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from bakeoff.cli import main
from bakeoff.evidence import signature, statement
from bakeoff.evidence.contents import digests
from bakeoff.evidence.crate import write_crate
from bakeoff.files import canonical_json, sha256_file
from support.crates import failures
from support.submissions import edit


@pytest.fixture
def attested(run: Path, tmp_path: Path) -> Path:
    assert main(["attest", str(run), "-o", str(tmp_path / "statement")]) == 0
    return tmp_path / "statement"


def bundle(folder: Path, made: bytes, **changed: object) -> Path:
    """A file in the form of a Sigstore bundle, with a signature of nobody."""
    envelope = {
        "payload": base64.b64encode(made).decode(),
        "payloadType": statement.PAYLOAD,
        "signatures": [{"sig": "AA=="}],
    }
    path = folder / "bundle.json"
    path.write_bytes(
        canonical_json(
            {"dsseEnvelope": envelope | changed, "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json"}
        )
    )
    return path


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_crate_is_valid_and_the_same_bytes_each_time(run: Path, tmp_path: Path) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    write_crate(run, first)
    for path in run.rglob("*"):
        path.touch()
    write_crate(run, again)
    assert files(first) == files(again)
    assert failures(first) == []
    assert {name for name in files(run)} <= {name for name in files(first)}
    graph = {one["@id"]: one for one in json.loads((first / "ro-crate-metadata.json").read_text())["@graph"]}
    assert graph["config.json"]["sha256"] == sha256_file(run / "config.json")
    assert graph["#run"]["startTime"].startswith("2026-11-24T")


def test_the_validator_sees_what_a_crate_lacks(run: Path, tmp_path: Path) -> None:
    write_crate(run, tmp_path / "crate")

    def spoil(document: dict) -> None:
        action = next(one for one in document["@graph"] if one["@id"] == "#run")
        del action["instrument"]
        action["unknown_term"] = 1

    edit(tmp_path / "crate/ro-crate-metadata.json", spoil)
    found = failures(tmp_path / "crate")
    assert any("instrument" in one for one in found) and any("unknown_term" in one for one in found)


def test_a_crate_replaces_nothing(run: Path, tmp_path: Path) -> None:
    assert main(["crate", str(run), "-o", str(tmp_path)]) == 2


def test_a_statement_names_every_file_and_what_it_was_made_with(run: Path, attested: Path) -> None:
    made = json.loads((attested / "statement.json").read_text())
    assert made["_type"] == "https://in-toto.io/Statement/v1" and made["predicateType"] == "urn:bakeoff:measurement:1"
    assert {one["name"]: one["digest"]["sha256"] for one in made["subject"]} == digests(run)
    predicate = made["predicate"]
    assert predicate == json.loads((attested / "predicate.json").read_text())
    assert predicate["plan"] == sha256_file(run / "config.json") and predicate["host"] == sha256_file(run / "host.json")
    assert predicate["hardware"] == "NVIDIA H100 80GB HBM3" and predicate["locks"]
    lines = (attested / "subjects.sha256").read_text().splitlines()
    assert lines == [f"{one['digest']['sha256']}  {one['name']}" for one in made["subject"]]


def test_a_run_and_its_recorded_form_have_the_same_digests(run: Path) -> None:
    from bakeoff.runs.journal import journal_bytes

    before = digests(run)
    for path in sorted(run.glob("samples/*/*.jsonl.gz")):
        path.with_suffix("").write_bytes(journal_bytes(path.with_suffix("")) or b"")
        path.unlink()
    assert digests(run) == before


def said(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    code = main(["verify", *map(str, words)])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_without_a_signature_it_is_said_what_holds_and_what_does_not(
    run: Path, attested: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = said(capsys, run, "--attestation", attested / "statement.json")
    assert code == 1 and "files are as attested" in text and "signature: none: anybody" in text
    code, text = said(capsys, run, "--attestation", attested / "statement.json", "--json")
    assert code == 1 and json.loads(text)["digests_hold"] and not json.loads(text)["signed"]


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda run: (run / "samples/block-01/manifest.json").unlink(), "samples/block-01/manifest.json: missing"),
        (lambda run: edit(run / "config.json", lambda plan: plan.update(title="x")), "config.json: changed since"),
        (lambda run: (run / "gate_power.json").write_text("{}"), "gate_power.json: in no subject"),
    ],
)
def test_every_changed_byte_is_named(harm, words: str, run: Path, attested: Path, capsys) -> None:
    harm(run)
    code, text = said(capsys, run, "--attestation", attested / "statement.json")
    assert code == 1 and words in text and "DIFFER" in text


def test_a_predicate_that_is_not_the_runs_is_named(run: Path, attested: Path, capsys) -> None:
    edit(attested / "statement.json", lambda made: made["predicate"].update(hardware="NVIDIA B200"))
    code, text = said(capsys, run, "--attestation", attested / "statement.json")
    assert code == 1 and "predicate: hardware is not the run's" in text


def test_a_bundle_counts_by_its_signature_alone(run: Path, attested: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    path = bundle(tmp_path, (attested / "statement.json").read_bytes())
    code, text = said(capsys, run, "--attestation", path)
    assert code == 1 and "files are as attested" in text and "say with --repository OWNER/NAME" in text
    code, text = said(capsys, run, "--attestation", path, "--repository", "owner/name")
    assert code == 1 and "files are as attested" in text and "signature: failed to load bundle" in text
    monkeypatch.setattr(signature, "unsigned", lambda *found: None)
    assert said(capsys, run, "--attestation", path, "--repository", "owner/name")[0] == 0
    edit(run / "host.json", lambda host: host.update(kernel="x"))
    assert said(capsys, run, "--attestation", path, "--repository", "owner/name")[0] == 1


@pytest.mark.parametrize("changed", [{"payloadType": "text/plain"}, {"payload": "%"}, {"payload": None}])
def test_a_bundle_without_a_statement_is_no_input(changed: dict, run: Path, tmp_path: Path, capsys) -> None:
    assert said(capsys, run, "--attestation", bundle(tmp_path, b"{}", **changed))[0] == 2


def test_without_the_packages_it_is_said_what_to_install(run: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    for name in ("rocrate.rocrate", "sigstore.models"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    assert main(["crate", str(run), "-o", str(tmp_path / "crate")]) == 2
    assert "make setup-dev" in capsys.readouterr().err
    main(["attest", str(run), "-o", str(tmp_path / "made")])
    path = bundle(tmp_path, (tmp_path / "made/statement.json").read_bytes())
    code, text = said(capsys, run, "--attestation", path, "--repository", "owner/name")
    assert code == 2 and "gh attestation verify" in text
