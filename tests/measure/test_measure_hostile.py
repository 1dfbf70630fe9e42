"""Every hostile solution gets its own reason, and its honest near-neighbour passes."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from bakeoff.build.spec import discover
from bakeoff.files import PROJECT_ROOT
from measure_runs import fake_device, make_run, measure, only

HOSTILE = {path.stem: path.read_text() for path in sorted((PROJECT_ROOT / "tests/hostile").glob("*.py"))}


def facts(source: str) -> dict[str, Any]:
    """EXPECTED and DEVICE of an attack, read without running it."""
    import ast

    wanted = ("EXPECTED", "DEVICE")
    found = [node for node in ast.parse(source).body if isinstance(node, ast.Assign)]
    return {node.targets[0].id: ast.literal_eval(node.value) for node in found if getattr(node.targets[0], "id", None) in wanted}


def run_all(folder: Path, device: str) -> Path:
    """One run with every attack of a device and its neighbour."""
    attacks = {}
    for name, source in HOSTILE.items():
        if facts(source)["DEVICE"] == device:
            attacks[name] = f"{source}\n\nrun_with = hostile\n"
            attacks[f"{name}_neighbour"] = f"{source}\n\nrun_with = neighbour\n"
    run = make_run(folder, dict(attacks), workloads=["T7_o192"], timeout_s=100)
    done = measure(run, env=fake_device(folder) if device == "fake" else None)
    assert done.returncode == 0, done.stderr
    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {device: run_all(tmp_path_factory.mktemp(device), device) for device in ("cpu", "fake")}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_solution_is_rejected_with_its_reason_and_its_neighbour_passes(runs: dict[str, Path], name: str) -> None:
    about = facts(HOSTILE[name])
    attack, neighbour = only(runs[about["DEVICE"]], name), only(runs[about["DEVICE"]], f"{name}_neighbour")
    assert (attack.outcome, attack.reason) == about["EXPECTED"], attack.detail
    assert attack.hint
    assert neighbour.outcome == "PASSED", neighbour


@pytest.mark.slow
def test_no_process_of_an_attack_is_left(runs: dict[str, Path]) -> None:
    del runs
    assert "sleep 4321" not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout


def test_hostile_solutions_are_never_discovered_and_there_are_at_least_twenty() -> None:
    assert len(HOSTILE) >= 20
    assert not {spec.name for spec in discover(PROJECT_ROOT / "solutions")} & set(HOSTILE)
