"""The in-toto statement over a run: its files' digests, and with what, where and when they were made.

Entry points: `make`, `parts` (what `actions/attest` takes), `read` and `held`, which holds a statement against a run.
Anybody can write a statement; who signed one is `evidence/signature.py`.
"""

import base64
import binascii
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bakeoff.containers import lock as images
from bakeoff.errors import InputError
from bakeoff.evidence.contents import digests, measured_period
from bakeoff.files import PROJECT_ROOT, json_document, pretty_json, read_bytes, read_json, sha256_file, validate
from bakeoff.planned import read_plan
from bakeoff.schema.evidence import Measurement, Statement, Subject
from bakeoff.schema.host import Host
from bakeoff.stats.environment import hardware

PAYLOAD = "application/vnd.in-toto+json"


def make(run: Path) -> Statement:
    """The statement over a run as it lies there; a run without samples is an InputError."""
    plan, host, found = read_plan(run), read_json(run / "host.json", Host), digests(run)
    started, ended = measured_period(run, plan)
    locks = images.load().image(images.image_for(plan.backend)).locks
    return Statement(
        subject=[Subject(name=name, digest={"sha256": digest}) for name, digest in sorted(found.items())],
        predicate=Measurement(
            run=plan.run,
            backend=plan.backend,
            commit=plan.commit,
            image=plan.image,
            locks={name: sha256_file(PROJECT_ROOT / name) for name in locks},
            plan=found["config.json"],
            host=found["host.json"],
            analysis=found.get("analysis.json"),
            harness=plan.harness,
            hardware=hardware(host, plan.backend) or "unknown",
            started=started,
            ended=ended,
        ),
    )


def parts(statement: Statement) -> dict[str, bytes]:
    """Files by name: the whole statement, and its predicate and subjects apart, as `actions/attest` takes them."""
    whole = statement.model_dump(mode="json", by_alias=True)
    sums = "".join(f"{one.digest['sha256']}  {one.name}\n" for one in statement.subject)
    return {
        "statement.json": pretty_json(whole),
        "predicate.json": pretty_json(whole["predicate"]),
        "subjects.sha256": sums.encode(),
    }


@dataclass(frozen=True)
class Attestation:
    """A statement, its bytes, and the Sigstore bundle that it came in; None if it came in none."""

    statement: Statement
    payload: bytes
    bundle: bytes | None


def read(path: Path) -> Attestation:
    """A statement as it is, or from the DSSE envelope of a Sigstore bundle; anything else is an InputError."""
    data = read_bytes(path)
    document: Any = json_document(data, path)
    if not (isinstance(document, dict) and "dsseEnvelope" in document):
        return Attestation(validate(document, Statement, path), data, None)
    try:
        envelope = document["dsseEnvelope"]
        kind, payload = envelope["payloadType"], base64.b64decode(envelope["payload"], validate=True)
    except (TypeError, KeyError, ValueError, binascii.Error) as error:
        raise _no_statement(path, f"an envelope without a payload ({error})") from error
    if kind != PAYLOAD:
        raise _no_statement(path, f"a payload of type {str(kind)[:80]!r}")
    return Attestation(validate(json_document(payload, path), Statement, path), payload, data)


def held(statement: Statement, run: Path) -> list[str]:
    """What of the run is not as the statement says, a sentence each."""
    there, said = digests(run), {one.name: one.digest["sha256"] for one in statement.subject}
    found = [f"{name}: missing" for name in sorted(said.keys() - there.keys())]
    found += [f"{name}: in no subject of the statement" for name in sorted(there.keys() - said.keys())]
    found += [f"{name}: changed since" for name in sorted(said.keys() & there.keys()) if said[name] != there[name]]
    if found:
        return found
    again, predicate = make(run).predicate, statement.predicate
    # The locks are those of the checkout that attested, which need not be this one.
    names = [name for name in Measurement.model_fields if name != "locks"]
    return [f"predicate: {name} is not the run's" for name in names if getattr(again, name) != getattr(predicate, name)]


def _no_statement(path: Path, found: str) -> InputError:
    hint = "give what `bakeoff attest` wrote, or its signed bundle"
    return InputError(path, found, "an in-toto statement, or a Sigstore bundle with one", hint)
