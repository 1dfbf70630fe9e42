"""Comparing runs: constructed ones of every kind, and the two published runs of one day."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bakeoff.cli import main
from bakeoff.runs.published import published_folder
from bakeoff.runs.samples import Samples
from bakeoff.stats.compare import Between, between_runs, compare
from bakeoff.stats.published import load_published
from bakeoff.stats.rundata import RunData
from bakeoff.stats.runs import load_run
from scipy import stats
from support.make import FOUR, Made, named, write


@pytest.fixture(scope="module")
def published() -> RunData:
    return load_published(published_folder("2026-02-26_4way"))


@pytest.fixture(scope="module")
def repeat() -> RunData:
    return load_published(published_folder("2026-02-26_2way"))


@pytest.fixture(scope="module")
def between(published, repeat) -> Between:
    return between_runs(published, repeat)


def loaded(made: Made, folder: Path) -> RunData:
    return load_run(write(made, folder / made.name))


def like_published(published: RunData, folder: Path, **changes) -> RunData:
    """A run on the published device, protocol and inputs whose speedups are the published ones up to 0.4 % noise."""
    run = loaded(named("b200_published_protocol", **changes), folder)
    names = [run.samples.solutions.index(name) for name in published.samples.solutions]
    time = run.samples.log_time.copy()
    for row, index in enumerate(names):
        shift = published.samples.log_speedup[row, :, 0] - np.nanmean(run.samples.log_speedup[index], axis=1)
        time[index] -= shift[:, None]
    return replace(run, samples=replace(run.samples, log_time=time))


def test_the_scatter_between_published_runs_is_the_root_mean_square_of_38_cells(published, repeat, between):
    moved = [
        published.samples.log_speedup[published.samples.solutions.index(name), row, 0]
        - repeat.samples.log_speedup[column, row, 0]
        for column, name in enumerate(repeat.samples.solutions)
        for row in range(19)
    ]
    assert between.cells == 38
    assert between.sd == pytest.approx(np.sqrt(np.mean(np.square(moved))))
    assert np.exp([min(moved), max(moved)]) == pytest.approx([0.902, 1.546], abs=1e-3)


def test_a_run_like_the_published_one_reproduces_all_76_cells(published, between, tmp_path):
    found = compare(published, like_published(published, tmp_path), between)
    assert found.rule == "published" and found.counts == {"REPRODUCED": 76}
    assert not found.regressions and not found.wrong


def test_a_cell_outside_the_prediction_interval_differs(published, between, tmp_path):
    run = like_published(published, tmp_path)
    time = run.samples.log_time.copy()
    time[run.samples.solutions.index("triton_fused_moe_v2"), 18] -= np.log(2)
    time[run.samples.solutions.index("flashinfer_moe"), 0] += np.log(2)
    found = compare(published, replace(run, samples=replace(run.samples, log_time=time)), between)
    differing = {(cell.solution, cell.workload) for cell in found.cells if cell.verdict == "DIFFERS"}
    assert differing == {("triton_fused_moe_v2", "T14107_o32"), ("flashinfer_moe", "T1_o32")}
    assert found.counts == {"DIFFERS": 2, "REPRODUCED": 74} and not found.regressions


def test_the_prediction_interval_is_that_of_the_two_variances(published, between, tmp_path):
    run = like_published(published, tmp_path)
    cell = compare(published, run, between).cells[0]
    logs = run.samples.log_speedup[run.samples.solutions.index(cell.solution), 0]
    within, scatter = logs.var(ddof=1) / len(logs), between.sd**2
    freedom = (within + scatter) ** 2 / (within**2 / (len(logs) - 1) + scatter**2 / between.cells)
    assert np.log(cell.ratio.high) == pytest.approx(stats.t.ppf(0.975, freedom) * np.sqrt(within + scatter))
    assert cell.ratio.low == pytest.approx(1 / cell.ratio.high)


def test_the_prediction_interval_holds_95_percent_of_repeated_runs():
    """Simulated: the scatter comes from one pair of runs, and a third run is compared with the first."""
    random, inside = np.random.default_rng(2), []
    for _ in range(1500):
        deviations = 0.1 * random.standard_normal((3, 38))
        scatter = Between(sd=float(np.sqrt(np.mean((deviations[0] - deviations[1]) ** 2))), cells=38)
        quantile = stats.t.ppf(0.975, scatter.cells)
        inside.append(np.mean(np.abs(deviations[2] - deviations[0]) <= quantile * scatter.sd))
    assert np.mean(inside) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"backend": "sm_90a", "gpu": "NVIDIA H100 80GB HBM3"}, ["device"]),
        ({"protocols": ["robust"]}, ["protocol"]),
        ({"dataset": "synthetic"}, ["inputs"]),
        ({"protocols": ["robust"], "dataset": "synthetic"}, ["protocol", "inputs"]),
    ],
)
def test_another_device_protocol_or_input_is_not_comparable_in_all_76_cells(
    published, between, tmp_path, changes, reason
):
    found = compare(published, loaded(named("b200_published_protocol", **changes), tmp_path), between)
    assert found.counts == {"NOT COMPARABLE": 76} and found.not_comparable == reason
    assert all(cell.reasons == reason and cell.ratio is None for cell in found.cells)


def test_a_cpu_run_shows_no_speedup_in_a_comparison(published, between, tmp_path):
    found = compare(published, loaded(named("cpu"), tmp_path), between)
    assert found.counts == {"NOT COMPARABLE": 76}
    assert all(cell.new is None for cell in found.cells)


def test_missing_failed_and_measured_cells_stand_side_by_side(published, between, tmp_path):
    run = loaded(
        named(
            "b200_published_protocol",
            outcomes={
                ("flashinfer_moe", 1): ("NOT_WRITTEN", None),
                ("flashinfer_moe", 7): ("CRASHED", "signal"),
                ("flashinfer_moe", 14): ("INCORRECT_NUMERICAL", "strict_gate"),
            },
        ),
        tmp_path,
    )
    found = compare(published, run, between)
    cells = {(cell.solution, cell.workload): cell for cell in found.cells}
    assert len(cells) == 76
    assert cells["flashinfer_moe", "T1_o32"].reasons == ["missing"]
    assert cells["flashinfer_moe", "T7_o192"].reasons == ["failed"]
    assert found.wrong == ["flashinfer_moe/T14_o0"]
    assert found.counts["NOT COMPARABLE"] == 3


def test_the_earlier_table_without_offsets_is_not_comparable(published, between):
    earlier = load_published(published_folder("2026-02-04_4way"))
    found = compare(earlier, published, between)
    assert found.not_comparable == ["inputs"] and found.counts == {"NOT COMPARABLE": 76}


def test_one_block_is_compared_with_the_scatter_between_runs_alone(published, between, tmp_path):
    run = like_published(published, tmp_path, blocks=1)
    found = compare(published, run, between)
    assert found.counts == {"REPRODUCED": 76}
    assert np.log(found.cells[0].ratio.high) == pytest.approx(stats.t.ppf(0.975, 38) * between.sd)


def test_a_comparison_of_nothing_is_no_success(tmp_path, capsys):
    for name, hardware in (("old", "NVIDIA H100 80GB HBM3"), ("new", "NVIDIA H200")):
        write(Made(name=name, gpu=hardware), tmp_path / name)
    assert main(["compare", str(tmp_path / "old"), str(tmp_path / "new")]) == 3
    assert "NOTHING COMPARED" in capsys.readouterr().out.splitlines()[-1]


def test_a_wrong_output_fails_a_comparison_of_nothing(published, between, tmp_path):
    nothing = compare(published, loaded(named("cpu"), tmp_path), between)
    assert (nothing.result, nothing.model_copy(update={"wrong": ["a/b"]}).result) == ("NOTHING COMPARED", "FAILED")


def test_two_equal_runs_show_no_regression(tmp_path):
    old, new = (loaded(Made(name=name, seed=seed, outliers=0.0), tmp_path) for name, seed in (("old", 1), ("new", 2)))
    found = compare(old, new)
    assert found.rule == "runs" and not found.regressions
    assert set(found.counts) <= {"SAME", "AMBIGUOUS"} and found.counts["SAME"] >= 70


def test_a_slower_kernel_is_a_supported_regression_and_a_faster_one_is_not(tmp_path):
    old = loaded(Made(name="old", seed=1), tmp_path)
    changed = {("triton_fused_moe_v2", 901): 1.08, ("flashinfer_moe", 16): 0.9}
    found = compare(old, loaded(Made(name="new", seed=2, factor=changed), tmp_path))
    assert found.regressions == ["triton_fused_moe_v2/T901_o96"]
    verdicts = {(cell.solution, cell.workload): cell for cell in found.cells}
    assert verdicts["flashinfer_moe", "T16_o224"].verdict == "FASTER"
    slower = verdicts["triton_fused_moe_v2", "T901_o96"]
    assert slower.ratio.value == pytest.approx(1 / 1.08, abs=0.01) and slower.latency_ratio.value == pytest.approx(
        1 / 1.08, abs=0.01
    )


def shifted(run: RunData, *, time: float = 0.0, reference: float = 0.0) -> RunData:
    """A run whose solutions or reference took another time throughout."""
    samples: Samples = run.samples
    return replace(
        run, samples=replace(samples, log_time=samples.log_time + time, log_reference=samples.log_reference + reference)
    )


def test_a_slower_clock_is_no_regression(tmp_path):
    old, new = (loaded(Made(name=name, seed=seed), tmp_path) for name, seed in (("old", 1), ("new", 2)))
    found = compare(old, shifted(new, time=0.1, reference=0.1))
    assert not found.regressions and "SLOWER" not in found.counts


def test_a_faster_reference_is_no_regression(tmp_path):
    old, new = (loaded(Made(name=name, seed=seed), tmp_path) for name, seed in (("old", 1), ("new", 2)))
    found = compare(old, shifted(new, reference=-0.1))
    assert not found.regressions and found.counts["AMBIGUOUS"] >= 70


def test_a_workload_with_other_inputs_is_not_comparable_between_runs(tmp_path):
    old, new = (loaded(Made(name=name, seed=seed), tmp_path) for name, seed in (("old", 1), ("new", 2)))
    changed = replace(new, workload_digests={**new.workload_digests, "T901_o96": "other"})
    cells = [cell for cell in compare(old, changed).cells if cell.verdict == "NOT COMPARABLE"]
    assert {cell.workload for cell in cells} == {"T901_o96"} and len(cells) == len(FOUR)
    assert all(cell.reasons == ["inputs"] for cell in cells)


def test_times_of_another_clock_are_not_comparable_between_runs(tmp_path):
    old, new = (loaded(Made(name=name, seed=seed), tmp_path) for name, seed in (("old", 1), ("new", 2)))
    tier = new.samples.tier.copy()
    tier[new.samples.solutions.index("flashinfer_moe"), 3] = "event_us"
    cells = compare(old, replace(new, samples=replace(new.samples, tier=tier))).cells
    assert [(cell.solution, cell.workload, cell.reasons) for cell in cells if cell.verdict == "NOT COMPARABLE"] == [
        ("flashinfer_moe", old.samples.workloads[3], ["clock"])
    ]


def test_a_wrong_output_on_other_values_than_the_timed_ones_is_a_wrong_output(tmp_path):
    old, new = (loaded(Made(name=name, seed=seed), tmp_path) for name, seed in (("old", 1), ("new", 2)))
    entries = [
        entry.model_copy(update={"failed": ["T7_o192", "T14_o0"], "wrong": ["T7_o192"]})
        if (entry.solution, entry.family) == ("flashinfer_moe", "realistic")
        else entry
        for entry in new.verifications
    ]
    assert compare(old, replace(new, verifications=entries)).wrong == ["flashinfer_moe/T7_o192 (realistic, seed 0)"]
    assert compare(replace(old, verifications=entries), new).wrong == []


def test_a_wrong_timed_output_is_listed_once(tmp_path):
    outcomes = {
        ("flashinfer_moe", 7): ("INCORRECT_NUMERICAL", "strict_gate"),
        ("flashinfer_moe", 14): ("CRASHED", "signal"),
    }
    old, new = (loaded(Made(name=name, outcomes=found), tmp_path) for name, found in (("old", {}), ("new", outcomes)))
    assert [entry.wrong for entry in new.verifications if entry.solution == "flashinfer_moe"] == [["T7_o192"]] * 2
    assert compare(old, new).wrong == ["flashinfer_moe/T7_o192"]


def test_one_block_runs_are_not_comparable_with_each_other(tmp_path):
    old, new = (loaded(Made(name=name, seed=seed, blocks=1), tmp_path) for name, seed in (("old", 1), ("new", 2)))
    found = compare(old, new)
    assert found.counts == {"NOT COMPARABLE": 76} and found.cells[0].reasons == ["one_block"]


def test_false_regressions_are_rare_in_repeated_runs(tmp_path):
    """80 pairs of equal runs of 4 solutions: at most 5 % of a solution's runs may show any."""
    run = loaded(Made(name="base", outliers=0.05), tmp_path)
    random, false = np.random.default_rng(4), 0
    for _ in range(80):
        pair = []
        for _ in range(2):
            logs = [noisy(random, table) for table in (run.samples.log_time, run.samples.log_reference)]
            pair.append(replace(run, samples=replace(run.samples, log_time=logs[0], log_reference=logs[1])))
        false += len({name.split("/")[0] for name in compare(*pair).regressions})
    assert false / (80 * 4) <= 0.05


def noisy(random: np.random.Generator, logs: np.ndarray) -> np.ndarray:
    level = np.nanmean(logs, axis=2, keepdims=True)
    slow = np.where(random.random(logs.shape) < 0.05, random.uniform(0.03, 0.06, logs.shape), 0.0)
    return level + 0.005 * random.standard_normal(logs.shape) + slow
