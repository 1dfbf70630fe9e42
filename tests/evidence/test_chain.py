"""Every figure of a page leads to the bytes that it was measured as: page, row, analysis.json, digest, journal."""

from __future__ import annotations

import json
import re
from pathlib import Path
from statistics import geometric_mean, median

import pytest
from bakeoff.cli import main
from bakeoff.files import read_json, sha256_bytes, sha256_file
from bakeoff.plan import read_plan
from bakeoff.runs.journal import block_folder, journal_bytes, journal_path
from bakeoff.schema.sample import Manifest
from bakeoff.tables.formats import duration
from support.pages import Page
from support.submissions import write_honest


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = write_honest(tmp_path_factory.mktemp("chain") / "run")
    assert main(["analyse", str(run), "-o", str(run / "analysis.json")]) == 0
    assert main(["report", str(run / "analysis.json"), "-o", str(run / "report")]) == 0
    return run


def test_each_latency_of_the_page_is_the_mean_of_a_raw_file_in_each_block(run: Path) -> None:
    plan, page = read_plan(run), (run / "report/report.html").read_text()
    analysis = json.loads((run / "analysis.json").read_text())
    assert sha256_file(run / "analysis.json") in page, "the page names the bytes that it was rendered from"
    tiers = {}
    for line in (run / "traces.jsonl").read_text().splitlines():
        trace = json.loads(line)
        tiers[trace["solution"], trace["workload"]["uuid"]] = trace["evaluation"]["bakeoff"]["tier"]
    walked = 0
    for what in plan.workloads:
        row = re.search(rf'<tr id="latencies-{what.id}">(.*?)</tr>', page, re.DOTALL)
        assert row, f"no row that can be linked to for {what.id}"
        for who in plan.solutions:
            cell = next(one for one in analysis["cells"] if (one["solution"], one["workload"]) == (who.name, what.id))
            shown = cell["latency_us"]["value"]
            assert duration(shown) in row[1]
            tier, processes = tiers[who.name, what.uuid], []
            for block in range(plan.blocks):
                data = journal_bytes(journal_path(run, block, who.name)) or b""
                name = journal_path(run, block, who.name).relative_to(run).as_posix()
                manifest = read_json(block_folder(run, block) / "manifest.json", Manifest)
                assert sha256_bytes(data) == manifest.samples[who.name] == analysis["inputs"][name]
                records = map(json.loads, data.splitlines())
                (timed,) = (one for one in records if (one["workload"], one["protocol"]) == (what.id, "robust"))
                processes.append(median(timed["tiers"][tier]))
            assert geometric_mean(processes) == pytest.approx(shown, rel=1e-9)
            walked += 1
    assert walked == 4


def test_every_number_of_every_table_stands_in_analysis_json_or_follows_from_it_alone(
    run: Path, tmp_path: Path
) -> None:
    """The page made from analysis.json in another place is the same, so nothing else can have given it a figure; and
    analysis.json made again from the files whose digests it names is the same."""
    copy = tmp_path / "run"
    analysis = json.loads((run / "analysis.json").read_text())
    for name, digest in analysis["inputs"].items():
        source = run / name if (run / name).is_file() else run / f"{name}.gz"
        target = copy / source.relative_to(run)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
        found = journal_bytes(run / name) if name.endswith(".jsonl") else source.read_bytes()
        assert sha256_bytes(found or b"") == digest
    assert main(["assemble", str(copy)]) == 0
    assert main(["analyse", str(copy), "-o", str(copy / "analysis.json")]) == 0
    assert (copy / "analysis.json").read_bytes() == (run / "analysis.json").read_bytes()
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "analysis.json").write_bytes((run / "analysis.json").read_bytes())
    assert main(["report", str(alone / "analysis.json"), "-o", str(alone)]) == 0
    assert (alone / "report.html").read_bytes() == (run / "report/report.html").read_bytes()
    tables = [one for one in Page.of((alone / "report.html").read_bytes()).elements if one.tag == "table"]
    assert len(tables) > 10
