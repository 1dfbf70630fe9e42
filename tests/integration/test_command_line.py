"""The command itself: its help, its version, and what it says of a verb or a name that is none."""

import argparse
import subprocess

import pytest
from bakeoff import __version__
from bakeoff.build.names import solution_folder, workload_id
from bakeoff.cli import GROUPS, VERBS, main
from bakeoff.errors import InputError
from bakeoff.files import PROJECT_ROOT

IDS = ("T1_o32", "T14_o0", "T14_o96", "T901_o96", "T11948_o128")


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    try:
        code = main(words)
    except SystemExit as end:
        code = int(end.code or 0)
    return code, *capsys.readouterr()


def test_help_lists_every_verb_in_its_group(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = printed(capsys, "help")
    assert code == 0 and next(iter(GROUPS)) == "write a kernel"
    assert all(f"\n  {verb} " in out for verb in VERBS) and all(f"\n{group}:" in out for group in GROUPS)


def test_help_of_a_verb_and_a_wrong_use_of_it_show_its_own_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "help", "check") == printed(capsys, "check", "--help")
    code, _, err = printed(capsys, "check", "--jso", "--no-such", "x")
    assert code == 2 and err.startswith("usage: bakeoff check") and "--workload" in err


@pytest.mark.parametrize(("word", "meant"), [("chek", "check"), ("analyzed", "analyse"), ("comapre", "compare")])
def test_a_verb_that_is_none_is_answered_with_the_nearest(
    word: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = printed(capsys, word, "x")
    assert code == 2 and f"did you mean {meant}?" in err and "found:" in err and "expected:" in err


def test_the_american_spelling_is_understood(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "analyze", "--help") == printed(capsys, "analyse", "--help")


def test_the_version_names_the_commit(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = printed(capsys, "--version")
    asked = ["git", "-C", str(PROJECT_ROOT), "rev-parse", "--short=12", "HEAD"]
    commit = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    assert code == 0 and out.startswith(f"bakeoff {__version__}") and commit in out


@pytest.mark.parametrize(
    "given", ["triton_v2", "triton_fused_moe_v2", str(PROJECT_ROOT / "solutions/triton_fused_moe_v2")]
)
def test_a_solution_goes_by_name_label_and_path(given: str) -> None:
    assert solution_folder(given, PROJECT_ROOT / "solutions").name == "triton_fused_moe_v2"


@pytest.mark.parametrize("given", ["T901_o96", "T901", "901"])
def test_a_workload_goes_by_its_tokens_where_they_are_unique(given: str) -> None:
    assert workload_id(given, IDS) == "T901_o96"
    assert workload_id("11,948", IDS) == "T11948_o128"


@pytest.mark.parametrize(("given", "said"), [("14", "T14_o0 and T14_o96"), ("910", "did you mean"), ("", "T1_o32")])
def test_a_workload_that_is_none_or_several_is_refused(given: str, said: str) -> None:
    with pytest.raises(InputError) as refused:
        workload_id(given, IDS)
    assert said in str(refused.value)


@pytest.mark.parametrize(("verb", "words"), [("check", "nothing is kept"), ("measure", "run the same command again")])
def test_an_interrupted_verb_says_what_is_kept(
    verb: str, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(args: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    module, _ = VERBS[verb]
    monkeypatch.setattr(f"{module}.{verb}", interrupted)
    assert main([verb, *{"check": ["any"], "measure": ["run", "--block", "0"]}[verb]]) == 130
    said = capsys.readouterr().err
    assert said.startswith(f"bakeoff {verb}: interrupted; ") and words in said


@pytest.mark.parametrize(
    ("words", "found", "expected", "to_do"),
    [
        (("check", "any", "--bakend", "cpu"), "--bakend cpu", "--backend", "did you mean --backend?"),
        (("measure",), "no RUN, --block", "RUN (", "see `bakeoff measure --help`"),
        (("check", "any", "--backend", "sm_80a"), "'sm_80a'", "one of auto, cpu, sm_90a", "did you mean sm_90a?"),
        (("measure", "run", "--block", "x"), "invalid int value: 'x'", "block", "see `bakeoff measure --help`"),
        (("verify", "--submission"), "nothing after it", "from a stranger", "see `bakeoff verify --help`"),
        (("generate", "all"), "all", "no more arguments", "see `bakeoff generate --help`"),
        (("help", "check", "time"), "check time", "one verb", "see `bakeoff --help`"),
        (("help", "--bogus"), "--bogus", "one verb", "see `bakeoff --help`"),
        (("assemble", "nowhere"), "no config.json", "a run's folder", "results/recorded/NAME"),
        (("audit", "nowhere"), "no meta.yaml", "a published report", "results/published/NAME"),
    ],
)
def test_a_wrong_use_is_answered_with_what_was_found_what_is_expected_and_what_to_do(
    words: tuple[str, ...], found: str, expected: str, to_do: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = printed(capsys, *words)
    *_, where, first, second, third = err.splitlines()
    assert code == 2 and where.startswith("bakeoff")
    assert first.startswith(f"  found:    {found}") and second.startswith("  expected: ") and expected in second
    assert third.startswith("  to do:    ") and to_do in third


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_answers_wrong_options_in_that_form(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--no-such-option"], ["a", "b", "c", "d", "--no-such=1"]):
        code, _, err = printed(capsys, verb, *words)
        assert code == 2 and err.startswith(f"usage: bakeoff {verb}") and "Traceback" not in err
        assert [line[:12] for line in err.splitlines()[-3:]] == ["  found:    ", "  expected: ", "  to do:    "]
