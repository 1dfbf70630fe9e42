"""Forged journal: appends a result of its own to the run's files."""

import tempfile
from pathlib import Path

EXPECTED = ("REJECTED", "edited_run")


def _try_to_append(path):
    try:
        with path.open("a") as stream:
            stream.write('{"outcome":"PASSED"}\n')
    except OSError:
        pass


def hostile(honest, *arguments):
    honest(*arguments)
    for journal in Path(__file__).resolve().parents[5].glob("samples/*/*.jsonl"):
        _try_to_append(journal)


def neighbour(honest, *arguments):
    """Appends to a file in its own scratch folder, and uses a temporary file without a name there."""
    honest(*arguments)
    with tempfile.TemporaryFile(dir=".") as stream:
        stream.write(b"call\n")
    with Path("notes.txt").open("a") as stream:
        stream.write("call\n")
