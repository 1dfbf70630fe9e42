"""The sample table, and the one definition of a cell's figures: traces, analysis and table say the same."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bakeoff
import numpy as np
import pandas as pd
import pytest
from bakeoff.complete import verify_run
from bakeoff.errors import CheckFailed, InputError
from bakeoff.files import PROJECT_ROOT
from bakeoff.planned import read_plan
from bakeoff.runs.samples import CellFigures, Samples, times_frame
from bakeoff.runs.table import Journals

RECORDED = sorted(path.parent for path in (PROJECT_ROOT / "results/recorded").glob("*/config.json"))
H100 = PROJECT_ROOT / "results/recorded/2026-11-24_h100"


def digits(value: float | None) -> str | None:
    """A figure as documents print it."""
    return None if value is None or np.isnan(value) else f"{value:.10g}"


@pytest.mark.parametrize("run", RECORDED, ids=lambda path: path.name)
def test_traces_analysis_and_table_say_the_same_to_the_last_digit(run: Path) -> None:
    ids = {what.uuid: what.id for what in read_plan(run).workloads}
    analysis = json.loads((run / "analysis.json").read_text())
    table = bakeoff.load(run).cells.set_index(["solution", "workload"])
    analysed = {(cell["solution"], cell["workload"]): cell for cell in analysis["cells"]}
    traces = [json.loads(line) for line in (run / "traces.jsonl").read_text().splitlines()]
    assert len(traces) == len(analysed) == len(table)
    for trace in traces:
        place = trace["solution"], ids[trace["workload"]["uuid"]]
        said, cell, row = trace["evaluation"]["performance"], analysed[place], table.loc[place]
        assert cell["blocks"] == row["blocks"]
        if said is None:
            assert cell["latency_us"] is cell["speedup"] is None and np.isnan(row["latency_us"])
            continue
        latency, speedup = digits(row["latency_us"]), digits(row["speedup"])
        assert digits(cell["latency_us"]["value"]) == latency == digits(said["latency_ms"] * 1000)
        assert digits(cell["speedup"]["value"]) == speedup == digits(said["speedup_factor"])
        assert digits(cell["median_us"]["value"]) == digits(row["median_us"])
        for end in ("low", "high"):
            assert digits(cell["latency_us"][end]) == digits(row[f"latency_{end}_us"])
            assert digits(cell["speedup"][end]) == digits(row[f"speedup_{end}"])


def test_a_cell_is_its_processes_over_the_blocks_that_it_shares_with_the_reference() -> None:
    times = [("one", "w", 0, 10.0, 100.0), ("one", "w", 1, 40.0, 200.0), ("one", "w", 2, 1000.0, None)]
    lone = [("two", "w", 0, 10.0, None), ("two", "w", 2, 90.0, None)]
    frame = times_frame([(*row, "event_us") for row in times + lone])
    found = CellFigures.of(Samples.of(frame, ["one", "two"], ["w"]))
    assert np.exp(found.latency.value[:, 0]) == pytest.approx([20.0, 30.0])
    assert np.exp(found.speedup.value[0, 0]) == pytest.approx(np.sqrt(100 * 200) / 20.0)
    assert np.isnan(found.speedup.value[1, 0]) and found.blocks.tolist() == [[2], [2]]


def test_a_lost_journal_of_the_reference_leaves_its_block_out_of_every_figure(tmp_path: Path) -> None:
    copy = shutil.copytree(H100, tmp_path / "run", ignore=shutil.ignore_patterns("profile", "build"))
    before, lost = bakeoff.load(H100).cells, copy / "samples/block-03/reference.jsonl.gz"
    lost.unlink()
    after = bakeoff.load(copy).cells
    assert set(before["blocks"]) == {10} and set(after["blocks"]) == {9}
    samples = bakeoff.load(H100).samples
    own = samples[(samples["participant"] == "deepgemm_moe") & (samples["block"] != 3)]
    expected = np.exp(np.log(own["cupti_span_us"]).groupby(own["workload"]).mean())
    found = after[after["solution"] == "deepgemm_moe"].set_index("workload")["latency_us"]
    assert found.to_numpy() == pytest.approx(expected[found.index].to_numpy())


def test_the_table_of_a_recorded_run_is_tidy() -> None:
    plan, table = read_plan(H100), bakeoff.load(H100)
    samples, checks, cells = table.samples, table.checks, table.cells
    assert len(samples) == len(plan.participants) * len(plan.workloads) * plan.blocks
    assert not samples.duplicated(["block", "participant", "workload", "protocol"]).any()
    assert (samples[["wall_us", "event_us", "cupti_busy_us", "cupti_span_us"]] > 0).all(axis=None)
    assert samples["sm_mhz"].between(1900, 1980).all() and samples["calls"].min() >= 1
    solutions = [who.name for who in plan.participants if who.role != "reference"]
    assert len(checks) == len(solutions) * len(plan.workloads) * len(plan.families) * len(plan.seeds)
    assert checks["published_gate"].all() and checks["strict_gate"].all() and (checks["relative_l2"] < 0.06).all()
    assert cells["solution"].unique().tolist() == solutions and (cells["speedup_low"] < cells["speedup"]).all()


def test_the_readme_plots_latency_over_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The example as it stands; in place of matplotlib, which is no dependency, a plotting backend notes the frame."""
    drawn = SimpleNamespace()  # what the backend was given

    def plot(frame: pd.DataFrame, kind: str, **options: Any) -> Any:
        drawn.frame, drawn.kind, drawn.options = frame, kind, options
        return SimpleNamespace(figure=SimpleNamespace(savefig=lambda name: Path(name).write_text("drawn")))

    monkeypatch.setitem(sys.modules, "noting_backend", SimpleNamespace(plot=plot, __name__="noting_backend"))
    page = (PROJECT_ROOT / "README.md").read_text()
    code = page.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").symlink_to(PROJECT_ROOT / "results")
    with pd.option_context("plotting.backend", "noting_backend"):
        exec(compile(code, "README.md", "exec"), {})
    assert (tmp_path / "latency.svg").read_text() == "drawn" and drawn.kind == "line" and drawn.options["loglog"]
    assert drawn.frame.index.tolist() == [what.seq_len for what in read_plan(H100).workloads]
    cells = bakeoff.load(H100).cells.set_index(["solution", "seq_len"])["median_us"]
    found = drawn.frame.drop(columns="reference").stack().reorder_levels(["participant", "seq_len"])
    assert found.to_numpy() == pytest.approx(cells[found.index].to_numpy(), rel=0.03)  # midpoints of logs there
    assert "deepgemm_moe" in capsys.readouterr().out
    assert sum(bool(line.strip()) for line in code.splitlines()) == 5


