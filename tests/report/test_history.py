"""The history of cells over runs: what the statistics support is marked, what did not move is quiet."""

from pathlib import Path

import pytest
from bakeoff.cli import main
from bakeoff.files import PROJECT_ROOT, read_json, write_atomic
from bakeoff.report.history import histories
from bakeoff.report.index import Source, render_landing
from bakeoff.report.view import RunView
from bakeoff.schema.analysis import Analysis
from bakeoff.schema.analysis_outside import CellComparison, Comparison
from bakeoff.schema.base import Estimate
from support.pages import Page

RECORDED = PROJECT_ROOT / "results/recorded"
OLD, NEW = (read_json(RECORDED / name / "analysis.json", Analysis) for name in ("2026-11-23_h200", "2026-11-23_h200_2"))


def compared(*moved: tuple[str, str, str, float]) -> Analysis:
    """The newer run, compared with the older one; moved: solution, workload, verdict, new speed over old."""
    steps = {(solution, workload): (verdict, ratio) for solution, workload, verdict, ratio in moved}
    cells = []
    for cell in NEW.cells:
        verdict, ratio = steps.get((cell.solution, cell.workload), ("SAME", 1.0))
        place = {"solution": cell.solution, "workload": cell.workload, "verdict": verdict}
        cells.append(CellComparison(**place, ratio=Estimate(value=ratio)))  # type: ignore[arg-type]
    comparison = Comparison(old=OLD.run.id, new=NEW.run.id, rule="runs", counts={}, cells=cells)
    first = NEW.participants[0].model_copy(update={"digest": "0" * 64})
    update = {"comparisons": [comparison], "participants": [first, *NEW.participants[1:]]}
    return NEW.model_copy(update=update)


def test_a_step_that_is_supported_is_marked_with_what_changed() -> None:
    name = NEW.participants[0].name
    (history,) = histories([RunView(OLD), RunView(compared((name, "T901_o96", "SLOWER", 0.95)))])
    (step,) = history.steps
    assert (step.old, step.new, step.cells) == (OLD.run.id, NEW.run.id, len(NEW.cells))
    assert step.moved == [f"{NEW.participants[0].label} T901_o96"] and "sources of cutedsl_v3" in step.changed
    rows = {(row[0][1].text, row[1][1].text): row[-1][1] for row in history.table.rows()}
    slower = rows[NEW.participants[0].label, "T901_o96"]
    assert slower.tone == "bad" and slower.note.replace("\xa0", " ") == "+5.3 % time"
    assert {(shown.tone, shown.note) for place, shown in rows.items() if shown is not slower} == {("", "")}


def test_runs_that_were_not_compared_have_no_history() -> None:
    assert histories([RunView(OLD), RunView(NEW)]) == []
    assert set(render_landing([Source(OLD, "a.json", "r.html"), Source(NEW, "b.json", "s.html")])) == {"index.html"}


def test_the_landing_page_says_that_nothing_moved_and_links_to_every_cell(tmp_path: Path) -> None:
    for run in (OLD, compared()):
        write_atomic(tmp_path / run.run.id / "analysis.json", run.model_dump_json(by_alias=True).encode())
        assert main(["report", str(tmp_path / run.run.id)]) == 0
    assert main(["index", *map(str, sorted(tmp_path.iterdir())), "--out", str(tmp_path / "index.html")]) == 0
    page = Page.of((tmp_path / "index.html").read_bytes())
    assert f"nothing moved of {len(NEW.cells)} cells; changed: sources of cutedsl_v3." in page.text
    assert "history.html" in {e.attributes.get("href") for e in page.all("a")}
    cells = Page.of((tmp_path / "history.html").read_bytes()).one("t-history_1")
    assert "T14107_o32" in cells.text and "% time" not in cells.text


@pytest.mark.parametrize("name", ["index.html", "history.html"])
def test_both_pages_are_the_same_bytes_every_time(name: str) -> None:
    sources = [Source(OLD, "a.json", "r.html"), Source(compared(), "b.json", "s.html")]
    assert render_landing(sources)[name] == render_landing(sources)[name]
