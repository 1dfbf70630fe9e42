"""The verbs `verify`, `attest` and `crate`."""

import argparse
import json
from pathlib import Path

from bakeoff.errors import CheckFailed, InputError
from bakeoff.files import write_atomic
from bakeoff.options import output


def verify_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Check that RUN has every cell that its plan asks for, and that each PASSED. With --attestation: hold RUN "
        "against a statement over its bytes, and that against its signature. With --submission: judge a run that "
        "somebody else made, without running anything of it. Exit code 1: the answer is no."
    )
    parser.add_argument(
        "folder",
        type=Path,
        nargs="?",
        metavar="RUN",
        help="run folder with config.json, traces.jsonl, verification.jsonl",
    )
    parser.add_argument("--attestation", type=Path, metavar="FILE", help="a Sigstore bundle, or an unsigned statement")
    parser.add_argument("--repository", metavar="OWNER/NAME", help="whose workflow must have signed the attestation")
    parser.add_argument("--submission", type=Path, metavar="DIR", help="what `bakeoff record` wrote, from a stranger")
    parser.add_argument("--disclosure", type=Path, metavar="FILE", help="write the submission's disclosure form here")
    parser.add_argument("--json", action="store_true", help="one line of JSON with what is said")


def verify(args: argparse.Namespace) -> int:
    if (args.folder is None) == (args.submission is None):
        raise InputError(
            "arguments", "both or neither of RUN and --submission", "one of them", "see `bakeoff help verify`"
        )
    for option, needed in (("disclosure", "submission"), ("repository", "attestation"), ("attestation", "folder")):
        if getattr(args, option) and not getattr(args, needed):
            raise InputError(
                f"--{option}", "alone", f"beside {'RUN' if needed == 'folder' else '--' + needed}", "add it"
            )
    if args.submission:
        return _submission(args)
    return _attestation(args) if args.attestation else _run(args)


def _run(args: argparse.Namespace) -> int:
    from bakeoff.complete import verify_run

    if not args.json:
        print(verify_run(args.folder))
        return 0
    try:
        said, complete = verify_run(args.folder), True
    except CheckFailed as error:
        said, complete = str(error), False
    print(json.dumps({"complete": complete, "said": said}))
    return 0 if complete else CheckFailed.exit_code


def _submission(args: argparse.Namespace) -> int:
    from bakeoff.evidence import disclosure, layout, submission

    if args.disclosure and not layout.flaws(args.submission):
        write_atomic(args.disclosure, disclosure.form(args.submission).encode())
    judgement = submission.judge(args.submission)
    if args.json:
        print(json.dumps(judgement.model_dump(mode="json", by_alias=True)))
    else:
        print(submission.worded(judgement))
    return 0 if judgement.accepted else CheckFailed.exit_code


def _attestation(args: argparse.Namespace) -> int:
    """Digests, then the signature; without one, or without knowing whose it must be, the answer is no."""
    from bakeoff.evidence import signature, statement

    attested = statement.read(args.attestation)
    apart = statement.held(attested.statement, args.folder)
    if attested.bundle is None:
        unsigned: str | None = "none: anybody could have written this statement"
    elif args.repository is None:
        unsigned = "not checked: say with --repository OWNER/NAME whose it must be"
    else:
        unsigned = signature.unsigned(attested.bundle, attested.payload, args.repository)
    if args.json:
        said = {"digests_hold": not apart, "differs": apart, "signed": unsigned is None, "signature": unsigned}
        print(json.dumps({**said, "subjects": len(attested.statement.subject)}))
        return 0 if not apart and unsigned is None else CheckFailed.exit_code
    count = len(attested.statement.subject)
    digests = f"digests: {f'{len(apart)} DIFFER' if apart else f'all {count} files are as attested'}"
    signed = f"signature: {unsigned or f'of a workflow of {args.repository}'}"
    said_lines = "\n  ".join([digests, *apart[:20], signed])
    if apart or unsigned:
        raise CheckFailed(f"{args.attestation} does not attest {args.folder}\n  {said_lines}")
    print(said_lines.replace("\n  ", "\n"))
    return 0


def attest_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="RUN", help="a measured run, just made or recorded")
    output(
        parser,
        "FOLDER",
        "where to write statement.json, and predicate.json and subjects.sha256, which actions/attest takes",
    )


def attest(args: argparse.Namespace) -> int:
    from bakeoff.evidence import statement

    made = statement.make(args.folder)
    for name, data in statement.parts(made).items():
        write_atomic(args.output / name, data)
    print(f"written: {args.output}: {len(made.subject)} files; unsigned: anybody can write such a statement")
    return 0


def crate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="RUN", help="a measured run, just made or recorded")
    output(parser, "FOLDER", "a new folder for the crate")


def crate(args: argparse.Namespace) -> int:
    from bakeoff.evidence.crate import write_crate

    print(f"written: {args.output}: {write_crate(args.folder, args.output)} files")
    return 0
