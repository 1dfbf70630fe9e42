"""A child that never stops writing does not keep the supervisor from its clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bakeoff.core.messages import ChannelError
from bakeoff.processes import children
from bakeoff.processes.children import KEPT_OUTPUT, READS, Child
from support.measure_runs import environment, make_run, measure, only

PRINTS = "import os\ndef run_with(*arguments):\n    while True:\n        os.write(1, b'x' * 65536)\n"


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    child = Child.spawn("this", environment(), tmp_path)
    yield child
    child.end()
    child.close()


def test_reading_ends_though_more_keeps_coming(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []

    def endless(descriptor: int, size: int) -> bytes:
        reads.append(descriptor)
        assert len(reads) <= READS, "the supervisor reads for ever"
        return b"x" * size

    with monkeypatch.context() as patch:
        patch.setattr(children.os, "read", endless)
        assert child.drain() is False
        reads.clear()
        with pytest.raises(ChannelError, match="more than"):
            child.messages()
    assert len(child.printed()) == KEPT_OUTPUT


def test_a_child_that_reads_nothing_never_makes_the_supervisor_wait(child: Child) -> None:
    begun = time.monotonic()
    with pytest.raises(ChannelError, match="not read"):
        for _ in range(1000):
            child.send({"do": "x" * 20_000})
    assert time.monotonic() - begun < 20


@pytest.mark.parametrize(
    "line", [b"[" * 60_000, b"9" * 5000, b'{"a": 1, "a": 2}', b'{"a": NaN}', b'{"a": 1e999}', b"\xff"]
)
def test_no_line_of_a_child_is_more_than_a_message_that_is_none(
    child: Child, line: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = iter([line + b"\n", b""])
    with monkeypatch.context() as patch:
        patch.setattr(children.os, "read", lambda descriptor, size: next(parts))
        with pytest.raises(ChannelError, match="no message"):
            child.messages()


def test_a_solution_that_prints_for_ever_is_ended_in_time(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"prints": PRINTS}, workloads=["T7_o192"], timeout_s=5)
    begun = time.monotonic()
    done = measure(run)
    assert done.returncode == 0, done.stderr
    record = only(run, "prints")
    assert (record.outcome, record.reason) == ("TIMEOUT", "hang") and "xxx" in (record.detail or "")
    assert record.seconds < 60 and time.monotonic() - begun < 200
