"""What a report must say, for every kind of run."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

from bakeoff.files import PROJECT_ROOT, read_json
from bakeoff.report import render as rendering
from bakeoff.report.index import Source, render_index
from bakeoff.report.templates import html_environment
from bakeoff.report.view import RunView, marks
from bakeoff.schema.analysis import Analysis
from bakeoff.schema.base import Estimate
from bakeoff.tables import formats
from support import constructed_profile
from support.pages import Page, analysis, cells, files, table_text, widths_are_even

HERE = Path(__file__).parent


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
    a = constructed_profile.profiled_run()
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


def test_a_large_lead_is_said_as_a_factor_and_a_small_one_in_per_cent() -> None:
    words = html_environment().get_template("words.j2").module
    large = Estimate(value=6.444, low=5.918, high=7.018)
    small = Estimate(value=1.017, low=1.016, high=1.019)
    assert str(words.ahead(large)) == "6.44× as fast (95 % interval 5.92–7.02×) as"
    assert str(words.ahead(small)).replace("\xa0", " ") == "1.7 % faster (95 % interval +1.6 % to +1.9 %) than"
