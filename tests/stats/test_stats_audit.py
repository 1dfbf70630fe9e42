"""The audit of the published report: what it finds, and that planted values turn its verdicts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from bakeoff.errors import InputError
from bakeoff.files import PROJECT_ROOT
from bakeoff.schema.analysis_outside import ClaimVerdict
from bakeoff.schema.claims import Claims
from bakeoff.stats.audit import audit_report
from bakeoff.stats.printed import parse

FOLDER = PROJECT_ROOT / "results/published/2026-02-26_4way"
CONFIRMED, CONTRADICTED, NOT_TESTABLE = ClaimVerdict.CONFIRMED, ClaimVerdict.CONTRADICTED, ClaimVerdict.NOT_TESTABLE
# Known errata of the report, recomputed by hand from its 76 values.
ERRATA = {
    "summary.median.flashinfer",
    "summary.median.v32",
    "summary.median.triton",
    "summary.std.triton",
    "consistency.cv.flashinfer",
    "consistency.cv.v3",
    "consistency.cv.v32",
    "consistency.cv.triton",
    "large.regardless.v3",
    "v32.wins",
    "v32.losses",
}


@pytest.fixture(scope="module")
def results() -> dict:
    return {claim.id: claim for claim in audit_report(FOLDER, FOLDER / "claims.yaml").claims}


@pytest.fixture
def document() -> dict:
    return yaml.load((FOLDER / "claims.yaml").read_text(), Loader=yaml.CSafeLoader)


def verdict_of(document: dict, changed: str, where: Path, **fields) -> ClaimVerdict:
    """The verdict of one claim after some of its fields were changed."""
    claims = [dict(claim, **fields) if claim["id"] == changed else claim for claim in document["claims"]]
    (where / "claims.yaml").write_text(yaml.dump({**document, "claims": claims}, Dumper=yaml.CSafeDumper))
    audit = audit_report(FOLDER, where / "claims.yaml")
    return next(claim.verdict for claim in audit.claims if claim.id == changed)


def test_the_known_errata_are_contradicted(results):
    assert {name for name in ERRATA if results[name].verdict == CONTRADICTED} == ERRATA


def test_eleven_figures_and_one_conclusion_contradict_the_reports_own_table(results):
    found = audit_report(FOLDER, FOLDER / "claims.yaml")
    wrong = {claim.id: claim for claim in found.claims if claim.verdict == CONTRADICTED}
    assert {name for name, claim in wrong.items() if claim.kind == "figure"} == ERRATA and len(ERRATA) == 11
    own = {name for name, claim in wrong.items() if claim.kind == "conclusion" and not claim.other_table}
    assert own == {"v32.consistent"} and found.contradicted == 12
    assert {name for name, claim in wrong.items() if claim.other_table} == {"previous.gap.unchanged"}
    assert (found.figures, found.repeated, found.contradicted_by_others) == (72, 19, 1)
    kinds = (found.confirmed, found.contradicted, found.contradicted_by_others, found.not_testable)
    assert sum(kinds) == found.figures + found.conclusions == len(found.claims) - found.repeated


def test_a_contradiction_is_severe_if_a_conclusion_falls_with_it(results):
    severe = {name: claim.changes for name, claim in results.items() if claim.changes}
    assert severe == {
        "v32.wins": ["v32.consistent"],
        "v32.losses": ["v32.consistent"],
        "v32.consistent": ["v32.consistent"],
        "previous.gap.unchanged": ["previous.gap.unchanged"],
    }


def test_a_row_with_another_offset_is_contradicted(document, tmp_path):
    printed = next(claim["printed"] for claim in document["claims"] if claim["id"] == "raw.80")
    assert printed[0] == "96"
    assert verdict_of(document, "raw.80", tmp_path, printed=["97", *printed[1:]]) == CONTRADICTED


@pytest.mark.parametrize(("printed", "low", "high"), [("~30x", 20, 40), ("~31x", 30, 32), ("30x", 29.5, 30.5)])
def test_the_zero_of_a_rounded_number_is_no_digit(printed, low, high):
    form = parse(printed)
    assert form.allows(low) and form.allows(high) and not form.allows(low - 0.1) and not form.allows(high + 0.1)


@pytest.mark.parametrize(
    "name",
    [
        *(
            f"summary.{what}.{who}"
            for what in ("mean", "min", "max", "wins")
            for who in ("flashinfer", "v3", "v32", "triton")
        ),
        "summary.median.v3",
        "summary.std.flashinfer",
        "summary.std.v3",
        "summary.std.v32",
        "large.regardless.v32",
        "v32.gain",
        "v32.averages",
        "ranking.order",
        "header.traces",
        "raw.1",
        "raw.14107.winner",
    ],
)
def test_what_is_right_is_confirmed(results, name):
    assert results[name].verdict == CONFIRMED


def test_every_untestable_claim_says_what_would_test_it(results):
    untestable = [claim for claim in results.values() if claim.verdict == NOT_TESTABLE]
    assert len(untestable) >= 15
    about_another_table = [claim.id for claim in untestable if claim.computed]
    assert all(claim.needs for claim in untestable) and about_another_table == ["previous.v32.before"]
    assert all(claim.computed and not claim.needs for claim in results.values() if claim.verdict != NOT_TESTABLE)


def test_recomputed_values_are_shown_two_digits_finer_than_printed(results):
    assert results["summary.median.flashinfer"].computed == ["31.1500x"]
    assert results["consistency.cv.triton"].computed == ["30.950%", "30.125%"]
    assert results["v32.wins"].computed == ["16/19"]
    assert results["summary.median.flashinfer"].tolerance == "0.005x"


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("summary.median.flashinfer", "31.15x", "31.16x"),
        ("summary.median.triton", "31.49x", "31.46x"),
        ("summary.std.triton", "9.13x", "9.2x"),
        ("summary.std.triton", "8.89x", "~8.7x"),
        ("consistency.cv.v3", "11.6%", "11.7%"),
        ("consistency.cv.v3", "11.3%", "11.4%"),
        ("large.regardless.v3", "9-14x", "10-14x"),
        ("large.expanded", ["~96K", "~113K"], ["~12K", "~14K"]),
        ("v32.wins", "16/19", "15/19"),
        ("v32.wins", "16/19", "16/18"),
        ("summary.mean.flashinfer", "30.37x", "30.36x"),
        ("raw.14.winner", "triton_v2", "flashinfer_moe"),
    ],
)
def test_planting_the_right_value_confirms_and_a_wrong_one_contradicts(document, tmp_path, name, right, wrong):
    assert verdict_of(document, name, tmp_path, printed=right) == CONFIRMED
    assert verdict_of(document, name, tmp_path, printed=wrong) == CONTRADICTED


def test_every_numeric_figure_flips_with_its_printed_value(document, results, tmp_path):
    """Each figure with one recomputed value: that value, printed with the same digits, is confirmed; three units off is
    not."""
    claims = Claims.model_validate(document).claims
    planted = {
        claim.id: _planted(claim.printed, results[claim.id].computed)
        for claim in claims
        if isinstance(claim.printed, str)
    }
    planted = {name: pair for name, pair in planted.items() if pair}
    assert len(planted) >= 25
    for side, verdict in ((0, CONFIRMED), (1, CONTRADICTED)):
        changed = [
            dict(claim, printed=planted[claim["id"]][side]) if claim["id"] in planted else claim
            for claim in document["claims"]
        ]
        (tmp_path / "claims.yaml").write_text(yaml.dump({**document, "claims": changed}, Dumper=yaml.CSafeDumper))
        found = {claim.id: claim.verdict for claim in audit_report(FOLDER, tmp_path / "claims.yaml").claims}
        assert {name: found[name] for name in planted} == dict.fromkeys(planted, verdict)


def _planted(printed: str, computed: list[str]) -> tuple[str, str] | None:
    form = re.fullmatch(r"[~+]*\d+(\.\d+)?(x|%|)", printed)
    if not form or not re.fullmatch(r"-?[\d.]+(x|%|)", computed[0]):
        return None
    digits, unit = len((form[1] or ".")[1:]), form[2]
    value = float(computed[0].rstrip("x%"))
    # A count of digits less than recomputed rounds to within half a unit, whatever the claim's own tolerance.
    return f"{value:.{digits}f}{unit}", f"{value + 3 * 10.0**-digits:.{digits}f}{unit}"


def test_changing_the_data_turns_a_conclusion(document, tmp_path):
    assert verdict_of(document, "v32.consistent", tmp_path) == CONTRADICTED
    assert verdict_of(document, "v32.consistent", tmp_path, expression="all(v32 > v3 - 1)") == CONFIRMED
    assert verdict_of(document, "ranking.order", tmp_path, expression="mean(triton) > mean(flashinfer)") == CONTRADICTED


def test_one_admissible_reading_is_enough(document, tmp_path):
    readings = ["[1, 2]", "[mean(feb04.v32 / feb04.v3), 4]"]
    assert verdict_of(document, "previous.v32.before", tmp_path, expression=readings) == CONFIRMED


def test_the_tolerance_cannot_be_chosen_by_the_claim(document, tmp_path):
    with pytest.raises(InputError, match="tolerance"):
        verdict_of(document, "summary.median.v32", tmp_path, tolerance=1.0)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"expression": "mean(nobody)"}, "no column nobody"),
        ({"expression": "mean(flashinfer"}, "never closed"),
        ({"expression": "at(flashinfer, 2)"}, "stands 0 times"),
        ({"expression": "__import__('os').system('true')"}, "no function"),
        ({"expression": "winner(1)"}, "is a number"),
        ({"printed": "30,37x"}, "is no figure"),
        ({"expression": None, "needs": None}, "either"),
        ({"needs": "a run"}, "either"),
        ({"printed": None}, "a figure has"),
        ({"id": "raw.1"}, "unique"),
        ({"verdict": "CONFIRMED"}, "verdict"),
    ],
)
def test_a_malformed_claim_is_an_input_error_that_names_file_and_field(document, tmp_path, fields, expected):
    with pytest.raises(InputError) as error:
        verdict_of(document, "summary.mean.flashinfer", tmp_path, **fields)
    assert expected in str(error.value) and "claims.yaml" in str(error.value)
    assert error.value.exit_code == 2


def test_names_must_be_columns_of_the_table(document, tmp_path):
    (tmp_path / "claims.yaml").write_text(
        yaml.dump({**document, "names": {"flashinfer": "flash"}}, Dumper=yaml.CSafeDumper)
    )
    with pytest.raises(InputError, match="flash"):
        audit_report(FOLDER, tmp_path / "claims.yaml")


def test_every_number_of_the_reports_tables_is_a_claim(results):
    """76 speedups, 19 offsets, 19 winners, 24 summary figures, 12 of the large-batch tables and 4 coefficients."""
    assert sum(name.startswith("raw.") and name.endswith(".winner") for name in results) == 19
    rows = [claim for name, claim in results.items() if re.fullmatch(r"(raw|large)\.\d+", name)]
    assert sum(len(claim.printed.split(", ")) for claim in rows) == 76 + 19 + 12
    assert sum(name.startswith("summary.") for name in results) == 24
    assert sum(name.startswith("consistency.cv.") for name in results) == 4
