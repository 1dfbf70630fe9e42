"""Who signed an attestation: the signature of a Sigstore bundle, checked without a network.

Entry point: `unsigned`. The package `sigstore` verifies the certificate, its time in the log and the signature against
the trust root that it carries; here stands whom to trust: a workflow of one GitHub repository.
"""

import logging
import re

from bakeoff.errors import InputError

ISSUER = "https://token.actions.githubusercontent.com"


def unsigned(bundle: bytes, payload: bytes, repository: str) -> str | None:
    """Why the bundle holds no signature of a workflow of OWNER/NAME over the payload; None if it does. Without
    `sigstore`: an InputError."""
    if not re.fullmatch(r"[A-Za-z0-9-]{1,39}/[A-Za-z0-9._-]{1,100}", repository):
        raise InputError("--repository", repr(repository), "OWNER/NAME", "correct --repository")
    try:
        from sigstore.errors import Error
        from sigstore.models import Bundle, InvalidBundle
        from sigstore.verify import Verifier, policy
    except ImportError as error:
        raise InputError(
            "the signature",
            f"no package to check it with ({error.name})",
            "sigstore",
            "`make setup-dev`; or, where gh is: `gh attestation verify RUN/config.json --bundle FILE --repo OWNER/NAME "
            "--predicate-type urn:bakeoff:measurement:1`",
        ) from error
    logging.getLogger("sigstore").setLevel(logging.ERROR)  # it warns that it asks no network, which is asked for
    trusted = policy.AllOf(
        [policy.OIDCIssuer(ISSUER), policy.OIDCSourceRepositoryURI(f"https://github.com/{repository}")]
    )
    try:
        signed = Verifier.production(offline=True).verify_dsse(Bundle.from_json(bundle), trusted)[1]
    except (Error, InvalidBundle, ValueError) as error:
        return " ".join(str(error).split())[:300] or type(error).__name__
    return None if signed == payload else "the signature is over another payload"
