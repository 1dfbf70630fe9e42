"""The form of a page, whatever stands in it: one file, order, anchors, tables, words, no markup from outside."""

from __future__ import annotations

import csv
import io
import itertools
import re
from typing import get_args, get_type_hints

import pytest
from bakeoff.files import PROJECT_ROOT
from bakeoff.report import render as rendering
from bakeoff.report.index import Source, render_index
from bakeoff.report.templates import html_environment
from bakeoff.schema.analysis import Analysis
from bakeoff.schema.analysis_figures import Ranking
from bakeoff.schema.analysis_findings import PreviousFinding
from bakeoff.schema.analysis_run import Check, Fact, Status
from bakeoff.schema.base import Verdict
from bakeoff.tables import words as word_lists
from support.make import RUNS, analysed, named
from support.pages import NAMES, Page, analysis, files, widths_are_even


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


def test_captions_say_what_a_drawing_shows() -> None:
    text = " ".join(Page.of(files("2026-02-26_4way")["report.html"]).text.split())
    assert "triton_v2 keeps least of its speedup (15 %), cutedsl_v3 most (97 %)" in text
    assert "flashinfer_moe never takes more than 1.35× the time of the fastest, cutedsl_v3 up to 4.42×" in text


def test_a_page_links_home_and_to_each_of_its_rows_and_charts() -> None:
    written = rendering.render(analysis("four"), home="../index.html")["report.html"]
    page = Page.of(written)
    links = {e.attributes.get("href") for e in page.all("a")}
    ids = {e.attributes.get("id") for e in page.elements}
    rows = {f"#matrix-{w.id}" for w in analysis("four").workloads}
    assert "../index.html" in links and rows | {"#f-behind", "#f-latency"} <= links
    assert {str(link)[1:] for link in links if str(link).startswith("#")} <= ids
    assert "All runs" not in Page.of(files("four")["report.html"]).text


def test_two_solutions_with_one_label_go_by_their_names() -> None:
    a = analysis("four")
    same = [p.model_copy(update={"label": "mine"}) for p in a.participants[:2]]
    others = {"participants": [*same, *a.participants[2:]]}
    page = Page.of(rendering.render(a.model_copy(update=others))["report.html"])
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
    a = analysis("faulty").model_copy(deep=True)
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
        ("checks", get_args(get_type_hints(Check)["code"])),
        ("verdicts", tuple(Verdict)),
        ("statuses", get_args(Status)),
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


def test_twelve_solutions_on_thirty_workloads_stay_under_a_megabyte() -> None:
    many = RUNS["forty_workloads"]().workloads[:30]
    lost = {("solution_00", seq_len): ("CRASHED", "signal") for seq_len, _ in many[:9]}
    written = rendering.render(analysed(named("twelve_solutions", workloads=many, outcomes=lost)))
    assert len(written["report.html"]) < 1_000_000 and len(written["report.md"]) < 60_000
    Page.of(written["report.html"])
    rows = list(csv.reader(io.StringIO(written["tables/verdicts.csv"].decode())))
    assert len(rows) == 1 + 66 * 30 - 11 * 9
    assert "the CSV has all of them" in Page.of(written["report.html"]).text


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
