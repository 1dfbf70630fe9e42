"""Pages in a real browser: no accessibility fault, nothing wider than the screen, readable in light and dark, and
without scripts."""

from __future__ import annotations

from pathlib import Path

import pytest
from bakeoff.files import PROJECT_ROOT, read_json
from bakeoff.report.index import Source, render_index
from bakeoff.report.render import render
from bakeoff.schema.analysis import Analysis
from support import browser, constructed_profile
from support.pages import analysis, files

pytestmark = pytest.mark.browser

PAGES = ("2026-02-26_4way", "cpu", "faulty", "profiled", "index")
RECORDED = ("2026-11-30_h200",)
WIDTHS = (360, 390, 768, 1280)


def page(name: str) -> bytes:
    if name == "profiled":
        return render(constructed_profile.profiled_run())["report.html"]
    if name in RECORDED:
        return render(read_json(PROJECT_ROOT / f"results/recorded/{name}/analysis.json", Analysis))["report.html"]
    if name != "index":
        return files(name)["report.html"]
    return render_index(
        [Source(analysis(n), f"{n}/analysis.json", f"{n}/report.html") for n in ("cpu", "four", "2026-02-26_4way")]
    )


OPENED = "page.querySelectorAll('details').forEach(one => one.open = true);"


def violations(name: str, rules: str, folder: Path, *, dark: bool) -> list[list[object]]:
    """What axe-core finds with all details opened: impact, rule, number of places, the first place and what is wrong
    there."""
    question = f"""{OPENED}
        view.eval({browser.quoted(browser.axe_source())});
        const found = await view.axe.run(page, {{resultTypes: ["violations"]{rules}}});
        return found.violations.map(
            v => [v.impact, v.id, v.nodes.length, v.nodes[0].html, v.nodes[0].failureSummary]);"""
    found = browser.ask(page(name), question, folder, width=1280, dark=dark)
    assert isinstance(found, list), found
    return found


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_serious(name: str, tmp_path: Path) -> None:
    assert not [v for v in violations(name, "", tmp_path, dark=False) if v[0] in ("serious", "critical")]


@pytest.mark.parametrize("name", ["2026-02-26_4way", "faulty", "profiled", "index"])
def test_contrast_holds_in_the_dark(name: str, tmp_path: Path) -> None:
    assert not violations(name, ', runOnly: ["color-contrast"]', tmp_path, dark=True)


def test_axe_would_find_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoilt = page("cpu").replace(b'<html lang="en">', b"<html>").replace(b"--soft: #56606c", b"--soft: #b0b0b0")
    monkeypatch.setattr(f"{__name__}.page", lambda name: spoilt)
    assert {"html-has-lang", "color-contrast"} <= {v[1] for v in violations("cpu", "", tmp_path, dark=False)}


@pytest.mark.parametrize("name", [*PAGES, "twelve_solutions", "forty_workloads"])
def test_no_page_is_wider_than_its_screen(name: str, tmp_path: Path) -> None:
    question = f"""{OPENED}
        const beyond = e => !e.closest(".scroll, pre, svg, nav")
            && e.getBoundingClientRect().right > view.innerWidth + 1;
        const found = [];
        for (const width of {list(WIDTHS)}) {{
            await resize(width);
            const wide = [...page.querySelectorAll("main *")].filter(beyond).map(e => e.outerHTML.slice(0, 90));
            if (page.documentElement.scrollWidth > width || wide.length)
                found.push([width, page.documentElement.scrollWidth, wide.slice(0, 3)]);
        }}
        return [view.innerWidth, found];"""
    assert browser.ask(page(name), question, tmp_path, width=WIDTHS[0]) == [WIDTHS[-1], []]


@pytest.mark.parametrize("name", [*PAGES, *RECORDED])
def test_every_table_is_whole_on_a_laptop(name: str, tmp_path: Path) -> None:
    """Eight solutions and a twin, with every fold open."""
    question = f"""{OPENED}
        const cut = e => e.scrollWidth > e.clientWidth + 1;
        return [...page.querySelectorAll(".scroll")].filter(cut).map(e => [e.id, e.scrollWidth, e.clientWidth]);"""
    assert browser.ask(page(name), question, tmp_path, width=1280) == []


def test_the_row_names_of_a_scrolled_table_stay_in_sight(tmp_path: Path) -> None:
    question = """const box = page.getElementById("t-matrix"); box.scrollLeft = 9999;
        const head = box.querySelector("tbody th").getBoundingClientRect(), edge = box.getBoundingClientRect();
        return [box.scrollLeft > 0, Math.abs(head.left - edge.left) < 3];"""
    assert browser.ask(page("four"), question, tmp_path, width=390) == [True, True]


def test_one_of_two_drawings_is_shown_by_width(tmp_path: Path) -> None:
    question = """const shown = c => [...page.querySelectorAll("figure svg." + c)]
        .filter(e => e.getClientRects().length).length;
        const before = [shown("wide"), shown("narrow")];
        await resize(390);
        return [before, [shown("wide"), shown("narrow")]];"""
    assert browser.ask(page("four"), question, tmp_path, width=1280) == [[4, 0], [0, 4]]


def test_the_first_screen_of_a_phone_names_the_leader(tmp_path: Path) -> None:
    question = "const lead = page.querySelector('p.lead').getBoundingClientRect(); return lead.bottom < 560"
    assert browser.ask(page("2026-02-26_4way"), question, tmp_path, width=390) is True


def test_the_landing_page_is_three_screens_of_a_phone(tmp_path: Path) -> None:
    question = "return page.documentElement.scrollHeight"
    height = browser.ask(page("index"), question, tmp_path, width=390)
    assert isinstance(height, int) and height <= 3 * 844


def test_dark_and_light_differ(tmp_path: Path) -> None:
    question = "return view.getComputedStyle(page.body).backgroundColor"
    light, dark = (browser.ask(page("cpu"), question, tmp_path, width=800, dark=dark) for dark in (False, True))
    assert (light, dark) == ("rgb(255, 255, 255)", "rgb(18, 22, 27)")
