"""A definition's own reference is tried before a cell is planned: confined, on a small workload, against this
project's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bakeoff.build import reference
from bakeoff.build.reference import check_reference
from bakeoff.errors import InputError
from bakeoff.files import pretty_json
from bakeoff.host import probe
from bakeoff.traces.definitions import REFERENCE
from bakeoff.traces.models import Definition
from support.minimal_traces import NARROW, TRACES, moe_line, moe_root

pytestmark = pytest.mark.timeout(300)
TEXT = REFERENCE.read_text()
FIRST, LAST = "    tokens, hidden = hidden_states.shape\n", "    return output.to(torch.bfloat16)\n"
# Writes where it may not, looks for who started it, leaves a process that holds the way out, and is right.
INTRUDES = """
    import contextlib, os, time
    with contextlib.suppress(OSError):
        open({written!r}, "w").write("here")
    with contextlib.suppress(PermissionError):
        os.kill(os.getppid(), 0)
        raise RuntimeError("who planned can be signalled")
    if os.fork() == 0:
        os.setsid()
        time.sleep(500)
        os._exit(0)
"""
# Says without end that this is its output, wherever a pipe leads.
FLOODS = """
    import os
    pipes = [int(one) for one in os.listdir("/proc/self/fd") if int(one) > 2]
    there = [one for one in pipes if os.path.exists(f"/proc/self/fd/{one}")]
    (pipe,) = (one for one in there if os.readlink(f"/proc/self/fd/{one}").startswith("pipe"))
    while True:
        os.write(pipe, b"=" * 65536)
"""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(reference, "CACHE", tmp_path / "known")
    yield


def definition(text: str) -> Definition:
    document = json.loads((TRACES / f"definitions/moe/{NARROW}.json").read_bytes())
    return Definition.model_validate({**document, "reference": text})


def refused(text: str) -> str:
    with pytest.raises(InputError, match=r"d\.json: field reference") as told:
        check_reference(definition(text), Path("d.json"))
    return told.value.found


def test_a_reference_that_is_the_projects_own_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "group", None)
    for name in (path.stem for path in (TRACES / "definitions/moe").glob("*.json")):
        document = json.loads((TRACES / f"definitions/moe/{name}.json").read_bytes())
        check_reference(Definition.model_validate(document), Path("d.json"))


def test_another_way_to_the_same_result_is_taken_and_reaches_nothing_but_its_inputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The order of the sum over experts is another one: so is the rounding of its float32 values.
    text = TEXT.replace("for e in range(local_experts):", "for e in reversed(range(local_experts)):")
    written, before = tmp_path / "written", set(Path("/proc").glob("[0-9]*"))
    other = definition(text.replace(FIRST, INTRUDES.format(written=str(written)) + FIRST))
    check_reference(other, Path("d.json"))
    assert not written.exists()
    assert not [path for path in set(Path("/proc").glob("[0-9]*")) - before if b"build.reference" in _words(path)]
    monkeypatch.setattr(reference, "group", None)  # what was found right is known
    check_reference(other, Path("d.json"))


def _words(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda text: text.replace("* factor", "* 2.5"), "a result that is 0.667 (relative L2) away"),
        (
            lambda text: text.replace(FIRST, FLOODS + FIRST),
            "more or less than the 65536 bytes",
        ),
    ],
    ids=["another result", "an endless one"],
)
def test_another_result_is_refused_with_what_was_found(change: Callable[[str], str], found: str) -> None:
    text = change(TEXT)
    assert text != TEXT and found in refused(text)


def test_a_reference_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "LIMIT_S", 1.0)
    begun = time.monotonic()
    assert refused(TEXT.replace(FIRST, "    while True:\n        pass\n")) == "no result within 1 s"
    assert time.monotonic() - begun < 20 + 5 * os.getloadavg()[0]


def test_planning_ends_before_any_cell_is_planned(tmp_path: Path) -> None:
    root = moe_root(tmp_path / "traces", [moe_line()])
    path = root.definition_path(NARROW)
    document = json.loads(path.read_bytes())
    path.write_text(json.dumps({**document, "reference": TEXT.replace(FIRST, "    raise ValueError('not today')\n")}))
    (tmp_path / "host.json").write_bytes(pretty_json(probe().model_dump(mode="json")))
    settings = json.dumps({"backend": "cpu", "traces_root": str(tmp_path / "traces"), "definition": NARROW})
    words = ["plan", "--settings", settings, "--host", str(tmp_path / "host.json"), "-o", str(tmp_path / "config.json")]
    done = subprocess.run([sys.executable, "-m", "bakeoff", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "ValueError: not today" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "config.json").exists()
