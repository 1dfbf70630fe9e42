"""The journal: sealed lines, a torn end that is repaired, damage that is not, and disks that fail."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from bakeoff.errors import InputError
from bakeoff.runs.journal import Journal, read_journal
from bakeoff.schema.outcomes import Outcome
from bakeoff.schema.sample import Record, parse_line, seal
from support.measure_runs import PASSED_GATES, environment

HERE = Path(__file__).parent


def record(key: str = "k", outcome: Outcome = Outcome.PASSED, **fields: object) -> Record:
    given = {
        "kind": "measure",
        "participant": "p",
        "workload": "T1_o0",
        "protocol": "robust",
        "family": "fib",
        "seed": 0,
        "block": 0,
        "gates": PASSED_GATES if outcome == Outcome.PASSED else {},
    }
    return Record(key=key, outcome=outcome, started="2000-01-01T00:00:00+00:00", seconds=0.1, **{**given, **fields})  # type: ignore[arg-type]


def filled(path: Path, keys: str) -> Path:
    journal = Journal.open(path, pytest.fail)
    for key in keys:
        journal.append(record(key))
    journal.close()
    return path


def test_a_sealed_line_reads_back_and_any_changed_byte_is_noticed() -> None:
    line = seal(record(detail="why"))
    assert parse_line(line, "x:1") == record(detail="why")
    for position in range(0, len(line) - 1, 7):
        changed = bytearray(line)
        changed[position] ^= 1
        with pytest.raises(InputError, match="x:1"):
            parse_line(bytes(changed), "x:1")


@pytest.mark.parametrize(
    ("spelled", "other"),
    [(b'"block":0', b'"block": 0'), (b'"block":0', b'"block":0,"block":0'), (b'"seconds":0.1', b'"seconds":1e-1')],
)
def test_a_line_that_says_the_same_in_another_spelling_is_no_line_of_a_journal(spelled: bytes, other: bytes) -> None:
    """Readers might take another value from it than the one that the digest is of."""
    line = seal(record())
    assert parse_line(line, "j:1") == record() and spelled in line
    with pytest.raises(InputError, match="does not fit its digest"):
        parse_line(line.replace(spelled, other, 1), "j:1")


def test_what_was_appended_is_there_after_reopening(tmp_path: Path) -> None:
    path = filled(tmp_path / "a.jsonl", "abc")
    again = Journal.open(path, pytest.fail)
    assert [found.key for found in again.records] == ["a", "b", "c"]
    assert again.last("b") == record("b") and again.last("z") is None


def test_a_torn_last_line_is_cut_at_every_byte_with_a_notice_and_the_rest_stays(tmp_path: Path) -> None:
    path = filled(tmp_path / "a.jsonl", "ab")
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for length in range(first + 1, len(whole)):
        path.write_bytes(whole[:length])
        notices: list[str] = []
        journal = Journal.open(path, notices.append)
        assert [found.key for found in journal.records] == ["a"]
        assert len(notices) == 1 and f"{path}:2" in notices[0]
        journal.append(record("c"))
        journal.close()
        assert [found.key for found in read_journal(path)] == ["a", "c"]


def test_a_torn_last_line_is_an_error_for_readers_that_must_not_repair(tmp_path: Path) -> None:
    path = filled(tmp_path / "a.jsonl", "ab")
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(InputError, match=r"a\.jsonl:2"):
        read_journal(path)


@pytest.mark.parametrize("name", ["s.jsonl", "s.jsonl.gz"])
def test_a_folder_in_a_journals_place_is_an_error_and_no_journal_is_none(tmp_path: Path, name: str) -> None:
    assert read_journal(tmp_path / "s.jsonl") == []
    (tmp_path / name).mkdir()
    with pytest.raises(InputError) as caught:
        read_journal(tmp_path / "s.jsonl")
    assert name in str(caught.value)


def test_damage_in_the_middle_is_an_error_that_names_file_and_line_also_on_resume(tmp_path: Path) -> None:
    path = filled(tmp_path / "a.jsonl", "abc")
    lines = path.read_bytes().split(b"\n")
    lines[1] = lines[1].replace(b"PASSED", b"FAILED")
    path.write_bytes(b"\n".join(lines))
    before = path.read_bytes()
    for read in (read_journal, lambda each: Journal.open(each, pytest.fail)):
        with pytest.raises(InputError, match=r"a\.jsonl:2"):
            read(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("function", ["write", "fsync"])
def test_a_failing_disk_is_a_typed_error_and_no_earlier_line_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int, function: str
) -> None:
    path = filled(tmp_path / "a.jsonl", "ab")
    before = path.read_bytes()
    journal = Journal.open(path, pytest.fail)
    real, failed = getattr(os, function), []

    def fail(descriptor: int, *rest: bytes) -> int:
        if failed:
            return real(descriptor, *rest)  # type: ignore[no-any-return]
        failed.append(True)
        if function == "write":
            real(descriptor, rest[0][:10])  # part of the line reaches the file before the disk is full
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(InputError, match="finished cells are kept"):
        journal.append(record("c"))
    monkeypatch.undo()
    assert path.read_bytes() == before
    journal.append(record("d"))
    assert [found.key for found in read_journal(path)] == ["a", "b", "d"]


def test_a_file_that_may_not_grow_ends_in_exit_code_2_without_a_traceback(tmp_path: Path) -> None:
    path = filled(tmp_path / "a.jsonl", "ab")
    size = path.stat().st_size
    code = (
        "import sys; from pathlib import Path; from bakeoff.runs.journal import Journal; "
        "sys.path[:0] = sys.argv[2:]\n"
        "from test_measure_journal import record\nfrom bakeoff.errors import BakeoffError\n"
        "journal = Journal.open(Path(sys.argv[1]), print)\n"
        "try: journal.append(record('c'))\nexcept BakeoffError as error: print(error); sys.exit(error.exit_code)"
    )
    words = [sys.executable, "-c", code, str(path), str(HERE), str(HERE.parent)]
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, size + 20))  # noqa: E731 - a callable is asked for
    done = subprocess.run(words, preexec_fn=limit, env=environment(), text=True, capture_output=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "cannot write" in done.stdout and path.stat().st_size == size
