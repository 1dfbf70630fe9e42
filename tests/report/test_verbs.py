"""The commands `bakeoff report` and `bakeoff index`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bakeoff.cli import main
from bakeoff.files import pretty_json
from bakeoff.report.index import Source, render_index
from bakeoff.schema.analysis import Analysis
from support.pages import Page, analysis


def folder(a: Analysis, path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "analysis.json").write_bytes(pretty_json(a.model_dump(mode="json", by_alias=True)))
    return path


def test_report_takes_a_run_folder_and_writes_beside_the_analysis(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = folder(analysis("cpu"), tmp_path / "run")
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out.strip() == str(run / "report" / "report.html")
    names = {str(p.relative_to(run / "report")) for p in (run / "report").rglob("*") if p.is_file()}
    assert {"report.html", "report.md", "tables/outcomes.csv", "tables/rerun.csv"} <= names


def test_report_takes_a_file_and_a_target_and_removes_stale_tables_only(tmp_path: Path) -> None:
    run, target = folder(analysis("cpu"), tmp_path / "run"), tmp_path / "out"
    (target / "tables").mkdir(parents=True)
    (target / "tables" / "matrix.csv").write_text("old")
    (target / "tables" / "notes.txt").write_text("mine")
    assert main(["report", str(run / "analysis.json"), "-o", str(target)]) == 0
    assert not (target / "tables" / "matrix.csv").exists() and (target / "tables" / "notes.txt").exists()


def test_an_empty_table_is_not_written(tmp_path: Path) -> None:
    run = folder(analysis("cpu"), tmp_path / "run")
    assert main(["report", str(run)]) == 0
    assert not (run / "report" / "tables" / "troubles.csv").exists()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"{", "not JSON"),
        (b'{"schema": "bakeoff/analysis/0"}', "field"),
        (b'{"schema": "bakeoff/analysis/1", "extra": 1}', "field"),
    ],
)
def test_an_unusable_analysis_is_named_and_ends_with_2(
    content: bytes, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "analysis.json"
    path.write_bytes(content)
    assert main(["report", str(path)]) == 2
    message = capsys.readouterr().err
    assert str(path) in message and complaint in message and "Traceback" not in message


def test_another_schema_version_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = folder(analysis("cpu"), tmp_path / "run")
    document = json.loads((run / "analysis.json").read_text()) | {"schema": "bakeoff/analysis/2"}
    (run / "analysis.json").write_text(json.dumps(document))
    assert main(["report", str(run)]) == 2
    said = capsys.readouterr().err
    assert "field schema" in said and "make it again" in said


def test_an_outcome_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = folder(analysis("cpu"), tmp_path / "run")
    document = json.loads((run / "analysis.json").read_text())
    document["cells"][0]["outcome"] = "MAYBE"
    (run / "analysis.json").write_text(json.dumps(document))
    assert main(["report", str(run)]) == 2
    said = capsys.readouterr().err
    assert "field cells.0.outcome" in said and "'MAYBE'" in said and "PASSED" in said


def test_a_missing_analysis_and_an_unwritable_target_end_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(tmp_path / "nowhere.json")]) == 2
    run = folder(analysis("cpu"), tmp_path / "run")
    (tmp_path / "file").write_text("in the way")
    assert main(["report", str(run), "-o", str(tmp_path / "file" / "out")]) == 2
    assert "cannot write" in capsys.readouterr().err


def test_the_index_links_every_report_by_relative_path(tmp_path: Path) -> None:
    results = tmp_path / "results"
    cpu = folder(analysis("cpu"), results / "runs" / "cpu")
    published = folder(analysis("2026-02-26_4way"), results / "rendered" / "2026-02-26_4way")
    assert main(["report", str(cpu)]) == 0 and main(["report", str(published), "-o", str(published)]) == 0
    assert main(["index", "--out", str(results / "index.html"), str(cpu), str(published / "analysis.json")]) == 0
    page = Page.of((results / "index.html").read_bytes())
    links = {(e.attributes["href"] or "").split("#")[0] for e in page.all("a")} - {""}
    assert {"runs/cpu/report/report.html", "runs/cpu/analysis.json", "rendered/2026-02-26_4way/report.html"} <= links
    assert all((results / link).is_file() for link in links), [link for link in links if not (results / link).is_file()]
    assert "76/76 PASSED. Correctness only; no performance shown." in page.text
    audit = analysis("2026-02-26_4way").audit
    assert (
        audit
        and f"{audit.confirmed} of {len(audit.claims)} claims confirmed" in page.text
        and "contradicted by its own values" in page.text
    )
    assert not page.all("script", "link", "img")


def test_the_index_wants_reports_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = folder(analysis("cpu"), tmp_path / "run")
    assert main(["index", "--out", str(tmp_path / "index.html"), str(run)]) == 2
    assert "bakeoff report" in capsys.readouterr().err and not (tmp_path / "index.html").exists()


@pytest.mark.parametrize("verb", ["report", "index"])
def test_help_names_defaults(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main([verb, "--help"])
    assert done.value.code == 0 and "default" in capsys.readouterr().out


def test_the_landing_page_begins_with_who_is_fastest_and_ends_with_how_to_run_again() -> None:
    names = ("2026-02-04_4way", "2026-02-26_4way", "four", "cpu")
    page = Page.of(render_index([Source(analysis(name), f"{name}/a.json", f"{name}/report.html") for name in names]))
    a = analysis("four")
    ranking = a.findings.ranking
    assert ranking is not None
    (pair,) = (one for one in a.pairs if {one.a, one.b} == {place.solution for place in ranking.order[:2]})
    assert pair.ratio is not None
    behind = pair.ratio if pair.a == ranking.order[0].solution else pair.ratio.inverse
    board = page.one("t-leaderboard").text
    assert f"{behind.value:.3f}×" in board and f"{behind.low:.3f}–{behind.high:.3f}" in board
    assert page.one("latency-1") and page.one("behind-1")
    assert "11 figures and 1 conclusion contradicted" in page.text
    assert "Leads of 2 % or more: at 19 of 19 workloads" in page.text
    (command,) = page.all("pre")
    assert command.text.splitlines()[-1] == "bakeoff audit results/published/2026-02-26_4way"
    cards, folded = ([e.text for e in page.all(kind)] for kind in ("h3", "li"))
    shown = [next(n for n in names if analysis(n).run.id in title) for title in cards]
    assert shown == ["four", "cpu", "2026-02-26_4way"]
    assert any("2026-02-04_4way" in line and "22.3\xa0% faster" in line for line in folded)


def test_the_landing_page_is_short() -> None:
    names = ("2026-02-04_4way", "2026-02-26_4way", "four", "cpu")
    page = Page.of(render_index([Source(analysis(name), f"{name}/a.json", f"{name}/report.html") for name in names]))
    drawn = sum(len(svg.text.split()) for svg in page.all("svg"))
    assert len(page.one("top").text.split()) - drawn <= 500
