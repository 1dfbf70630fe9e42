"""A shared file system that shows a block's journals, or a run's profiles, later than the manifest."""

from __future__ import annotations

import json
import re
import shutil
import threading
from pathlib import Path

import pytest
from bakeoff.errors import InputError
from bakeoff.files import PROJECT_ROOT
from bakeoff.planned import read_plan
from bakeoff.profile import due
from bakeoff.runs import late
from bakeoff.runs.late import wait_for_samples
from bakeoff.schema.plan import Plan

RECORDED = PROJECT_ROOT / "results/recorded/2026-11-23_h200"
JOURNALS = ("samples/block-03/deepgemm_moe.jsonl.gz", "samples/block-07/reference.jsonl.gz")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Plan]:
    monkeypatch.setattr(late, "LOOK_S", 0.01)
    copy = tmp_path / "run"
    shutil.copytree(RECORDED, copy, ignore=shutil.ignore_patterns("build", "profile"))
    return copy, read_plan(copy)


def test_what_is_all_there_is_not_waited_for(run: tuple[Path, Plan]) -> None:
    said: list[str] = []
    wait_for_samples(*run, 60, said.append)
    assert said == []


def test_a_journal_that_comes_late_or_is_short_at_first_is_waited_for(run: tuple[Path, Plan]) -> None:
    folder, plan = run
    whole = {folder / name: (folder / name).read_bytes() for name in JOURNALS}
    gone, short = whole
    gone.unlink()
    short.unlink()
    # As written on another host, not compressed; at first without its end.
    lines = (short.parent / "reference.jsonl", late.journal_bytes(RECORDED / JOURNALS[1].removesuffix(".gz")))
    lines[0].write_bytes(lines[1][:-100])
    said: list[str] = []

    def arrives(word: str) -> None:
        said.append(word)
        threading.Timer(0.3, lambda: (gone.write_bytes(whole[gone]), lines[0].write_bytes(lines[1]))).start()

    wait_for_samples(folder, plan, 60, arrives)
    assert len(said) == 1 and "block-03/deepgemm_moe: its manifest is here" in said[0]


def test_a_journal_that_never_comes_is_one_typed_error(run: tuple[Path, Plan]) -> None:
    folder, plan = run
    for name in JOURNALS:
        (folder / name).unlink()
    with pytest.raises(InputError, match=r"(?s)deepgemm_moe\.jsonl.*2 are missing.*to do: .*latency-wait") as told:
        wait_for_samples(folder, plan, 0.05, lambda word: None)
    assert re.search("after 0.05 s", str(told.value))


def test_a_changed_journal_is_left_to_those_who_judge_samples(run: tuple[Path, Plan]) -> None:
    folder, plan = run
    packed = folder / JOURNALS[0]
    packed.with_suffix("").write_bytes(b"{}\n")
    packed.unlink()
    wait_for_samples(folder, plan, 0.05, lambda word: None)


@pytest.fixture
def profiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Plan]:
    monkeypatch.setattr(due, "LOOK_S", 0.01)
    copy = tmp_path / "run"
    profiled = PROJECT_ROOT / "results/recorded/2026-11-30_h200"
    shutil.copytree(profiled, copy, ignore=shutil.ignore_patterns("build", "samples"))
    (copy / "profile/manifest.json").write_text("{}")
    return copy, read_plan(copy)


def test_a_profile_that_comes_late_or_is_an_earlier_one_is_waited_for(profiled: tuple[Path, Plan]) -> None:
    folder, plan = profiled
    said: list[str] = []
    due.wait_for_documents(folder, plan, 60, said.append)
    assert said == [], "it is all there"
    path = folder / "profile/cutedsl_moe_fp8_v3.json"
    whole = path.read_text()
    document = json.loads(whole)
    document["cells"] = document["cells"][:3]
    path.write_text(json.dumps(document))

    def arrives(word: str) -> None:
        said.append(word)
        threading.Timer(0.2, path.write_text, [whole]).start()

    due.wait_for_documents(folder, plan, 60, arrives)
    assert len(said) == 1 and "the profile of cutedsl_moe_fp8_v3" in said[0]


def test_a_profile_that_never_comes_is_one_typed_error(profiled: tuple[Path, Plan]) -> None:
    folder, plan = profiled
    (folder / "profile/cutedsl_moe_fp8_v3.json").unlink()
    with pytest.raises(InputError, match=r"(?s)cutedsl_moe_fp8_v3\.json.*fewer cells.*to do: .*latency-wait"):
        due.wait_for_documents(folder, plan, 0.05, lambda word: None)
    (folder / "profile/manifest.json").unlink()
    due.wait_for_documents(folder, plan, 60, lambda word: None)
