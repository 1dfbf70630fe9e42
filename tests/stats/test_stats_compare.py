"""Comparing runs: constructed ones of every kind, and the two published runs of one day."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bakeoff.cli import main
from bakeoff.files import PROJECT_ROOT
from bakeoff.runs.published import published_folder
from bakeoff.schema.sample import TIERS
from bakeoff.stats.compare import Scatter, between_runs, compare
from bakeoff.stats.published import load_published
from bakeoff.stats.rundata import RunData
from bakeoff.stats.runs import load_run
from bakeoff.stats.text import comparison_lines
from scipy import stats
from support.make import FOUR, Made, named, write


@pytest.fixture(scope="module")
def published() -> RunData:
    return load_published(published_folder("2026-02-26_4way"))


@pytest.fixture(scope="module")
def repeat() -> RunData:
    return load_published(published_folder("2026-02-26_2way"))


@pytest.fixture(scope="module")
def between(published, repeat) -> Scatter:
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


def test_the_scatter_between_published_runs_is_a_root_mean_square_of_small_and_of_large_workloads(
    published, repeat, between
):
    moved = np.array(
        [
            published.samples.log_speedup[published.samples.solutions.index(name), row, 0]
            - repeat.samples.log_speedup[column, row, 0]
            for row in range(19)
            for column, name in enumerate(repeat.samples.solutions)
        ]
    ).reshape(19, 2)
    assert (between[False].rows, between[True].rows) == (16, 3)
    assert between[False].sd == pytest.approx(np.sqrt(np.mean(moved[:16] ** 2))) == pytest.approx(0.145, abs=1e-3)
    assert between[True].sd == pytest.approx(np.sqrt(np.mean(moved[16:] ** 2))) == pytest.approx(0.034, abs=1e-3)
    assert np.exp([moved.min(), moved.max()]) == pytest.approx([0.902, 1.546], abs=1e-3)
    assert np.corrcoef(moved.T)[0, 1] > 0.8  # cells of a row move together, so that rows are counted


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
    for row, group in ((0, between[False]), (18, between[True])):
        cell = compare(published, run, between).cells[row]
        logs = run.samples.log_speedup[run.samples.solutions.index(cell.solution), row]
        within, scatter = logs.var(ddof=1) / len(logs), group.sd**2
        freedom = (within + scatter) ** 2 / (within**2 / (len(logs) - 1) + scatter**2 / group.rows)
        assert np.log(cell.ratio.high) == pytest.approx(stats.t.ppf(0.975, freedom) * np.sqrt(within + scatter))
        assert cell.ratio.low == pytest.approx(1 / cell.ratio.high)


def test_the_prediction_interval_holds_95_percent_of_repeated_runs():
    """Simulated: the scatter comes from one pair of runs, and a third run is compared with the first. The two cells of
    a row are correlated by 0.8, so that counting cells makes intervals too short where there are few rows."""
    for rows in (16, 3):
        random, inside = np.random.default_rng(2), []
        for _ in range(3000):
            shared, own = random.standard_normal((3, rows, 1)), random.standard_normal((3, rows, 2))
            deviations = 0.1 * (np.sqrt(0.8) * shared + np.sqrt(0.2) * own)
            sd = np.sqrt(np.mean((deviations[0] - deviations[1]) ** 2))
            away = np.abs(deviations[2] - deviations[0])
            inside.append([np.mean(away <= stats.t.ppf(0.975, freedom) * sd) for freedom in (rows, 2 * rows)])
        by_rows, by_cells = np.mean(inside, axis=0)
        assert 0.93 <= by_rows <= 0.985 and by_cells < by_rows


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
    assert np.log(found.cells[0].ratio.high) == pytest.approx(stats.t.ppf(0.975, 16) * between[False].sd)


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
    assert slower.ratio.value == pytest.approx(1 / 1.08, abs=0.01)
    assert slower.new / slower.old == pytest.approx(1.08, abs=0.01)  # latencies, in microseconds


def test_a_slower_clock_is_no_regression(tmp_path):
    """What slows everything, the reference and unchanged solutions included, is the GPU's."""
    slow = {"robust": dict.fromkeys(("reference", *FOUR), 1.1)}
    old = loaded(Made(name="old", seed=1, outliers=0.0), tmp_path)
    found = compare(old, loaded(Made(name="new", seed=2, outliers=0.0, slowed=slow), tmp_path))
    assert not found.regressions and found.counts["SAME"] >= 70
    assert found.controls == ["reference", *FOUR] and found.differs == {}


def test_a_faster_reference_is_no_regression(tmp_path):
    fast = {"robust": {"reference": 0.9}}
    old = loaded(Made(name="old", seed=1, outliers=0.0), tmp_path)
    found = compare(old, loaded(Made(name="new", seed=2, outliers=0.0, slowed=fast), tmp_path))
    assert not found.regressions and found.counts["SAME"] >= 70


def test_a_solution_that_changed_is_compared_and_is_no_control(tmp_path):
    old, new = (loaded(Made(name=name, seed=seed), tmp_path) for name, seed in (("old", 1), ("new", 2)))
    plan = new.journals.plan
    participants = [
        who.model_copy(update={"digest": "f" * 64}) if who.name == "flashinfer_moe" else who
        for who in plan.participants
    ]
    journals = replace(new.journals, plan=plan.model_copy(update={"participants": participants}))
    shown = [
        who.model_copy(update={"digest": "f" * 64}) if who.name == "flashinfer_moe" else who for who in new.participants
    ]
    found = compare(old, replace(new, journals=journals, participants=shown))
    assert "flashinfer_moe" not in found.controls and len(found.controls) == 4
    assert list(found.differs) == ["solution: flashinfer_moe"]
    assert {cell.verdict for cell in found.cells if cell.solution == "flashinfer_moe"} <= {"SAME", "AMBIGUOUS"}


