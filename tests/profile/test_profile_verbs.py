"""The two verbs as they are typed."""

from __future__ import annotations

from pathlib import Path

import pytest
from bakeoff import cli
from support.profile_documents import everyone, write_run
from support.profile_runs import SOLUTION, install, make_run


def test_profile_prints_its_commands_in_a_dry_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch, tmp_path)
    run = make_run(tmp_path)
    assert cli.main(["profile", str(run), "--dry-run", "--tier", "cupti", "--workload", "T1_o32"]) == 0
    captured = capsys.readouterr()
    assert "nsys  missing: nsys is not installed; to have it: install" in captured.err
    assert "cupti used (13.0.1)" in captured.err
    printed = captured.out.splitlines()
    assert len(printed) == 2 and all("bakeoff.profile.child" in line for line in printed)
    assert "cupti-00" in printed[1] and "host-00" in printed[0]


def test_profile_exits_with_1_while_cells_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch, tmp_path, nsys="nsys")
    run = make_run(tmp_path)
    assert cli.main(["profile", str(run), "--time-limit", "1e-6"]) == 1
    assert "3 cells are left; run the same command again" in capsys.readouterr().err
    assert cli.main(["profile", str(run)]) == 0


def test_profile_without_a_gpu_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch, tmp_path, gpu=None)
    assert cli.main(["profile", str(make_run(tmp_path))]) == 2
    assert "no NVIDIA GPU" in capsys.readouterr().err


def test_explain_prints_the_profile_of_a_solution(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path, everyone())
    assert cli.main(["explain", SOLUTION, "--run", str(run), "--workload", "T901_o96"]) == 0
    printed = capsys.readouterr().out
    assert "T901_o96: busy 130.0 µs" in printed and "T1_o32:" not in printed
    assert cli.main(["explain", "nobody", "--run", str(run)]) == 2
