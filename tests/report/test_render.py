"""What a report must say and be, for every kind of run."""

from __future__ import annotations

import csv
import io
import itertools
import re
from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from bakeoff.files import PROJECT_ROOT, read_json
from bakeoff.report import render as rendering
from bakeoff.report.index import Source, render_index
from bakeoff.report.templates import html_environment
from bakeoff.report.view import RunView, marks
from bakeoff.schema.analysis import Analysis
from bakeoff.schema.analysis_figures import ProtocolSummary, Ranked, Ranking
from bakeoff.schema.analysis_findings import PreviousFinding
from bakeoff.schema.analysis_run import Check, Fact
from bakeoff.schema.base import Estimate, Verdict
from bakeoff.tables import formats
from bakeoff.tables import words as word_lists
from support import constructed
from support.pages import NAMES, Page, analysis, cells, files, table_text

HERE = Path(__file__).parent


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_one_offline_file_without_scripts(name: str) -> None:
    content = files(name)["report.html"]
    page = Page.of(content)
    assert len(content) < 1_000_000
    assert not page.all("script", "link", "img", "iframe", "object", "embed", "base", "form")
    assert not [a for e in page.elements for a in e.attributes if a.startswith("on") or a in ("src", "srcset", "style")]
    links = [e.attributes["href"] or "" for e in page.elements if "href" in e.attributes]
    assert all(link.startswith(("#", "tables/")) for link in links)
    assert "url(" not in content.decode() and "@import" not in content.decode()