H200 = [PROJECT_ROOT / "results/recorded" / name for name in ("2026-11-23_h200", "2026-11-23_h200_2")]


@pytest.fixture(scope="module")
def recorded() -> list[RunData]:
    return [load_run(folder) for folder in H200]


def changed(run: RunData, change: Callable[[pd.DataFrame], pd.DataFrame], **fields) -> RunData:
    """A run with other times of its processes."""
    journals = replace(run.journals, processes=change(run.journals.processes.copy()))
    return replace(run, journals=journals, samples=journals.samples("robust"), **fields)


def scaled(processes: pd.DataFrame, factor, tiers=tuple(TIERS)) -> pd.DataFrame:
    return processes.assign(**{tier: processes[tier] * factor for tier in tiers})


def test_two_recorded_runs_of_one_gpu_are_the_same_in_every_cell_that_does_not_wait_for_the_host(recorded):
    found = compare(*recorded)
    assert found.differs == {} and len(found.controls) == 7
    bound = [cell.verdict for cell in found.cells if cell.solution != "flashinfer_moe"]
    assert len(bound) == 95 and bound.count("SAME") >= 90 and not found.regressions


@pytest.mark.parametrize(
    "solution", ["cutedsl_moe_fp8_v3", "cutedsl_moe_fp8_v3_2", "deepgemm_moe", "triton_fused_moe_v2"]
)
def test_a_slow_down_of_3_percent_is_found_between_recorded_runs(recorded, solution):
    old, new = recorded
    slower = changed(new, lambda frame: scaled(frame, np.where(frame["participant"] == solution, 1.03, 1.0)))
    found = compare(old, slower)
    assert sum(name.startswith(f"{solution}/") for name in found.regressions) >= 17
    assert all(name.startswith(f"{solution}/") for name in found.regressions)


def test_equal_runs_and_equal_gpus_of_two_hosts_show_no_regression(recorded):
    """Simulated from a recorded run's own processes: blocks drawn again with other noise, then other hosts too: CPUs
    that differ by 20 %, GPUs by 2 % as a whole and by 0.5 % from cell to cell."""
    base, random = recorded[0], np.random.default_rng(6)
    level = base.journals.processes.groupby(["participant", "workload"])[list(TIERS)].transform("mean")

    def again(frame: pd.DataFrame, cpu: float, gpu: float, cell: float) -> pd.DataFrame:
        frame = frame.assign(**{tier: level[tier] for tier in TIERS})
        cells = frame.groupby(["participant", "workload"]).ngroup().to_numpy()
        own = np.exp(gpu + cell * random.standard_normal(cells.max() + 1))[cells]
        frame = scaled(frame, own * np.exp(0.003 * random.standard_normal(len(frame))))
        waits = np.where(frame["participant"] == "flashinfer_moe", np.exp(cpu), 1.0)
        return scaled(frame, waits, ("wall_us", "event_us", "cupti_span_us"))

    def regressed(spread: tuple[float, float, float], **fields) -> float:
        found = []
        for _ in range(30):
            cpus, gpus = (size * random.standard_normal(2) for size in spread[:2])
            first, second = (
                changed(base, lambda frame, c=c, g=g: again(frame, c, g, spread[2]), **fields if n else {})
                for n, (c, g) in enumerate(zip(cpus, gpus, strict=True))
            )
            found.append(bool(compare(first, second).regressions))
        return float(np.mean(found))

    assert regressed((0.0, 0.0, 0.0)) <= 0.05
    assert regressed((0.2, 0.02, 0.005), gpus=frozenset({"another"})) <= 0.05
    assert regressed((0.2, 0.0, 0.0)) > 0.3  # another CPU unseen would be taken for the solution's own


def test_a_comparison_without_a_control_says_so(tmp_path):
    old, new = (loaded(Made(name=name, seed=1), tmp_path) for name in ("old", "new"))
    plan = new.journals.plan
    others = [who.model_copy(update={"digest": f"{n:064x}"}) for n, who in enumerate(plan.participants)]
    journals = replace(new.journals, plan=plan.model_copy(update={"participants": others}))
    found = compare(old, replace(new, journals=journals))
    assert found.controls == [] and found.counts == {"SAME": 76}
    assert "nothing is the same in both" in "\n".join(comparison_lines(found, every=False))
    assert "relative to the busy times of reference," in "\n".join(comparison_lines(compare(old, new), every=False))


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
        replace(entry, failed=["T7_o192", "T14_o0"], wrong=["T7_o192"])
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
    assert found.counts == {"NOT COMPARABLE": 76} and found.cells[0].reasons == ["few_blocks"]


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


def test_what_the_page_says_of_the_published_scatter_follows_from_the_tables(between):
    page = " ".join((PROJECT_ROOT / "docs/statistics.md").read_text().split())
    small, large = between[False], between[True]
    assert (
        f"is {small.sd:.3f} below 900 tokens ({small.rows} rows) and {large.sd:.3f} from there on ({large.rows}" in page
    )
    factors = [np.exp(stats.t.ppf(0.975, one.rows) * one.sd) for one in (small, large)]
    assert f"within a factor of {factors[0]:.2f} below 900 tokens and {factors[1]:.2f} above" in page