def test_a_published_table_fills_cells_alone() -> None:
    table = bakeoff.load(PROJECT_ROOT / "results/published/2026-02-26_4way")
    assert table.samples.empty and table.checks.empty and len(table.cells) == 76
    means = table.cells.groupby("solution")["speedup"].mean().round(2).to_dict()
    assert means["cutedsl_moe_fp8_v3"] == 11.05 and "latency_us" not in table.cells


def test_a_trace_that_its_samples_contradict_is_found(tmp_path: Path) -> None:
    copy = shutil.copytree(H100, tmp_path / "run")
    traces = (copy / "traces.jsonl").read_text().splitlines()
    changed = json.loads(traces[3])
    changed["evaluation"]["performance"]["latency_ms"] *= 0.99
    traces[3] = json.dumps(changed)
    (copy / "traces.jsonl").write_text("\n".join(traces) + "\n")
    with pytest.raises(
        CheckFailed, match=r"1 finding in .*\n.*cutedsl_moe_fp8_v3 T15_o32: the trace says .* its samples"
    ):
        verify_run(copy)


def test_a_cell_that_did_not_pass_has_no_figures() -> None:
    cells = bakeoff.load(PROJECT_ROOT / "results/recorded/2026-11-23_h200_2").cells
    rejected = cells[cells["outcome"] == "REJECTED"]
    assert len(rejected) == 1 and rejected[["latency_us", "speedup"]].isna().all(axis=None)
    assert rejected["blocks"].tolist() == [0]


def test_a_folder_that_is_no_run_has_no_table(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"neither config\.json nor meta\.yaml"):
        bakeoff.load(tmp_path)


def test_a_process_frame_has_a_row_per_record() -> None:
    journals = Journals.read(H100, read_plan(H100))
    row = len(journals.records) // 2
    record, process = journals.records[row], journals.processes.iloc[row]
    assert (record.participant, record.workload, record.block) == tuple(process[["participant", "workload", "block"]])


@pytest.mark.parametrize(
    "module",
    ["bakeoff.cli", "bakeoff.runs.block_run", "bakeoff.supervisor.block", "bakeoff.core.worker.state"],
)
def test_help_supervisor_and_workers_import_no_pandas(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'pandas', 'scipy'}} & set(sys.modules)))"
    if module == "bakeoff.cli":
        code = "import sys\nfrom bakeoff.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n" + (
            "print(sorted({'pandas', 'scipy', 'numpy', 'torch'} & set(sys.modules)))"
        )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
