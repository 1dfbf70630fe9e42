"""Every figure of a page leads to the bytes that it was measured as: page, row, analysis.json, digest, journal."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from statistics import geometric_mean, median
from typing import Any

import pytest
from bakeoff.cli import main
from bakeoff.files import read_json, sha256_bytes, sha256_file
from bakeoff.planned import read_plan
from bakeoff.runs.journal import block_folder, journal_bytes, journal_path
from bakeoff.schema.sample import Manifest
from bakeoff.tables.formats import duration
from support.pages import Page
from support.submissions import edit, edit_journals, rekey, write_honest

Line = dict[str, Any]
Figures = dict[tuple[str, str, int], str]
# What a table says without a measurement; a page that grows another such column names it here.
SETTINGS = {
    ("published_form", 0): "the row's number",
    ("validity", 3): "what the check asks for",
    ("verifications", 2): "the seed that was asked for",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = write_honest(tmp_path_factory.mktemp("chain") / "run", blocks=6)
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


def remade(base: Path, run: Path, change: Callable[[Path], object]) -> Figures:
    """The figures of the page of a copy of that run, in which a raw file is another."""
    shutil.copytree(base, run, ignore=shutil.ignore_patterns("analysis.json", "report"))
    change(run)
    assert main(["assemble", str(run)]) == 0
    assert main(["analyse", str(run), "-o", str(run / "analysis.json")]) == 0
    assert main(["report", str(run / "analysis.json"), "-o", str(run / "report")]) == 0
    return figures((run / "report/report.html").read_bytes())


def figures(page: bytes) -> Figures:
    """Every figure of a page: (table or "tile", its row's own words, column) -> text. A name is none, nor is n/a."""
    found: Figures = {}
    table, head, place = "", "", 0
    for one in Page.of(page).elements:
        if one.tag == "div" and (one.attributes.get("id") or "").startswith("t-"):
            table, row = str(one.attributes["id"])[2:], 0
        elif one.tag == "tr":
            head, place, row = one.attributes.get("id") or "", 0, row + 1
        elif one.tag in ("td", "th") and "tbody" in one.parents:
            classes = (one.attributes.get("class") or "").split()
            numeric = "n" in classes
            head += f"{one.text} " if set(classes) <= {"mark"} else ""
            if numeric and re.search(r"\d", one.text):
                found[table, head or str(row), place] = one.text
            place += 1
        elif one.tag == "span" and one.attributes.get("class") == "figure":
            found["tile", "", len([key for key in found if key[0] == "tile"])] = one.text
    return found


def larger(value: Any, by: Random) -> Any:
    """That value with every float in it larger by 2 to 20 per cent, each by its own."""
    if isinstance(value, dict):
        return {key: larger(entry, by) for key, entry in value.items()}
    if isinstance(value, list):
        return [larger(entry, by) for entry in value]
    return value * by.uniform(1.02, 1.2) if isinstance(value, float) else value


def slower(seed: int) -> Callable[[Path], None]:
    by = Random(seed)
    timed = ("tiers", "gpu_state", "spent_s", "host_us")
    return lambda run: edit_journals(
        run, lambda line: line.update({k: larger(line[k], by) for k in timed if k in line})
    )


def behind(who: str, factor: float) -> Callable[[Path], None]:
    """One participant takes that many times as long."""

    def change(line: Line) -> None:
        if line["participant"] == who:
            line["tiers"] = {tier: [factor * us for us in times] for tier, times in line["tiers"].items()}

    return lambda run: edit_journals(run, change)


def less_exact(line: Line) -> None:
    """Every distance of an output is another, and within its bound."""
    by = Random(str(line["key"]))
    counts = {key: value + 1 for key, value in line["numerics"].items() if isinstance(value, int) and key != "rows"}
    line["numerics"] = larger(line["numerics"], by) | counts
    for gate in line["gates"].values():
        for check in gate["checks"].values():
            if isinstance(check["value"], float):
                check["value"] *= by.uniform(0.9, 0.99)


def wrong(line: Line) -> None:
    """Every output for one workload is wrong, some samples were thrown away, and a clock was missing."""
    line["discarded"] = 1
    line["tiers"].pop("cupti_busy_us", None)
    line["missing_tiers"] = {"cupti_busy_us": "no CUPTI"}
    if line["participant"] != "reference" and line["workload"] == "T1_o32":
        line.update(outcome="INCORRECT_NUMERICAL", reason="strict_gate")


def without_a_reference(line: Line) -> None:
    """In one block the reference was disturbed."""
    if line["participant"] == "reference" and line["block"] == 1:
        line.update(outcome="DISTURBED", tiers={})


def other_work(run: Path) -> None:
    """Routing asks for more."""

    def change(plan: dict[str, Any]) -> None:
        for one in plan["workloads"]:
            one["stats"] = {key: value + 1 for key, value in one["stats"].items()}
            one.update(seq_len=one["seq_len"] + 1, offset=one["offset"] + 1)

    rekey(run, change)


def rivals(samples: Callable[[Path], object]) -> Callable[[Path], None]:
    """Two contestants with those samples, instead of one and a peer."""

    def change(plan: dict[str, Any]) -> None:
        for one in plan["participants"][1:]:
            one["role"] = "contestant"

    def both(run: Path) -> None:
        rekey(run, change)
        samples(run)

    return both


def alike(line: Line) -> None:
    """All take the same time."""
    if line["participant"] != "reference":
        us = 100.0 + line["block"]
        line["tiers"] = {tier: [us] * len(times) for tier, times in line["tiers"].items()}


def fewer_workloads(run: Path) -> None:
    rekey(run, lambda plan: plan["workloads"].pop(), keep=True)


def fewer_blocks(run: Path) -> None:
    shutil.rmtree(run / "samples/block-05")
    edit(run / "config.json", lambda plan: plan.update(blocks=5))


@pytest.mark.slow
def test_every_figure_of_the_page_follows_a_raw_file_whose_digest_it_leads_to(run: Path, tmp_path: Path) -> None:
    """For each figure one of the raw files changes it: samples, the plan, or which blocks there are. Their digests are
    in analysis.json, and its own is on the page."""
    analysis = json.loads((run / "analysis.json").read_text())
    page = (run / "report/report.html").read_bytes()
    before = figures(page)
    assert sha256_file(run / "analysis.json").encode() in page
    left = dict(before)
    changes: list[Callable[[Path], object]] = [
        *map(slower, range(3)),
        *(behind("triton_fused_moe_v2", factor) for factor in (1.02, 12)),
        behind("deepgemm_moe", 12),
        lambda run: edit_journals(run, less_exact),
        lambda run: edit_journals(run, wrong),
        lambda run: edit_journals(run, without_a_reference),
        other_work,
        rivals(behind("deepgemm_moe", 12)),
        rivals(lambda run: edit_journals(run, alike)),
        fewer_workloads,
        fewer_blocks,
    ]
    for number, change in enumerate(changes):
        after = remade(run, tmp_path / str(number), change)
        assert any(after.get(key, text) != text for key, text in before.items()), "the page does not see the change"
        left = {key: text for key, text in left.items() if after.get(key, text) == text}
    unmoved = {key: text for key, text in left.items() if (key[0], key[2]) not in SETTINGS}
    assert not unmoved, "\n".join(f"{key}: {text}" for key, text in unmoved.items())
    assert {(key[0], key[2]) for key in left} == set(SETTINGS), "a setting that is none"
    assert {"config.json", "host.json", "samples/block-04/deepgemm_moe.jsonl"} <= set(analysis["inputs"])
    assert len(before) > 150
