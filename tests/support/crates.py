"""Validating RO-Crates without a network: `python tests/support/crates.py CRATE ...`.

The validator asks w3id.org for the context of RO-Crate 1.1. It is given the terms that the project's crates use, as
that context defines them, and nothing else: a term that is not listed here is unknown to it, and any other request
fails.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import requests
from requests.adapters import BaseAdapter

CONTEXT = "https://w3id.org/ro/crate/1.1/context"
SCHEMA = (
    *("CreativeWork", "Dataset", "CreateAction", "SoftwareSourceCode", "ComputerLanguage", "about", "actionStatus"),
    *("additionalType", "contentSize", "datePublished", "description", "encodingFormat", "endTime", "exampleOfWork"),
    *(
        "hasPart",
        "identifier",
        "instrument",
        "license",
        "mainEntity",
        "mentions",
        "name",
        "object",
        "programmingLanguage",
    ),
    *("result", "startTime", "url", "version"),
)
TERMS = {
    **{term: f"http://schema.org/{term}" for term in SCHEMA},
    "File": "http://schema.org/MediaObject",
    "conformsTo": "http://purl.org/dc/terms/conformsTo",
    "ComputationalWorkflow": "https://bioschemas.org/ComputationalWorkflow",
    "FormalParameter": "https://bioschemas.org/FormalParameter",
    "input": "https://bioschemas.org/ComputationalWorkflow#input",
    "output": "https://bioschemas.org/ComputationalWorkflow#output",
}


class Context(BaseAdapter):
    """Answers the one request with the terms."""

    def send(self, request: requests.PreparedRequest, *args: object, **kwargs: object) -> requests.Response:
        if request.url != CONTEXT:
            raise requests.ConnectionError(f"no network here: {request.url}")
        found = requests.Response()
        found.status_code, found.url, found.request = 200, CONTEXT, request
        found.headers["Content-Type"] = "application/ld+json"
        found._content = json.dumps({"@context": TERMS}).encode()
        return found

    def close(self) -> None:
        pass


def failures(crate: Path) -> list[str]:
    """The REQUIRED checks of the Workflow Run Crate profile, and of those that it rests on, that the crate fails."""
    from rocrate_validator import services
    from rocrate_validator.models import ValidationSettings
    from rocrate_validator.utils.http import HttpRequester

    settings = ValidationSettings(
        rocrate_uri=str(crate), profile_identifier="workflow-run-crate-0.5", no_cache=True, skip_availability_check=True
    )
    for scheme in ("https://", "http://"):
        HttpRequester().session.mount(scheme, Context())
    result = services.validate(settings)
    assert result.executed_checks
    return [f"{issue.check.identifier}: {issue.message}" for issue in result.get_issues()]


if __name__ == "__main__":
    wrong = 0
    for name in sys.argv[1:]:
        began, folder = time.monotonic(), Path(name)
        found = failures(folder)
        wrong += bool(found)
        megabytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
        said = f"{len(found)} FAILED" if found else "no required check failed"
        print("\n  ".join([f"{folder.name}: {megabytes:.1f} MB, {said}, {time.monotonic() - began:.1f} s", *found]))
    sys.exit(1 if wrong else 0)