@pytest.mark.parametrize("name", NAMES)
def test_a_page_has_order_anchors_captions_and_scopes(name: str) -> None:
    page, written = Page.of(files(name)["report.html"]), files(name)
    ids = [e.attributes["id"] for e in page.elements if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    for entry in page.elements:
        target = entry.attributes.get("href") or ""
        assert not target.startswith("#") or target[1:] in ids, target
        assert not target.startswith("tables/") or target in written, target
        for key in ("aria-labelledby", "aria-describedby"):
            assert all(one in ids for one in (entry.attributes.get(key) or "").split())
    levels = [int(e.tag[1]) for e in page.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    sections = [e.attributes["id"] for e in page.all("h2")]
    assert sections == [s for s in rendering.SECTIONS if s in sections]
    assert (
        len(page.all("table"))
        == len(page.all("caption"))
        == len([e for e in page.all("div") if e.attributes.get("role") == "region"])
    )
    assert all(e.attributes.get("scope") in ("col", "row") for e in page.all("th"))
    drawings = [e for e in page.all("svg") if e.attributes.get("aria-hidden") != "true"]
    assert len(drawings) == len([e for e in page.all("desc") if e.text]) and all(
        e.attributes.get("role") == "img" for e in drawings
    )
    assert page.all("html")[0].attributes["lang"] == "en" and page.all("main") and page.all("nav")


@pytest.mark.parametrize("name", NAMES)
def test_no_value_is_printed_as_none_or_nan(name: str) -> None:
    for file, content in files(name).items():
        text = Page.of(content).text if file.endswith(".html") else content.decode()
        assert not re.search(r"\b(None|nan|NaN|inf|undefined)\b", text), (
            file,
            re.findall(r".{30}\b(?:None|nan|inf)\b.{30}", text)[:3],
        )


def widths_are_even(text: str) -> None:
    """Every row of a Markdown table has as many cells as its head."""
    width = 0
    for line in text.split("\n"):
        if line.startswith("|"):
            width = width or len(cells(line))
            assert line.endswith("|") and len(cells(line)) == width, line
        else:
            width = 0


@pytest.mark.parametrize("name", NAMES)
def test_markdown_tables_are_whole_and_the_file_fits_a_job_summary(name: str) -> None:
    text = files(name)["report.md"].decode()
    assert len(text) < 30_000
    widths_are_even(text)
    assert set(re.findall(r"</?([a-z]+)", text)) <= {"details", "summary", "code"}
    assert text.count("<details>") == text.count("</details>") == text.count("<summary>")


@pytest.mark.parametrize("name", NAMES)
def test_every_table_of_the_page_is_a_csv_of_as_many_columns_as_its_head(name: str) -> None:
    for file, content in files(name).items():
        if file.endswith(".csv"):
            rows = list(csv.reader(io.StringIO(content.decode())))
            assert len(rows) > 1 and len({len(row) for row in rows}) == 1 and len(set(rows[0])) == len(rows[0]), file


def test_markdown_and_page_have_the_same_sections_and_figures() -> None:
    for name in ("four", "cpu", "2026-02-26_4way"):
        page, text = Page.of(files(name)["report.html"]), files(name)["report.md"].decode()
        assert [e.text.strip() for e in page.all("h2")] == re.findall(r"^## (.*)$", text, flags=re.M)
        tables = set(re.findall(r"\(tables/(\w+)\.csv\)", text))
        assert tables == set(re.findall(r'href="tables/(\w+)\.csv"', files(name)["report.html"].decode()))


def test_the_published_run_reproduces_the_published_table_figure_for_figure() -> None:
    printed = (HERE / "published_table.md").read_text().strip().split("\n")
    rows = table_text("2026-02-26_4way", "published_form")
    assert len(rows) == 20 and rows == [cells(line) for line in (printed[0], *printed[2:])]


def test_the_recomputed_summary_stands_in_the_published_form() -> None:
    rows = {row[0]: row[1:] for row in table_text("2026-02-26_4way", "published_summary")}
    assert rows["Average"] == ["30.37x", "11.05x", "11.83x", "29.50x"]
    assert rows["Median"] == ["31.15x", "11.03x", "11.57x", "31.49x"]
    assert rows["Wins"] == ["6/19", "0/19", "0/19", "13/19"]
    assert rows["Std Dev (sample)"][3] == "9.13x" and rows["Std Dev (population)"][3] == "8.89x"
    assert rows["CV (sample)"] == ["21.3\u00a0%", "11.6\u00a0%", "9.0\u00a0%", "30.9\u00a0%"]


def test_the_published_page_says_what_the_audit_found() -> None:
    audit = analysis("2026-02-26_4way").audit
    assert audit is not None and audit.contradicted >= 10
    text = Page.of(files("2026-02-26_4way")["report.html"]).text
    assert f"{audit.contradicted}/{len(audit.claims)}" in text and f"{audit.contradicted} contradicted" in text
    claims = {row[0]: row for row in table_text("2026-02-26_4way", "audit_contradicted")}
    assert any("31.1500x" in row[2] for row in claims.values())
    assert len(claims) - 1 == audit.contradicted + audit.contradicted_by_others


def test_the_first_screen_of_a_measured_run_gives_times() -> None:
    view = RunView(analysis("four"))
    first = next(iter(view.a.findings.ranking.order)).solution  # type: ignore[union-attr]
    low, high = view.latency_ends(first) or (None, None)
    assert low and high and view.workloads[low.workload].seq_len < view.workloads[high.workload].seq_len
    page = Page.of(files("four")["report.html"]).text
    times = [
        formats.duration(one.latency_us.value).replace(formats.SPACE, " ") for one in (high, low) if one.latency_us
    ]
    assert f"{times[0]}at {high.workload}, {times[1]} at {low.workload}; the hardware’s floor is" in page


def test_captions_say_what_a_drawing_shows() -> None:
    text = " ".join(Page.of(files("2026-02-26_4way")["report.html"]).text.split())
    assert "triton_v2 keeps least of its speedup (15 %), cutedsl_v3 most (97 %)" in text
    assert "flashinfer_moe never takes more than 1.35× the time of the fastest, cutedsl_v3 up to 4.42×" in text


def test_a_peer_stands_beside_the_ranking() -> None:
    run = PROJECT_ROOT / "results/recorded/2026-11-24_h100/analysis.json"
    text = rendering.render(read_json(run, Analysis))["report.md"].decode()
    assert re.search(r"The peer \*\*deepgemm_moe\*\*, not ranked, stands at [\d.]+×: cutedsl_v3.2 is [\d.]+", text)


def test_a_mean_over_fewer_workloads_says_so_wherever_it_stands() -> None:
    run = read_json(PROJECT_ROOT / "results/recorded/2026-11-23_h200_2/analysis.json", Analysis)
    text = Page.of(rendering.render(run)["report.html"]).text
    assert "By geometric mean, over the 18 workloads that all ranked contestants have: cutedsl_v3.2 65.34×" in text
    assert "The peer deepgemm_moe, not ranked, stands at 60.73× over 19 workloads:" in text
    landing = Page.of(render_index([Source(run, "analysis.json", "report.html")])).text
    assert "than cutedsl_v3, over the 18 workloads that all ranked contestants have" in landing
    assert "over 18 of 19 workloads" in landing
    assert landing.count("75/76 PASSED (peers 38/38); not: flashinfer_moe at T1_o32 (REJECTED).") == 1


def test_a_twin_takes_no_place_of_its_own_on_the_page() -> None:
    run = read_json(PROJECT_ROOT / "results/recorded/2026-11-24_h100/analysis.json", Analysis)
    made = rendering.render(run)
    text = made["report.md"].decode()
    head = next(line for line in text.splitlines() if line.startswith("| seq_len | offset | cutedsl_v3 |"))
    assert "deepgemm_moe" in head and "twin" not in head
    assert "cutedsl_moe_fp8_v3_2.twin" in made["tables/matrix.csv"].decode().splitlines()[0]
    assert re.search(r"cutedsl_v3.2 a second time, as \*\*cutedsl_v3.2 \(twin\)\*\*, stands at [\d.]+×\.", text)
    assert "(twin)**:" not in text, "its design is its original's"
    drawings = Page.of(made["report.html"]).all("svg")
    assert drawings and "(twin)" not in " ".join(svg.text for svg in drawings)
    landing = Page.of(render_index([Source(run, "analysis.json", "report.html")]))
    board = landing.one("t-leaderboard").text
    assert "deepgemm_moe" in board and "twin" not in board


def test_a_solution_keeps_its_mark_whether_or_not_a_run_has_twins() -> None:
    run = read_json(PROJECT_ROOT / "results/recorded/2026-11-24_h100/analysis.json", Analysis)
    without = run.model_copy(update={"participants": [p for p in run.participants if p.twin_of is None]})
    with_twin, alone = ({p.name: p.index for p in RunView(a).people} for a in (run, without))
    assert len(with_twin) > len(alone) and {name: with_twin[name] for name in alone} == alone
    assert alone["deepgemm_moe"] == 4 and max(with_twin.values()) not in alone.values(), "the twin comes last"


def test_a_solution_looks_alike_in_every_report() -> None:
    listed = marks()
    assert sorted(listed.values()) == list(range(len(listed))), "each has a number of its own"
    runs = [*(PROJECT_ROOT / "results/recorded").glob("*/analysis.json")]
    views = [RunView(a) for a in (analysis("2026-02-26_4way"), *(read_json(path, Analysis) for path in runs))]
    assert all(listed.get(p.name, p.index) == p.index for view in views for p in view.people)
    assert {p.name for p in views[0].people} <= listed.keys()


def test_the_chart_behind_the_fastest_has_the_intervals_of_pairs() -> None:
    run = read_json(PROJECT_ROOT / "results/recorded/2026-11-24_h100/analysis.json", Analysis)
    chart = Page.of(rendering.render(run)["report.html"]).one("f-behind").text.replace("\xa0", " ")
    (pair,) = (one for one in run.pairs if {one.a, one.b} == {"cutedsl_moe_fp8_v3", "cutedsl_moe_fp8_v3_2"})
    (entry,) = (one for one in pair.verdicts if one.workload == "T14_o0")
    assert entry.ratio is not None and pair.a == "cutedsl_moe_fp8_v3"
    time = entry.ratio.inverse  # that of v3 over that of v3.2, which is the fastest there
    value, low, high = (
        formats.signed_percent(end - 1).replace("\xa0", " ") for end in (time.value, time.low, time.high)
    )  # type: ignore[operator]
    assert f"cutedsl_v3, T14_o0: {value} ({low} to {high})" in chart
    assert "cutedsl_v3.2, T14_o0: 0.0 %" in chart
    peer = next(one for one in chart.split("deepgemm_moe, ") if one.startswith("T11948_o128"))
    assert peer.startswith("T11948_o128: +"), "a peer that is behind by little is seen"


def test_a_page_links_home_and_to_each_of_its_rows_and_charts() -> None:
    written = rendering.render(analysis("four"), home="../index.html")["report.html"]
    page = Page.of(written)
    links = {e.attributes.get("href") for e in page.all("a")}
    ids = {e.attributes.get("id") for e in page.elements}
    rows = {f"#matrix-{w.id}" for w in analysis("four").workloads}
    assert "../index.html" in links and rows | {"#f-behind", "#f-latency"} <= links
    assert {str(link)[1:] for link in links if str(link).startswith("#")} <= ids
    assert "All runs" not in Page.of(files("four")["report.html"]).text


def test_a_page_names_its_commit_and_shows_the_time_of_every_process() -> None:
    page = Page.of(files("five_blocks")["report.html"])
    kicker = next(e.text for e in page.all("p") if e.attributes.get("class") == "kicker")
    assert "commit c0ffeec0ffee" in kicker
    content = files("five_blocks")["report.html"].decode()
    for workload in analysis("five_blocks").workloads:
        drawing = content.split(f'id="samples-{workload.id}"')[1].split("</figure>")[0]
        assert drawing.count("<use ") == 5 * len(analysis("five_blocks").participants)
    assert 'id="samples-' not in files("one_block")["report.html"].decode(), "one process has no distribution"
    recorded = read_json(PROJECT_ROOT / "results/recorded/2026-11-30_h200/analysis.json", Analysis)
    assert len(rendering.render(recorded)["report.html"]) <= 1 << 20, "eight solutions, ten blocks, a profile"


def test_a_run_of_peers_alone_counts_the_peers() -> None:
    run = analysis("cpu")
    peers = [p.model_copy(update={"role": "peer"}) for p in run.participants]
    text = rendering.render(run.model_copy(update={"participants": peers}))["report.md"].decode()
    assert "**76/76 PASSED**" in text and "19 workloads × 4 peers" in text and not re.search(r"\b0 ?(of|/) ?0\b", text)


def test_what_a_page_says_twice_is_folded_in_runs_and_open_where_it_was_published() -> None:
    def folded(name: str) -> str:
        return "".join(re.findall(r"<details>.*?</details>", files(name)["report.html"].decode(), re.S))

    for table in ("t-published_form", "t-published_summary"):
        assert f'id="{table}"' in folded("four") and f'id="{table}"' not in folded("2026-02-26_4way")
        assert f'id="{table}"' in files("2026-02-26_4way")["report.html"].decode()


def test_a_cpu_run_does_not_remark_that_it_has_no_gpu_clocks() -> None:
    assert "Clock missing" not in files("cpu")["report.html"].decode()


def test_a_cpu_run_shows_correctness_and_no_performance() -> None:
    written = files("cpu")
    page = Page.of(written["report.html"])
    assert "76/76 PASSED" in page.text and "no performance shown" in page.text
    for text in (page.text, written["report.md"].decode()):
        assert not re.search(r"\d\u00a0?(×|x\b|µs|ms\b)", text)
        assert "FASTER" not in text
    assert not {"tables/matrix.csv", "tables/latencies.csv", "tables/summary.csv", "tables/pairs.csv"} & set(written)
    assert [e.attributes["id"] for e in page.all("h2")] == [
        s for s in rendering.SECTIONS if s not in ("summary", "plots", "findings", "stability")
    ]


def test_the_matrix_has_every_value_with_its_interval_and_marks_supported_winners_only() -> None:
    a = analysis("four")
    rows = list(csv.DictReader(io.StringIO(files("four")["tables/matrix.csv"].decode())))
    assert [row["workload"] for row in rows] == [w.id for w in a.workloads]
    for c in a.cells:
        row = next(row for row in rows if row["workload"] == c.workload)
        assert c.speedup and [float(row[c.solution + end]) for end in ("", "_low", "_high")] == [
            c.speedup.value,
            c.speedup.low,
            c.speedup.high,
        ]
    page = files("four")["report.html"].decode()
    assert page.count('class="n win"') == sum(w.supported for w in a.winners) > 0
    assert files("one_block")["report.html"].decode().count('class="n win"') == 0


def test_a_faulty_run_names_every_failure_and_is_not_valid() -> None:
    a = analysis("faulty")
    page = Page.of(files("faulty")["report.html"])
    assert "Not valid as a comparison" in page.text
    troubles = list(csv.DictReader(io.StringIO(files("faulty")["tables/troubles.csv"].decode())))
    listed = {(row["solution"], workload) for row in troubles for workload in row["workloads"].split()}
    assert listed == {(c.solution, c.workload) for c in a.cells if c.outcome != "PASSED"}
    for outcome in {c.outcome for c in a.cells}:
        assert outcome in page.text


def test_a_run_without_a_value_has_no_ranking_and_nothing_drawn() -> None:
    text = Page.of(files("nothing_passed")["report.html"]).text
    assert "there is no ranking" in text and "There is nothing to draw" in text


def test_one_contestant_is_not_ranked() -> None:
    text = Page.of(files("one_solution")["report.html"]).text
    assert "only contestant" in text and "Ranking" not in text


def test_stages_say_that_they_are_not_profiled() -> None:
    assert all(
        "not profiled" in Page.of(files(name)["report.html"]).text for name in ("four", "cpu", "2026-02-26_4way")
    )


def test_a_profile_shows_stages_limits_and_tested_explanations() -> None:
    a = constructed.profiled_run()
    written = rendering.render(a)
    page, text = Page.of(written["report.html"]), written["report.md"].decode()
    assert "not profiled" not in page.text and "limited by memory" in page.text and "ncu, no permission" in page.text
    rows = list(csv.DictReader(io.StringIO(written["tables/profiled.csv"].decode())))
    assert len(rows) == 4 and rows[0]["gemm1_us"] == "30.0" and rows[1]["dram_over_floor"] == ""
    assert "Triton scatter dominates" in text and "CONTRADICTED" in text
    widths_are_even(text)


def test_peers_stand_beside_contestants_and_never_lead() -> None:
    a = analysis("with_peer")
    (peer,) = [p.name for p in a.participants if p.role == "peer"]
    rows = list(csv.DictReader(io.StringIO(files("with_peer")["tables/matrix.csv"].decode())))
    assert all(row[peer] for row in rows) and peer not in {row["leader"] for row in rows}
    assert peer not in csv.DictReader(io.StringIO(files("with_peer")["tables/published_form.csv"].decode())).fieldnames  # type: ignore[operator]


def test_every_cell_has_its_command() -> None:
    a = analysis("cpu")
    rows = list(csv.DictReader(io.StringIO(files("cpu")["tables/rerun.csv"].decode())))
    assert {(r["solution"], r["workload"]) for r in rows} == {(c.solution, c.workload) for c in a.cells}
    assert all(
        r["command"] == f"bakeoff check {r['solution']} --workload {r['workload']} --backend cpu --seed 0" for r in rows
    )
    assert all(f"'solutions=[{r['solution']}]' 'workloads=[{r['workload']}]'" in r["measure"] for r in rows)


def test_a_condition_counts_all_that_failed_it_not_only_those_it_names() -> None:
    page = Page.of(files("nothing_passed")["report.html"])
    row = next(entry.text for entry in page.all("tr") if "Every planned cell passed" in entry.text)
    assert row.split("+")[-1].strip() == "70"  # 76, of which 6 are named
    assert "none passed" in page.text and "One block has no interval" not in page.text


def with_blocks(*counts: int, planned: int = 10) -> Analysis:
    """A run whose cells rest on so many blocks, in turn."""
    a = constructed.gpu_run(blocks=planned)
    cells = [c.model_copy(update={"blocks": n}) for c, n in zip(a.cells, itertools.cycle(counts), strict=False)]
    return a.model_copy(update={"cells": cells})


@pytest.mark.parametrize(
    ("counts", "said"), [((10,), "10 blocks"), ((8,), "8 of 10 blocks"), ((10, 10, 9), "9 to 10 of 10 blocks")]
)
def test_a_page_says_on_how_many_blocks_its_figures_rest(counts: tuple[int, ...], said: str) -> None:
    a = with_blocks(*counts)
    written = rendering.render(a)
    page, markdown = Page.of(written["report.html"]), written["report.md"].decode()
    missing = counts != (10,)
    for text in (page.text, markdown):
        assert f"the geometric mean over {said}, paired" in text
        assert (f"; over {said}" in text) == missing  # the tile of how sure it is
        assert re.search(rf"Blocks\W*{said.removesuffix(' blocks')}\b", text)
        assert not missing or not re.search(r"over \W*10 blocks", text)
    kicker = next(e.text for e in page.all("p") if e.attributes.get("class") == "kicker")
    assert (said in kicker) == missing
    index = render_index([Source(a, "analysis.json", "report.html")])
    assert (f"from {said}" in Page.of(index).text) == missing


def test_a_cell_with_fewer_blocks_than_the_others_says_so() -> None:
    a = with_blocks(10, 10, 9)
    page = Page.of(rendering.render(a)["report.html"])
    assert sum("9 blocks" in e.text for e in page.all("small")) == sum(c.blocks == 9 for c in a.cells) > 0
    assert not any("8 blocks" in e.text for e in Page.of(rendering.render(with_blocks(8))["report.html"]).all("small"))


def test_one_block_that_is_left_of_many_supports_nothing() -> None:
    a = constructed.gpu_run(blocks=1)
    left = a.model_copy(update={"run": a.run.model_copy(update={"blocks": 10})})
    page = Page.of(rendering.render(left)["report.html"])
    assert "one value" in page.text and "1 of 10 blocks" in page.text
    assert "No lead is supported: there is one value a cell" in page.text


def test_a_run_under_two_protocols_shows_both_and_whether_the_order_holds() -> None:
    a = analysis("with_peer")
    names = [s.solution for s in a.summaries]
    order = [Ranked(solution=name, value=1.0 + place, rank=place + 1) for place, name in enumerate(names)]
    turned = [Ranked(solution=name, value=1.0 + place, rank=place + 1) for place, name in enumerate(reversed(names))]
    known = {"workloads": [w.id for w in a.workloads], "first_order": order}
    same = ProtocolSummary(protocol="fib-0.1.2", summaries=a.summaries, order=order, **known)
    other = ProtocolSummary(protocol="fib-0.1.2", summaries=a.summaries, order=turned, **known)
    header = a.run.model_copy(update={"other_protocols": ["fib-0.1.2"]})
    for one, said in ((same, "stand in the same order"), (other, "change places")):
        written = rendering.render(a.model_copy(update={"run": header, "other_protocols": [one]}))
        page = Page.of(written["report.html"])
        assert said in page.text and said in written["report.md"].decode()
        assert ("instead of" in page.text) == (one is other) and "fig-orders" in written["report.html"].decode()
        rows = list(csv.DictReader(io.StringIO(written["tables/protocols.csv"].decode())))
        means = {s.solution: s.geometric_mean.value for s in one.summaries if s.geometric_mean}
        assert {row["solution"]: float(row["fib-0.1.2"]) for row in rows} == means
        places = list(csv.DictReader(io.StringIO(written["tables/orders.csv"].decode())))
        assert {row["solution"]: int(row["fib-0.1.2_rank"]) for row in places} == {
            r.solution: r.rank for r in one.order
        }
    assert "Under each timing protocol" not in Page.of(files("with_peer")["report.html"]).text


@pytest.mark.parametrize(("without", "said"), [(1.002, True), (0.99, True), (1.025, False)])
def test_a_difference_that_rests_on_one_process_says_so(without: float, said: bool) -> None:
    a = analysis("four")
    winner = next(one for one in a.winners if one.runner_up)
    names = {winner.leader, winner.runner_up}
    (pair,) = (one for one in a.pairs if {one.a, one.b} == names)
    ratio, rest = (each if pair.a == winner.leader else 1 / each for each in (1.03, without))
    verdicts = [
        replace(one, ratio=Estimate(value=ratio), without_outliers=Estimate(value=rest))
        if one.workload == winner.workload
        else replace(one, without_outliers=None)
        for one in pair.verdicts
    ]
    pairs = [replace(one, verdicts=verdicts) if one is pair else one for one in a.pairs]
    cells = [
        cell.model_copy(
            update={"outlier_blocks": [1] * ((cell.solution, cell.workload) == (winner.leader, winner.workload))}
        )
        for cell in a.cells
    ]
    written = rendering.render(a.model_copy(update={"pairs": pairs, "cells": cells}))
    assert ("rests on one process" in written["report.html"].decode()) == said
    rows = list(csv.DictReader(io.StringIO(written["tables/matrix.csv"].decode())))
    assert [row["lead_rests_on"] for row in rows].count("rests on one process") == said


def test_a_lead_below_2_percent_is_worded_apart_from_an_undecided_one() -> None:
    a = analysis("four")
    leader, other, third = "triton_fused_moe_v2", "flashinfer_moe", "cutedsl_moe_fp8_v3"
    tied = [
        winner.model_copy(
            update={"leader": leader, "supported": False, "verdict": None, "tied": [other, third], "same": same}
        )
        for winner, same in zip(a.winners[:3], ([other, third], [other], []), strict=True)
    ]
    written = rendering.render(a.model_copy(update={"winners": [*tied, *a.winners[3:]]}))
    rows = list(csv.DictReader(io.StringIO(written["tables/matrix.csv"].decode())))
    assert [row["support"] for row in rows[:4]] == ["same", "tied", "tied", "FASTER_2_PERCENT"]
    page = Page.of(written["report.html"])
    notes = [entry.text for entry in page.all("small")]
    assert (
        f"less than 2 % apart, which way is open: {other}, {third}" in notes and f"not decided against {third}" in notes
    )
    assert "at 1 the first two are less than 2 % apart and which way is open, at 2 nothing is decided" in page.text
    drawn = written["report.html"].decode()
    assert drawn.count('class="t same"') == 2 * 3 and drawn.count('class="t tie"') == 2 * 3


def test_a_lone_solution_leads_nothing() -> None:
    page = Page.of(files("one_solution")["report.html"])
    heads = {entry.text for entry in page.all("th")}
    assert "Leader" not in heads and "Over the second" not in heads
    assert "leader" in files("one_solution")["tables/matrix.csv"].decode().splitlines()[0]


def test_cells_are_counted_by_their_fate() -> None:
    assert "51 PASSED, 5 failed, 19 unsupported, 1 not run" in Page.of(files("faulty")["report.html"]).text


def test_two_solutions_with_one_label_go_by_their_names() -> None:
    a = constructed.gpu_run(3)
    same = [p.model_copy(update={"label": "mine"}) for p in a.participants[:2]]
    page = Page.of(rendering.render(a.model_copy(update={"participants": [*same, a.participants[2]]}))["report.html"])
    heads = [entry.text for entry in page.all("th")]
    assert "mine" not in heads and {p.name for p in same} <= set(heads) and a.participants[2].label in heads


@pytest.mark.parametrize("name", ["leader", "seq_len", "metric", "run", "floor_us"])
def test_a_solution_may_be_called_like_a_column(name: str) -> None:
    document = analysis("four").model_dump_json(by_alias=True)
    a = Analysis.model_validate_json(document.replace("flashinfer_moe", name))
    written = rendering.render(a)
    assert f"| {name} |" in written["report.md"].decode()
    plain = files("four")["tables/latencies.csv"].decode()
    assert written["tables/latencies.csv"].decode() == plain.replace("flashinfer_moe", name)
    assert render_index([Source(a, "analysis.json", "report.html")])


def test_what_a_solution_says_cannot_become_markup() -> None:
    evil = "<script>alert(1)</script> | `x` **b** [l](javascript:0) \"'&"
    a = constructed.cpu_run(2, 2, failed=True)
    said = {"detail": evil, "hint": evil, "reason": None}
    a.cells[:] = [c if c.outcome == "PASSED" else c.model_copy(update=said) for c in a.cells]
    a.participants[0] = a.participants[0].model_copy(update={"label": evil, "description": evil})
    written = rendering.render(a)
    page, text = Page.of(written["report.html"]), written["report.md"].decode()
    assert not page.all("script") and evil.replace("`", "") in page.text.replace("`", "")
    assert "<script" not in text and "**b**" not in text and "[l](java" not in text
    widths_are_even(text)


@pytest.mark.parametrize(
    ("words", "codes"),
    [
        ("checks", get_args(Check.model_fields["code"].annotation)),
        ("verdicts", tuple(Verdict)),
        ("statuses", get_args(Check.model_fields["status"].annotation)),
        ("aggregates", get_args(get_type_hints(Ranking)["aggregate"])),
        ("groups", get_args(get_type_hints(Fact)["group"])),
        ("roles", ("contestant", "peer")),
        ("relations", get_args(get_type_hints(PreviousFinding)["relation"])),
        ("bounds", ("memory", "compute")),
        ("reasons", ("device", "protocol", "inputs", "performance", "missing", "failed", "few_blocks", "host")),
        ("sections", rendering.SECTIONS),
        ("short", rendering.SECTIONS),
    ],
)
def test_every_code_of_the_analysis_has_a_word(words: str, codes: tuple[str, ...]) -> None:
    lists = html_environment().get_template("words.j2").make_module().__dict__
    assert codes and set(codes) <= set(lists[words] if words in lists else getattr(word_lists, words.upper()))


def test_twelve_solutions_on_forty_workloads_stay_under_a_megabyte() -> None:
    written = rendering.render(constructed.gpu_run(12, 40, 5, lost=9))
    assert len(written["report.html"]) < 1_000_000 and len(written["report.md"]) < 60_000
    Page.of(written["report.html"])
    rows = list(csv.reader(io.StringIO(written["tables/verdicts.csv"].decode())))
    assert len(rows) == 1 + 66 * 40
    assert "the CSV has all of them" in Page.of(written["report.html"]).text


def test_a_large_lead_is_said_as_a_factor_and_a_small_one_in_per_cent() -> None:
    words = html_environment().get_template("words.j2").module
    large = Estimate(value=6.444, low=5.918, high=7.018)
    small = Estimate(value=1.017, low=1.016, high=1.019)
    assert str(words.ahead(large)) == "6.44× as fast (95 % interval 5.92–7.02×) as"
    assert str(words.ahead(small)).replace("\xa0", " ") == "1.7 % faster (95 % interval +1.6 % to +1.9 %) than"


def test_the_clock_is_said_in_words() -> None:
    written = files("four")["report.md"].decode()
    assert "Clock: CUPTI span: from the start of a call" in written and "cupti_span_us" not in written


def test_every_word_of_the_outcome_stands_in_the_vocabulary() -> None:
    page = (PROJECT_ROOT / "docs/vocabulary.md").read_text()
    for word in (
        "relative L2",
        "calc_diff",
        "leads, wins, ties",
        "outlier process",
        "performance profile",
        "speedup",
        "minimum detectable effect",
        "A/A run",
    ):
        assert f"| {word} |" in page, word
