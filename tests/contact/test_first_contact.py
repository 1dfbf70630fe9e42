"""`bakeoff first-contact`: faults planted at each step are found there, and a hang or a death ends the climb."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from bakeoff.contact import verbs
from support.cute_support import module
from support.measure_runs import bakeoff, write_solution

ladder = module("ladder")
# As on a GPU, but for sizes that only fill one: columns of the fourth step, repetitions.
STEPS = [step._replace(n=min(step.n, 1024), runs=min(step.runs, 3)) for step in ladder.steps("sm_100a")]
Fault = Callable[[Any, Any, torch.Tensor], None]


def launcher(form: Any, fault: Fault | None) -> Callable[..., None]:
    """Stands in for a compiled form: the grouped product with torch, then what a fault does to it."""

    def launch(a, a_scale, b, b_scale, out, out_scale, indptr, count, blocks):
        for e, rows in enumerate(count.tolist()):
            if not rows:
                continue
            mine = slice(int(indptr[e]), int(indptr[e]) + rows)
            x = a[mine].view(torch.float8_e4m3fn).float() * a_scale[:, mine].t().repeat_interleave(128, 1)
            w = b[e].view(torch.float8_e4m3fn).float() * b_scale[e].repeat_interleave(128, 0).repeat_interleave(128, 1)
            result = x @ w.t()
            if fault:
                fault(form, (e, a.shape[1], blocks), result)
            if form.fp8_out:
                scale = result.unflatten(1, (-1, 128)).abs().amax(2) / 448
                out_scale[:, mine] = scale.t()
                out[mine] = (result / scale.repeat_interleave(128, 1)).to(torch.float8_e4m3fn).view(torch.uint8)
            else:
                out[mine] = result.bfloat16()

    return launch


CALLS = [0]


def now_and_then(form: Any, where: Any, result: torch.Tensor) -> None:
    CALLS[0] += 1
    result *= 1 + CALLS[0] % 2  # no two runs alike


def scaled(condition: Callable[[Any, Any, torch.Tensor], bool]) -> Fault:
    """A product that is wrong where a condition on (form, (expert, K, blocks), result) holds."""

    def fault(form: Any, where: Any, result: torch.Tensor) -> None:
        if condition(form, where, result):
            result *= 1.25

    return fault


# For each step what only it and later ones show.
FAULTS: list[Fault] = [
    scaled(lambda form, where, result: True),
    scaled(lambda form, where, result: len(result) > 1),
    scaled(lambda form, where, result: where[1] > 512),
    scaled(lambda form, where, result: result.shape[1] > 512),
    scaled(lambda form, where, result: where[0] > 0 and not form.fp8_out),
    scaled(lambda form, where, result: form.fp8_out),
    scaled(lambda form, where, result: form.name == "swapped64"),
    scaled(lambda form, where, result: form.name == "swapped128"),
    scaled(lambda form, where, result: form.cluster == 2),
    scaled(lambda form, where, result: form.cluster == 2 and len(result) > 128),
    scaled(lambda form, where, result: form.cluster == 2 and where[1] > 512),
    scaled(lambda form, where, result: form.cluster == 2 and where[0] > 1 and not form.fp8_out),
    scaled(lambda form, where, result: form.cluster == 2 and form.fp8_out),
    scaled(lambda form, where, result: form.cluster == 4),
    scaled(lambda form, where, result: form.cluster == 4 and form.fp8_out),
    scaled(lambda form, where, result: form.overlap),
    now_and_then,
]


def first_deviation(monkeypatch: pytest.MonkeyPatch, steps: list[Any], fault: Fault | None) -> int | None:
    monkeypatch.setattr(ladder, "launcher", lambda arch, form: launcher(form, fault))
    for number, step in enumerate(steps):
        error, bound = ladder.run_step(step, "sm_100a", "cpu")
        if not error <= bound:
            return number
    return None


def test_a_right_kernel_climbs_to_the_top(monkeypatch: pytest.MonkeyPatch) -> None:
    assert first_deviation(monkeypatch, STEPS, None) is None


@pytest.mark.parametrize("place", range(len(STEPS)), ids=[step.name for step in STEPS])
def test_a_fault_is_found_at_the_first_step_that_has_it(monkeypatch: pytest.MonkeyPatch, place: int) -> None:
    before = STEPS[max(0, place - 1) : place] if place < len(STEPS) - 1 else []  # all before it: the test above
    steps = [*before, STEPS[place]]
    assert first_deviation(monkeypatch, steps, FAULTS[place]) == len(before)


def test_hopper_has_no_clusters_of_four() -> None:
    assert [step.form for step in ladder.STEPS if step not in ladder.steps("sm_90a")] == ["plain4", "plain4"]


def test_padding_that_is_written_deviates(monkeypatch: pytest.MonkeyPatch) -> None:
    def launch(*operands: Any) -> None:
        launcher(ladder._form(STEPS[0], "sm_100a"), None)(*operands)
        operands[4][-1] = 0

    monkeypatch.setattr(ladder, "launcher", lambda arch, form: launch)
    assert ladder.run_step(STEPS[0], "sm_100a", "cpu")[0] == float("inf")


# --- the watchdog -----------------------------------------------------------------------------------------------------

FIRST = """echo '{"begins": "one"}'; echo '{"error": 0.001, "bound": 0.004}'; echo '{"begins": "two"}'; """
ENDS = {
    "hangs": ("exec sleep 60", "2  two.* HANGS: no end after 0.4 s"),
    "dies": ("echo 'Segmentation fault' >&2; kill -SEGV $$", "2  two.* DIED .*Segmentation fault"),
    "deviates": ("""echo '{"error": 0.5, "bound": 0.004}'""", "2  two.* 0.5, at most 0.004 .*DEVIATES"),
    "is not a number": ("""echo '{"error": NaN, "bound": 0.004}'""", "2  two.* nan, at most 0.004 .*DEVIATES"),
    "raises": ("""echo '{"raised": "RuntimeError: no"}'; exit 1""", "2  two.* RAISED RuntimeError: no"),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_climb_says_where_it_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    script, expected = ENDS[end]
    popen = subprocess.Popen
    monkeypatch.setattr(
        verbs.subprocess, "Popen", lambda command, **options: popen(["bash", "-c", FIRST + script], **options)
    )
    told: list[str] = []
    assert not verbs.climb({"scratch": str(tmp_path)}, 0.4, told.append)
    assert "1  one" in told[0] and "0.001" in told[0]
    assert re.search(expected, told[1])
    assert told[2].startswith("first-contact: step 2\n") and "'two'; every step before it holds" in told[2]


def test_whole_layers_are_compared_on_the_cpu_backend(tmp_path: Path) -> None:
    """One solution holds; the next one drops its factor, and the climb ends there."""
    write_solution(tmp_path, "a_right_one")
    wrong = "def run_with(honest, *arguments):\n    honest(*arguments[:9], 1.0, arguments[10])\n"
    write_solution(tmp_path, "b_wrong_one", wrong)
    done = bakeoff(
        "first-contact", "--backend", "cpu", "--workloads", "T7_o192", "T80_o96", "--solutions-root", str(tmp_path)
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 1, done.stderr
    assert ["a_right_one: T7_o192" in lines[0], "a_right_one: T80_o96" in lines[1]] == [True, True]
    assert "b_wrong_one: T7_o192" in lines[2] and "DEVIATES" in lines[2]
    assert "step 3" in lines[3]
