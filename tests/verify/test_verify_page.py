"""docs/numerics.md shows what was recorded."""

from __future__ import annotations

import pytest
from bakeoff.errors import InputError
from bakeoff.files import read_json
from bakeoff.schema.gates import GatePower
from bakeoff.verify import page
from bakeoff.verify.mutants import MUTANTS


def test_the_page_is_current():
    path, content = page.generated()
    assert path.read_bytes() == content, (
        "run: python -m bakeoff.verify.page (in workflow/), then commit docs/numerics.md"
    )


@pytest.mark.parametrize(("path", "cells"), [(page.POWER_NARROW, 38), (page.POWER_FULL, 19)])
def test_the_recorded_gate_power_suffices(path, cells):
    recorded = read_json(path, GatePower)
    assert recorded.honest_cells >= cells and recorded.honest_rejected_strict == 0
    assert recorded.killed_strict >= 0.95 * recorded.counted
    assert [mutant.name for mutant in recorded.mutants] == [mutant.name for mutant in MUTANTS]
    assert {mutant.name: mutant.mistake for mutant in recorded.mutants} == {
        mutant.name: mutant.mistake for mutant in MUTANTS
    }


def test_a_page_without_its_marks_is_refused(tmp_path, monkeypatch):
    broken = tmp_path / "numerics.md"
    broken.write_text(page.PAGE.read_text().replace("<!-- end power -->", ""))
    monkeypatch.setattr(page, "PAGE", broken)
    with pytest.raises(InputError, match="not exactly one <!-- power -->"):
        page.generated()


def test_a_stale_table_is_found(tmp_path, monkeypatch):
    stale = tmp_path / "numerics.md"
    stale.write_text(page.PAGE.read_text().replace("| scaled: ", "| scoled: "))
    monkeypatch.setattr(page, "PAGE", stale)
    assert page.generated()[1] == page.PAGE.read_bytes().replace(b"scoled", b"scaled")
