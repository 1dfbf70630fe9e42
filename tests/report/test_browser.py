"""Pages in a real browser: no accessibility fault, nothing wider than the screen, readable in light and dark, and without scripts."""

from __future__ import annotations

from pathlib import Path

import pytest
from bakeoff.report.index import Source, render_index
from report import browser
from report.pages import analysis, files

pytestmark = pytest.mark.browser

PAGES = ("2026-02-26_4way", "cpu", "faulty", "with_peer", "one_workload", "index")
WIDTHS = (360, 390, 768, 1280)


def page(name: str) -> bytes:
    if name != "index":
        return files(name)["report.html"]
    return render_index(
        [Source(analysis(n), f"{n}/analysis.json", f"{n}/report.html") for n in ("cpu", "four", "2026-02-26_4way")]
    )


OPENED = "page.querySelectorAll('details').forEach(one => one.open = true);"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_serious(name: str, dark: bool, tmp_path: Path) -> None:
    question = f"""{OPENED}
        view.eval({browser.quoted(browser.axe_source())});
        const found = await view.axe.run(page, {{resultTypes: ["violations"]}});
        return found.violations.map(v => [v.impact, v.id, v.nodes.length, v.nodes[0].html, v.nodes[0].failureSummary]);"""
    violations = browser.ask(page(name), question, tmp_path, width=1280, dark=dark)
    assert isinstance(violations, list), violations
    assert not [v for v in violations if v[0] in ("serious", "critical")], violations


@pytest.mark.parametrize("name", [*PAGES, "twelve_solutions", "forty_workloads"])
def test_no_page_is_wider_than_its_screen(name: str, tmp_path: Path) -> None:
    wide = "[...page.querySelectorAll('main *')].filter(e => !e.closest('.scroll, pre, svg') && e.getBoundingClientRect().right > view.innerWidth + 1).map(e => e.outerHTML.slice(0, 90))"
    for width in WIDTHS:
        found = browser.ask(
            page(name), f"{OPENED} return [page.documentElement.scrollWidth, {wide}.slice(0, 5)]", tmp_path, width=width
        )
        assert isinstance(found, list) and found[0] <= width and not found[1], (width, found)


def test_the_row_names_of_a_scrolled_table_stay_in_sight(tmp_path: Path) -> None:
    question = """const box = page.getElementById("t-matrix"); box.scrollLeft = 9999;
        await new Promise(done => view.requestAnimationFrame(done));
        const head = box.querySelector("tbody th").getBoundingClientRect(), edge = box.getBoundingClientRect();
        return [box.scrollLeft > 0, Math.abs(head.left - edge.left) < 3];"""
    assert browser.ask(page("four"), question, tmp_path, width=390) == [True, True]


def test_one_of_two_drawings_is_shown_by_width(tmp_path: Path) -> None:
    question = "return ['wide', 'narrow'].map(c => [...page.querySelectorAll('figure svg.' + c)].filter(e => e.getClientRects().length).length)"
    assert browser.ask(page("four"), question, tmp_path, width=1280) == [4, 0]
    assert browser.ask(page("four"), question, tmp_path, width=390) == [0, 4]


def test_the_first_screen_of_a_phone_names_the_leader(tmp_path: Path) -> None:
    question = "const lead = page.querySelector('p.lead').getBoundingClientRect(); return lead.bottom < 560"
    assert browser.ask(page("2026-02-26_4way"), question, tmp_path, width=390) is True


def test_dark_and_light_differ(tmp_path: Path) -> None:
    question = "return view.getComputedStyle(page.body).backgroundColor"
    light, dark = (browser.ask(page("cpu"), question, tmp_path, width=800, dark=dark) for dark in (False, True))
    assert (light, dark) == ("rgb(255, 255, 255)", "rgb(18, 22, 27)")
