"""Completion: what a real bash offers at TAB, from the script that `bakeoff completion bash` prints."""

import shutil
import subprocess
from pathlib import Path

import pytest
from bakeoff.cli import VERBS, main
from bakeoff.files import PROJECT_ROOT

# The words so far, the last of them still to be completed, as bash hands them over.
PRESS_TAB = 'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _shtab_bakeoff; printf "%s\\n" "${COMPREPLY[@]}"'


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "bakeoff.bash"
    with pytest.MonkeyPatch.context() as patch, path.open("w") as file:
        patch.setattr("sys.stdout", file)
        assert main(["completion", "bash"]) == 0
    return path


def offered(script: Path, *words: str, folder: Path = PROJECT_ROOT) -> set[str]:
    asked = ["bash", "--norc", "-uc", PRESS_TAB, str(script), "bakeoff", *words]
    done = subprocess.run(asked, cwd=folder, capture_output=True, text=True, check=True)
    assert not done.stderr
    return {*done.stdout.splitlines()} - {""}


def test_every_verb_is_offered_and_what_begins_like_the_word(script: Path) -> None:
    assert offered(script, "") == {"help", *VERBS}
    assert offered(script, "me") == {"measure"} and offered(script, "help", "first") == {"first-contact"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["check", "--fa"], {"--family"}),
        (["check", "any", "--backend", "sm_"], {"sm_90a", "sm_100a"}),
        (["check", "any", "--workload", "T901"], {"T901_o96"}),
        (["check", "triton_f"], {"triton_fused_moe_v2"}),
        (["time", "any", "--against", "solutions/triton_f"], {"solutions/triton_fused_moe_v2"}),
        (["verify", "results/pub"], {"results/published"}),
        (["plan", "--config", "config/config."], {"config/config.yaml"}),
        (["completion", ""], {"bash", "zsh"}),
    ],
)
def test_options_choices_names_and_paths_are_offered(words: list[str], expected: set[str], script: Path) -> None:
    assert offered(script, *words) == expected


def test_solutions_are_the_folders_that_are_there_at_tab(script: Path, tmp_path: Path) -> None:
    assert offered(script, "check", "", folder=tmp_path) == set()
    for name in ("mine", "_template", ".hidden"):
        (tmp_path / "solutions" / name).mkdir(parents=True)
    assert offered(script, "check", "", folder=tmp_path) == {"mine", "solutions"}


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_script_is_one_that_its_shell_reads(shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    path = tmp_path / "script"
    path.write_text(capsys.readouterr().out)
    assert all(f"_shtab_bakeoff_{verb.replace('-', '_')}" in path.read_text() for verb in VERBS)
    if shutil.which(shell):
        subprocess.run([shell, "-n", str(path)], check=True)
