"""Runs of one GPU model analysed together: from three GPUs on a GPU is a sample, and intervals speak for the model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bakeoff.cli import main
from bakeoff.errors import InputError
from bakeoff.files import PROJECT_ROOT
from bakeoff.schema.analysis import Analysis
from bakeoff.stats.analyse import analyse
from bakeoff.stats.rundata import RunData
from bakeoff.stats.runs import load_run
from bakeoff.stats.together import together
from support.make import Made, write

RECORDED = PROJECT_ROOT / "results/recorded"
TWO = {"one": (30.0, 30.0), "two": (29.7, 29.7)}


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> RunData:
    made = Made(speed=TWO, noise=0.001, outliers=0.0, workloads=[(16, 224), (901, 96)])
    return load_run(write(made, tmp_path_factory.mktemp("base") / "base"))


def on_gpus(base: RunData, random: np.random.Generator, gpus: int, spread: float) -> list[RunData]:
    """Runs of ten blocks on as many GPUs, whose speed at a cell differs by `spread` from GPU to GPU."""
    runs = []
    for number in range(gpus):
        level = np.nanmean(base.samples.log_time, axis=2, keepdims=True)
        own = spread * random.standard_normal(level.shape)
        time = level + own + 0.001 * random.standard_normal(base.samples.log_time.shape)
        blocks = dict.fromkeys(base.samples.blocks, f"GPU-{number}")
        runs.append(replace(base, samples=replace(base.samples, log_time=time), block_gpus=blocks))
    return runs


def ratio(runs: list[RunData]):
    """Of the two solutions at the first workload, with its interval."""
    analysis = analyse(together(runs) if len(runs) > 1 else runs[0])
    return next(pair for pair in analysis.pairs if {pair.a, pair.b} == set(TWO)).verdicts[0].ratio


@pytest.mark.parametrize("gpus", [3, 5])
def test_an_interval_over_gpus_holds_the_models_ratio_and_one_within_a_gpu_does_not(base, gpus):
    level = np.nanmean(base.samples.log_time, axis=2)
    true = np.exp(level[1, 0] - level[0, 0])
    random, held = np.random.default_rng(gpus), []
    for _ in range(300):
        runs = on_gpus(base, random, gpus, 0.005)
        held.append([found.low <= true <= found.high for found in (ratio(runs), ratio(runs[:1]))])
    over_gpus, within_one = np.mean(held, axis=0)
    assert over_gpus == pytest.approx(0.95, abs=0.03) and within_one < 0.3
    page = (PROJECT_ROOT / "docs/statistics.md").read_text()
    rows = [
        row.split(" | ")[-1]
        for row in page.splitlines()
        if "over 3 / 5 GPUs" in row or "ten blocks on one of them" in row
    ]
    place = [3, 5].index(gpus)
    assert [float(row.removesuffix(" % |").split(" / ")[place]) for row in rows] == [
        round(100 * over_gpus, 1),
        round(100 * within_one),
    ], "the page's rates"


def test_the_samples_are_gpus_from_three_on_and_blocks_below(base):
    runs = on_gpus(base, np.random.default_rng(1), 3, 0.005)
    data = together(runs)
    assert (data.header.gpus, data.header.unit, data.header.blocks) == (3, "gpu", 3)
    expected = [run.samples.log_time.mean(axis=2) for run in runs]
    assert data.samples.log_time == pytest.approx(np.stack(expected, axis=2))
    assert all(entry.undecided == "few_blocks" for pair in analyse(data).pairs for entry in pair.verdicts)
    two = together(runs[:2])
    assert (two.header.gpus, two.header.unit, two.header.blocks) == (2, "block", 20)
    again = together([runs[0], runs[0]])  # one GPU twice: its blocks are more, GPUs are not
    assert (again.header.gpus, again.header.unit, again.header.blocks) == (1, "block", 20)


def test_blocks_of_a_host_with_several_gpus_belong_to_their_own(base):
    gpus = {block: f"GPU-{block % 3}" for block in base.samples.blocks}
    data = together([replace(base, block_gpus=gpus)])
    assert (data.header.gpus, data.header.unit) == (3, "gpu")
    assert data.samples.log_time[0, 0, 1] == pytest.approx(base.samples.log_time[0, 0, 1::3].mean())


def test_two_recorded_runs_of_one_gpu_are_twenty_blocks(tmp_path: Path, capsys):
    folders = [str(RECORDED / name) for name in ("2026-11-23_h200", "2026-11-23_h200_2")]
    assert main(["analyse", *folders, "-o", str(tmp_path / "both.json")]) == 0
    both = Analysis.model_validate_json((tmp_path / "both.json").read_text())
    assert (both.run.gpus, both.run.unit, both.run.blocks) == (1, "block", 20)
    assert both.run.id == "2026-11-23_h200 + 2026-11-23_h200_2"
    assert {cell.blocks for cell in both.cells if cell.outcome == "PASSED"} == {20}
    assert [cell.solution for cell in both.cells if cell.outcome != "PASSED"] == ["flashinfer_moe"]
    assert main(["analyse", *folders]) == 2 and "-o" in capsys.readouterr().err


def test_runs_of_another_gpu_model_or_of_other_solutions_are_refused():
    runs = [load_run(RECORDED / name) for name in ("2026-11-23_h200", "2026-11-24_h100")]
    with pytest.raises(InputError, match="another GPU model, solutions"):
        together(runs)
