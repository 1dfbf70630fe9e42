"""A run that fails says what failed and where its log is; one that does not fail leaves the words to its steps."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from bakeoff.failures import Wording, listen
from support.checkout import Checkout, copy_of

RUN = "results/runs/cpu"
# Snakemake says this before it reads a profile's `quiet`.
PREAMBLE = "Using workflow specific profile profiles/default for setting default command line arguments.\n"


def record(message: str, level: int = logging.ERROR, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("snakemake", level, __file__, 1, message, None, None)
    made.__dict__.update(fields)
    return made


def test_a_failed_step_is_named_with_the_end_of_its_log(finished: Checkout, tmp_path: Path) -> None:
    checkout = copy_of(finished, tmp_path / "checkout")
    (checkout.root / RUN / "gate_power.json").write_text("{}\n")
    done = checkout.snakemake(f"{RUN}/analysis.json", check=False)
    assert done.returncode == 1
    assert f"bakeoff: the step analyse failed; its log: {RUN}/logs/analyse.log\n" in done.stderr
    assert "gate_power.json: field " in done.stderr and "PYTHONPATH" not in done.stderr


def spoil_rule(checkout: Checkout, text: str) -> None:
    path = checkout.root / "workflow/rules/report.smk"
    path.write_text(path.read_text() + text)


@pytest.mark.parametrize(
    "addition, target, words",
    [
        ("", "results/nothing.html", "No rule to produce results/nothing.html"),
        ("\nrule lost:\n    output: 'results/x'\n    input: 'nowhere'\n    shell: 'true'\n", "results/x", "nowhere"),
        ("\nrule empty:\n    output: 'results/x'\n    shell: 'true'\n", "results/x", "some output files are missing"),
        (
            "\nrule one:\n    output: '{a}z'\n    shell: 'true'\nrule two:\n    output: '{b}z'\n    shell: 'true'\n",
            "xz",
            "are ambiguous for the file xz",
        ),
        ("\n1 / 0\n", "all", "division by zero"),
        ("\nrule x: input: (\n", "all", 'SyntaxError in file "'),
    ],
)
def test_what_snakemake_itself_refuses_is_said(checkout: Checkout, addition: str, target: str, words: str) -> None:
    spoil_rule(checkout, addition)
    done = checkout.snakemake(target, "--latency-wait", "0", check=False)
    assert done.returncode == 1 and words in done.stderr, done.stderr


def test_a_setting_without_a_value_is_said_before_any_file_is_read(checkout: Checkout) -> None:
    done = checkout.snakemake(config=["colour"], check=False)
    assert done.returncode == 1 and "Unparsable value: 'colour'" in done.stderr


def test_a_run_without_failures_says_nothing_itself(finished: Checkout) -> None:
    assert finished.snakemake().stderr == PREAMBLE


def test_a_dry_run_lists_the_jobs(checkout: Checkout) -> None:
    done = checkout.snakemake("-n")
    assert "Job stats" in done.stderr + done.stdout and "rule measure:" in done.stderr + done.stdout


def test_the_log_of_a_step_that_showed_it_is_not_shown_twice(tmp_path: Path) -> None:
    log = tmp_path / "measure.log"
    log.write_text("".join(f"line {number}\n" for number in range(30)))
    failed = {"event": "job_error", "rule_name": "measure", "log": [str(log)]}
    quiet = record("x", **failed, shellcmd=f"bakeoff measure 2> {log}")
    shown = record("x", **failed, shellcmd=f"bakeoff measure 2> >(tee {log} >&2)")
    assert Wording().format(shown) == f"bakeoff: the step measure failed; its log: {log}"
    said = Wording().format(quiet).splitlines()
    assert said[1:] == [f"  line {number}" for number in range(10, 30)]


def test_a_step_without_a_log_says_so(tmp_path: Path) -> None:
    failed = record("x", event="job_error", rule_name="plan", log=[str(tmp_path / "no.log")], shellcmd="true")
    assert "(the step wrote no log)" in Wording().format(failed)
    assert "its log: none" in Wording().format(record("x", event="job_error", rule_name="plan", log=[], shellcmd=None))


def test_only_failures_are_news_and_each_once() -> None:
    assert Wording().is_news(record("No rule to produce x"))
    assert not Wording().is_news(record("Building DAG of jobs...", logging.INFO))
    assert not Wording().is_news(record("Exiting because a job execution failed. Look above for error messages"))


@pytest.mark.parametrize("quiet", [[], ["host"], ["all"]])
def test_who_asks_for_snakemakes_own_words_gets_them(quiet: list[str]) -> None:
    logger, handler = logging.Logger("snakemake"), logging.NullHandler()
    handler.addFilter(own := logging.Filter("own"))
    logger.addHandler(handler)
    listen(logger, quiet, dry_run=False)
    assert handler.filters == [own]
    listen(logger, ["host", "progress", "reason", "rules"], dry_run=False)
    (only,) = handler.filters
    assert only == handler.formatter.is_news
